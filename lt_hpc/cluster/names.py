"""How the jobs of a run are known in a queue: by names that hold the run and the submission."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import Any

from lt_hpc.errors import ConfigError
from lt_hpc.run import events
from lt_hpc.store.atomic import create_json, read_sealed, sealed, write_json
from lt_hpc.store.paths import RunPaths


def run_id(paths: RunPaths) -> str:
    """A short name for this run folder that survives renaming it; a copy of it has another one, and
    leaves the jobs of the original alone.

    Raises:
        ConfigError: when its file is damaged and jobs in the queue may be known by what it was.
    """
    if not paths.run_id.exists():
        create_json(paths.run_id, _new_id())
    own = _read_id(paths)
    if own is None:
        if events.ever_queued(events.read(paths)):
            raise ConfigError(
                f"{paths.run_id}: damaged, and jobs of this run are known by it. When none is left in the "
                "queue (squeue --me; else scancel them), remove this file: the same command goes on"
            )
        write_json(paths.run_id, _new_id())
        own = _read_id(paths)
    text = f"{own}:{paths.run_id.stat().st_ino}"
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _new_id() -> dict[str, Any]:
    return sealed({"run": uuid.uuid4().hex})


def _read_id(paths: RunPaths) -> str | None:
    """None where it is damaged; earlier releases wrote the id alone."""
    try:
        value = json.loads(paths.run_id.read_text(encoding="utf-8"))
        return value if isinstance(value, str) and len(value) == 32 else str(read_sealed(paths.run_id)["run"])
    except (ValueError, KeyError):
        return None


def identity(run: str, submission: str) -> str:
    """What the names of the jobs of one submission end with."""
    return f"lt-{run}-{submission}"


def job_name(stage: str, folder: str, of: str) -> str:
    """Of jobs with an identity. Of a long name the queue shows people the start: what, then of which run."""
    return ".".join([stage, re.sub(r"[^A-Za-z0-9_-]", "_", folder)[:24], of])


def identity_in(name: str) -> str:
    """The end of a job's name; earlier releases had nothing before it."""
    return name.rpartition(".")[2]
