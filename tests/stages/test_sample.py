"""Samples are a function of the run's seed and the chunk, whoever draws them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from lt_hpc.cluster.place import Place
from lt_hpc.engines import torch_engine
from lt_hpc.engines.protocol import B, T, Work
from lt_hpc.engines.torch_engine import TorchEngine
from lt_hpc.errors import HardwareError, Interrupted
from lt_hpc.latent.layout import NUM_MARKERS
from lt_hpc.run import state
from lt_hpc.stages import prepare, sample
from lt_hpc.stages.__main__ import run_task
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from lt_hpc.store.paths import shard_folder
from tests.runs.tiny_run import TEXTS, THOUGHT, prepare_untrained, run_e_step, tasks


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


def test_prefixes_that_had_to_be_cut_are_counted(tmp_path: Path) -> None:
    context, source = 48, tmp_path / "long.jsonl"
    source.write_text("\n".join(json.dumps({"text": " ".join(TEXTS[:n]), "thought": ""}) for n in (1, 3)))
    steps = [f"{section}.batch_tokens={4 * context}" for section in ("train", "warm_start")]
    more = [f"model.context_length={context}", "chunking.max_chunk_tokens=16", f"corpus.source={source}"]
    task = run_e_step(tmp_path, *more, *steps)
    documents = [row["chunk_lengths"] for row in rows(task.paths.documents("corpus"))]
    room = context - NUM_MARKERS - THOUGHT
    cut = sum(
        sum(lengths[max(0, j - 3) : j]) > max(0, room - lengths[j])
        for lengths in documents
        for j in range(len(lengths))
    )
    shards = [manifest.read(shard_folder(task.paths.samples(1), shard)) for shard in range(2)]
    assert sum(shard.counts["cut_prefixes"] for shard in shards if shard) == cut > 0


class SeveralAtOnce(TorchEngine):
    """Takes two blocks at a time and gives the later one first; once it is to stop, the other is given up."""

    def complete(
        self, blocks: Iterable[tuple[B, Sequence[Work[T]]]], stopping: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[B, list[T]]]:
        source = iter(blocks)
        while pair := list(islice(source, 2)):
            for one in reversed(pair):
                yield from super().complete([one])
                if stopping():
                    return


@pytest.mark.parametrize("stop_after", [1, -1])
def test_blocks_may_be_committed_in_any_order_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one = run_e_step(tmp_path / "one").paths.samples(1)
    monkeypatch.setattr(torch_engine, "TorchEngine", SeveralAtOnce)
    task = tasks(tmp_path / "other")
    prepare_untrained(task)
    other = task("sample-01").paths.samples(1)

    def parts() -> int:
        return len(list(other.rglob("*.parquet")))

    total = len(list(one.rglob("*.parquet")))
    stop_after %= total
    with pytest.raises(Interrupted):
        sample.run(task("sample-01", lambda: parts() >= stop_after))
    assert parts() == stop_after
    sample.run(task("sample-01"))
    assert rows(one) == rows(other)
    for shard in range(2):
        records = [manifest.read(shard_folder(folder, shard)) for folder in (one, other)]
        assert all(record is not None and record.complete for record in records)


@pytest.mark.parametrize(("asked", "code"), [(True, Interrupted.exit_code), (False, HardwareError.exit_code)])
def test_a_stop_that_reaches_what_a_task_needs_before_it_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool, code: int
) -> None:
    def lose(_: Task) -> None:
        raise HardwareError("its workers ended")

    task = tasks(tmp_path)("prepare")
    state.pin_plan(task.paths, task.plan)
    monkeypatch.setattr(prepare, "run", lose)
    supervisor: Any = SimpleNamespace(stop_requested=lambda: asked, began=0.0)
    ending = run_task(supervisor, Place(), [str(task.paths.root), task.plan.fingerprint, "prepare"])
    assert ending.code == code and "its workers ended" in ending.cause
