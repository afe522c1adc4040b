"""Samples are a function of the run's seed and the chunk, whoever draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.stages.tiny_run import run_e_step


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row of every part, in the order of the parts' names."""
    paths = sorted(folder.rglob("*.parquet"), key=lambda path: path.name)
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_the_samples_do_not_depend_on_the_shards(tmp_path: Path) -> None:
    folders = []
    for num_shards in (1, 2):
        folder = tmp_path / str(num_shards)
        folder.mkdir()
        folders.append(run_e_step(folder, f"sample.num_shards={num_shards}").paths.iteration(1))
    one, other = folders
    assert len(list((one / "samples").glob("shard-*"))) < len(list((other / "samples").glob("shard-*")))
    assert rows(one / "samples") == rows(other / "samples")
    assert rows(one / "selected") == rows(other / "selected")


def test_another_seed_draws_other_thoughts(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one = run_e_step(tmp_path / "one").paths.samples(1)
    other = run_e_step(tmp_path / "other", "seed=1").paths.samples(1)
    assert [row["thoughts"] for row in rows(one)] != [row["thoughts"] for row in rows(other)]
