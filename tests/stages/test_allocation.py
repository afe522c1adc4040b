"""Thoughts that chunks get by the ESS of the iteration before: which, how many, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lt_hpc.errors import IncompleteError
from lt_hpc.latent import weights
from lt_hpc.latent.allocation import allocate
from lt_hpc.stages import merge, sample
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths
from tests.runs.tiny_run import SAMPLES, prepare_untrained, put_untrained, tasks


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row of every part, in the order of the parts' names."""
    paths = sorted(folder.rglob("*.parquet"), key=lambda path: path.name)
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def second_e_step(folder: Path, *more: str) -> Task:
    """Two E-steps of an untrained model; returns the task of the second sampling, which is done."""
    folder.mkdir()
    task = tasks(folder, *more, iterations=2)
    prepare_untrained(task)
    put_untrained(task, 1)
    for stage, number in ((sample, 1), (merge, 1), (sample, 2), (merge, 2)):
        stage.run(task(f"{stage.__name__.rpartition('.')[2]}-{number:02d}"))
    done: Task = task("sample-02")
    return done


ESS = "sample.allocation=ess"


@pytest.fixture(scope="module")
def allocated(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    return second_e_step(tmp_path_factory.mktemp("runs") / "ess", ESS).paths


def test_the_second_iteration_allocates_by_the_ess_of_the_first(allocated: RunPaths) -> None:
    first, second = rows(allocated.samples(1)), rows(allocated.samples(2))
    assert {len(row["thoughts"]) for row in first} == {SAMPLES}, "nothing is known yet"
    ess = np.array([row["ess"] for row in rows(allocated.selected(1))])
    expected = allocate(ess, np.full(len(ess), SAMPLES), SAMPLES)
    assert [len(row["thoughts"]) for row in second] == expected.tolist()
    assert len(set(expected)) > 1
    assert sum(len(row["thoughts"]) for row in second) == SAMPLES * len(second)
    assert all(len({len(v) for v in row.values() if isinstance(v, list)}) == 1 for row in second)


def test_the_allocation_does_not_depend_on_the_shards(allocated: RunPaths, tmp_path: Path) -> None:
    other = second_e_step(tmp_path / "one", ESS, "sample.num_shards=1").paths
    assert rows(other.samples(2)) == rows(allocated.samples(2))
    assert rows(other.selected(2)) == rows(allocated.selected(2))


def test_a_thought_is_that_of_its_chunk_and_its_place_however_many_there_are(
    allocated: RunPaths, tmp_path: Path
) -> None:
    uniform = second_e_step(tmp_path / "uniform").paths
    for one, other in zip(rows(allocated.samples(2)), rows(uniform.samples(2)), strict=True):
        shared = min(len(one["thoughts"]), len(other["thoughts"]))
        assert one["thoughts"][:shared] == other["thoughts"][:shared]


def test_what_is_selected_is_of_the_chunk_and_its_figures_are_of_its_own_number(allocated: RunPaths) -> None:
    for drawn, chosen in zip(rows(allocated.samples(2)), rows(allocated.selected(2)), strict=True):
        assert chosen["chunk"] == drawn["chunk"]
        assert len(chosen["log_weights"]) == len(drawn["thoughts"])
        assert 1 <= chosen["ess"] <= len(drawn["thoughts"])
        (k,), (thought,) = chosen["samples"], chosen["thoughts"]
        assert k == -1 or drawn["thoughts"][k][:-1] == thought
    record = manifest.read(allocated.selected(2))
    assert record is not None
    counts = [len(row["thoughts"]) for row in rows(allocated.samples(2))]
    found = record.statistics
    assert (found["fewest_samples"], found["most_samples"]) == (min(counts), max(counts))
    assert found["num_samples"] == SAMPLES
    bounds = [
        np.logaddexp.reduce(row["log_weights"]) - np.log(len(row["log_weights"]))
        for row in rows(allocated.selected(2))
    ]
    assert found["train_bound_nats_per_chunk"] == pytest.approx(np.mean(bounds))


def test_some_of_each_chunks_thoughts_come_from_the_prior(tmp_path: Path) -> None:
    paths = second_e_step(tmp_path / "mixed", ESS, "sample.prior_share=0.5").paths
    counts, compared = set(), 0
    for row in rows(paths.samples(2)):
        count = len(row["thoughts"])
        counts.add(count)
        ended = ~np.array(row["cut"])  # of these all tokens were drawn
        log_q, log_p, found = (np.array(row[name])[ended] for name in ("log_q", "log_prior", "log_proposal"))
        expected = weights.log_mixture(log_q, log_p, (count // 2) / count)
        assert found == pytest.approx(expected)
        compared += len(found)
    assert len(counts) > 1 and compared > 0


def test_a_damaged_selection_allocates_nothing(tmp_path: Path) -> None:
    task = second_e_step(tmp_path / "run", ESS)
    (part, *_) = sorted(task.paths.selected(1).glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    for path in task.paths.samples(2).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(IncompleteError, match="does not match its checksum"):
        sample.run(task)
