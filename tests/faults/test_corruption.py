"""A shard that goes bad on disk is noticed by the merge, sampled again, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.runs.small_run import events, finish, launch, outputs


def test_a_corrupt_block_is_sampled_again(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for folder in ("selected", "model", "eval"):
        shutil.rmtree(run / "iter-01" / folder)
    part = sorted((run / "iter-01" / "samples" / "shard-00001").glob("part-*.parquet"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0xFF
    part.write_bytes(data)
    others = {path: path.stat().st_mtime_ns for path in run.glob("iter-01/samples/*/part-*") if path != part}
    assert len(others) > 2
    before = len(events(run))
    finish(launch(run))
    assert outputs(run) == outputs(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in others} == others, "blocks that were good"
    started = [e["task"] for e in events(run)[before:] if e["event"] == "started"]
    assert started[0] == "merge-01.0", started
    assert "sample-01.0" in started and "train-00.0" not in started


@pytest.mark.slow
def test_a_corrupt_block_of_an_evaluation_in_shards_is_measured_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    finish(launch(run, "evaluate.num_shards=3"))
    assert not (run / "iter-01" / "measured").exists(), "it is done"
    shutil.rmtree(run / "iter-01" / "eval")
    finish(launch(run, "evaluate.num_shards=3"))
    parts = sorted((run / "iter-01" / "measured").glob("*/part-*.parquet"))
    data = bytearray(parts[1].read_bytes())
    data[len(data) // 2] ^= 0xFF
    parts[1].write_bytes(data)
    made = {path: path.stat().st_mtime_ns for path in parts if path != parts[1]}
    shutil.rmtree(run / "iter-01" / "eval")
    before = len(events(run))
    finish(launch(run, "evaluate.num_shards=3"))
    assert len(made) > 1 and {path: path.stat().st_mtime_ns for path in made} == made
    started = [e["task"] for e in events(run)[before:] if e["event"] == "started"]
    assert started == ["aggregate-01.0", "measure-01.0", "aggregate-01.0"]
    shutil.rmtree(run / "iter-01" / "measured")
    assert outputs(run) == outputs(undisturbed)


def test_other_settings_redo_what_depends_on_them_and_keep_the_old(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = len(events(run))
    finish(launch(run, "merge.method=argmax"))
    started = {str(e["task"]).split(".")[0] for e in events(run)[before:] if e["event"] == "started"}
    assert started == {"merge-01", "train-01", "evaluate-01"}
    assert len(list((run / "superseded").iterdir())) == 3


@pytest.mark.slow
def test_other_documents_are_prepared_before_they_are_sampled_and_the_warm_start_stays(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = len(events(run))
    finish(launch(run, "corpus.num_documents=52", "heldout.num_documents=8"))
    started = {str(e["task"]).split(".")[0] for e in events(run)[before:] if e["event"] == "started"}
    assert started == {"prepare", "sample-01", "merge-01", "train-01", "evaluate-00", "evaluate-01"}
    selected = [pq.read_table(path).num_rows for path in run.glob("iter-01/selected/*.parquet")]
    assert sum(selected) == 52
