"""Thoughts of earlier iterations beside the new ones: which are taken, what they weigh, that nothing else
depends on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from lt_hpc.errors import IncompleteError
from lt_hpc.latent import weights
from lt_hpc.stages import merge, sample
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from lt_hpc.store.paths import RunPaths
from tests.runs.tiny_run import SAMPLES, prepare_untrained, put_untrained, tasks


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row of every part, in the order of the parts' names."""
    paths = sorted(folder.rglob("*.parquet"), key=lambda path: path.name)
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def sharpen(model: Path) -> None:
    """Another model: surer of what it says."""
    (file,) = model.glob("*.safetensors")
    tensors = load_file(file)
    save_file({name: 1.3 * tensor for name, tensor in tensors.items()}, file, {"format": "pt"})


def e_steps(folder: Path, count: int, *more: str) -> Task:
    """So many E-steps, each of another model; the task of the last sampling, which is done."""
    folder.mkdir()
    task = tasks(folder, *more, iterations=count)
    prepare_untrained(task)
    for number in range(1, count + 1):
        if number > 1:
            put_untrained(task, number - 1, lambda model, n=number: [sharpen(model) for _ in range(n - 1)])
        sample.run(task(f"sample-{number:02d}"))
        merge.run(task(f"merge-{number:02d}"))
    done: Task = task(f"sample-{count:02d}")
    return done


REUSE = ("sample.reuse=1", "sample.num_samples=4")


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    return e_steps(tmp_path_factory.mktemp("runs") / "reuse", 3, *REUSE).paths


def test_each_chunk_has_its_new_thoughts_and_those_of_the_iteration_before(reused: RunPaths) -> None:
    first, second, third = (rows(reused.samples(n)) for n in (1, 2, 3))
    assert "drawn" not in first[0] and {len(row["thoughts"]) for row in first} == {SAMPLES}
    for before, row, number in (*((a, b, 2) for a, b in zip(first, second, strict=True)),
                                *((a, b, 3) for a, b in zip(second, third, strict=True))):  # fmt: skip
        assert row["drawn"] == [number] * SAMPLES + [number - 1] * SAMPLES
        assert row["thoughts"][SAMPLES:] == before["thoughts"][:SAMPLES]
        assert row["cut"][SAMPLES:] == before["cut"][:SAMPLES]


def test_thoughts_are_weighed_by_the_mixture_of_the_models_that_drew_them(reused: RunPaths) -> None:
    """The density of the model before is known where it drew a thought itself."""
    for before, row in zip(rows(reused.samples(1)), rows(reused.samples(2)), strict=True):
        old = slice(SAMPLES, None)
        both = np.stack([row["log_q"][old], before["log_q"]])
        expected = weights.log_balance(both, np.array([SAMPLES, SAMPLES]))
        np.testing.assert_allclose(row["log_proposal"][old], expected, rtol=1e-6)
        assert (np.array(row["log_proposal"]) >= np.array(row["log_q"]) - np.log(2) - 1e-9).all()
    merged = rows(reused.selected(2))
    assert any(row["samples"][0] >= SAMPLES for row in merged), "an old thought may be selected"
    record = manifest.read(reused.selected(2))
    assert record is not None and record.statistics["num_samples"] == 2 * SAMPLES


def test_new_thoughts_are_those_of_a_run_without_reuse(reused: RunPaths, tmp_path: Path) -> None:
    alone = e_steps(tmp_path / "alone", 2, "sample.num_samples=4").paths
    for one, row in zip(rows(alone.samples(2)), rows(reused.samples(2)), strict=True):
        for name in ("thoughts", "cut", "log_q", "log_prior", "log_likelihood"):
            assert row[name][:SAMPLES] == one[name]
    assert rows(alone.samples(1)) == rows(reused.samples(1))


def test_the_pool_does_not_depend_on_the_shards_and_may_be_allocated(tmp_path: Path) -> None:
    more = ("sample.reuse=2", "sample.allocation=ess", "sample.num_samples=4")
    found = []
    for shards in (1, 2):
        paths = e_steps(tmp_path / str(shards), 3, *more, f"sample.num_shards={shards}").paths
        found.append([rows(folder) for n in (2, 3) for folder in (paths.samples(n), paths.selected(n))])
    assert found[0] == found[1]
    third = found[0][2]
    assert sum(len(row["thoughts"]) for row in third) == 3 * SAMPLES * len(third)
    assert {n for row in third for n in row["drawn"]} == {1, 2, 3}


def test_damaged_thoughts_are_not_taken_up_again(tmp_path: Path) -> None:
    task = e_steps(tmp_path / "run", 2, *REUSE)
    (part, *_) = sorted(task.paths.samples(1).rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    for path in task.paths.samples(2).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(IncompleteError, match="does not match its checksum"):
        sample.run(task)
