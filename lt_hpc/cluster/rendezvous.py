"""How the ranks of one training attempt find each other.

Rank 0 binds a port that the kernel chooses and writes its address into the run folder
under the attempt's name; the others read it. A port is never a constant or a hash, and
an address of an earlier attempt is never read.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lt_hpc.cluster.place import Place
from lt_hpc.errors import StageError
from lt_hpc.store.atomic import write_json

if TYPE_CHECKING:
    from torch.distributed import TCPStore

TIMEOUT_SECONDS = 300
LOOPBACK = "127.0.0.1"


def store(folder: Path, place: Place) -> TCPStore:
    """The TCP store that the ranks of a training attempt share. Every rank calls it.

    Rank 0 listens and writes FOLDER/rendezvous-ATTEMPT.json (`host`, `port`); the others wait for that
    file for at most TIMEOUT_SECONDS and connect, so `folder` must be visible to all of them. Sets
    MASTER_ADDR and MASTER_PORT in this process, which DeepSpeed reads.

    Raises:
        StageError: when rank 0's address does not appear in time.
    """
    from torch.distributed import TCPStore

    timeout = datetime.timedelta(seconds=TIMEOUT_SECONDS)
    path = folder / f"rendezvous-{place.attempt}.json"
    if place.rank == 0:
        host = place.host or LOOPBACK
        shared = TCPStore(host, 0, place.count, True, timeout=timeout, wait_for_workers=False)
        write_json(path, {"host": host, "port": shared.port})
    else:
        address = _wait_for(path)
        host = str(address["host"])
        shared = TCPStore(host, int(address["port"]), place.count, False, timeout=timeout)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = host, str(shared.port)
    return shared


def _wait_for(path: Path) -> dict[str, str | int]:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            return dict(json.loads(path.read_text()))
        except FileNotFoundError:
            os.listdir(path.parent)  # makes a network file system look again
            time.sleep(0.1)
    raise StageError(
        f"rendezvous: rank 0 did not write {path} within {TIMEOUT_SECONDS} s: it has not started, or this "
        "node does not see the run folder"
    )
