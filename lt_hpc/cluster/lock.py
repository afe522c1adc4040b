"""One launcher at a time on a run folder. The kernel frees the lock when its holder dies, also on
NFS (and on Lustre mounted with flock), so that no crash leaves it behind."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lt_hpc.errors import ConfigError
from lt_hpc.store.paths import RunPaths

POLL_SECONDS = 0.2


@contextmanager
def hold(paths: RunPaths, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the run folder, waiting at most `wait_seconds` for another holder.

    Raises:
        ConfigError: naming who holds it.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with paths.lock.open("a+") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise ConfigError(
                        f"--run-dir {paths.root}: its file system has no flock ({error.strerror}); a run "
                        "needs one that has (NFS; Lustre mounted with the option flock)"
                    ) from error
                if time.monotonic() >= deadline:
                    stream.seek(0)
                    holder = stream.read().strip() or "holder unknown"
                    message = f"--run-dir {paths.root}: another launch is running ({holder})"
                    raise ConfigError(message) from error
                time.sleep(POLL_SECONDS)
        stream.truncate(0)
        stream.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
        stream.flush()
        yield
