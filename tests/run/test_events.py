"""The lines of jobs.jsonl, read as a whole or by kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.run import events
from lt_hpc.run.events import Claim, Ended, Event, Launch, Submit
from lt_hpc.store.paths import RunPaths


@pytest.mark.parametrize("kind", [Claim, Ended, Launch, Submit])
def test_one_kind_is_what_all_have_of_it(tmp_path: Path, kind: type[Event]) -> None:
    paths = RunPaths(tmp_path)
    events.record(paths, Launch(plan="submit"))
    events.record(paths, Submit(submission="1", stage="sample-01", fingerprint="f", plan="p", shards=[[0]]))
    events.record(paths, Ended(stage="sample-01", code=1, cause='said "submit" and "ended"'))
    with paths.jobs.open("a") as file:
        file.write(
            '{"submission":"2","event":"submit","stage":"a","fingerprint":"f","plan":"p","shards":[]}\n'
        )
        file.write('{"event": "submit", "submission": "3", cut o')
    found = events.of_kind(paths, kind)
    assert found == [one for one in events.read(paths) if isinstance(one, kind)]
    assert len(found) == {Claim: 0, Ended: 1, Launch: 1, Submit: 2}[kind]
