"""A shard that goes bad on disk is noticed by the merge, sampled again, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.faults.small_run import events, finish, launch, outputs


def test_a_corrupt_block_is_sampled_again(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for folder in ("selected", "model", "eval"):
        shutil.rmtree(run / "iter-01" / folder)
    part = sorted((run / "iter-01" / "samples" / "shard-00001").glob("part-*.parquet"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF
    part.write_bytes(data)
    before = len(events(run))
    finish(launch(run))
    assert outputs(run) == outputs(undisturbed)
    started = [e["task"] for e in events(run)[before:] if e["event"] == "started"]
    assert started[0] == "merge-01.0", started
    assert "sample-01.0" in started and "train-00.0" not in started


def test_other_settings_redo_what_depends_on_them_and_keep_the_old(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = len(events(run))
    finish(launch(run, "merge.method=argmax"))
    started = {str(e["task"]).split(".")[0] for e in events(run)[before:] if e["event"] == "started"}
    assert started == {"merge-01", "train-01", "evaluate-01"}
    assert len(list((run / "superseded").iterdir())) == 3
