"""A corpus that an array tokenises comes out as if one task had, and costs no part twice."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.errors import ConfigError, IncompleteError, Interrupted
from lt_hpc.latent.slices import Share
from lt_hpc.run import state
from lt_hpc.stages import documents, gather, prepare, tokenise, tokenised
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from lt_hpc.store.manifest import NAME
from tests.runs.tiny_run import TEXTS, tasks

SHARDS = 3


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five parts of the 24 documents below, of some row groups each."""
    monkeypatch.setattr(documents, "PART_DOCUMENTS", 5)
    monkeypatch.setattr(documents, "ROW_GROUP_TOKENS", 20)
    monkeypatch.setattr(tokenised, "GROUP_CHARACTERS", 100)
    yield


def source(folder: Path, kind: str) -> str:
    dropped = {0, 7, *range(10, 15)}  # the third part as a whole
    rows = [
        {"text": " " if number in dropped else text, "thought": None} for number, text in enumerate(TEXTS * 3)
    ]
    path = folder / f"many.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return f"corpus.source={path}"


def written(task: Task) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in task.output.glob("*.parquet")}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("jsonl", ()),
        ("parquet", ("corpus.slices=1-2 of 3", "corpus.offset=1")),
        ("parquet", ("corpus.fresh=true", "corpus.num_documents=12")),
    ],
)
def test_shards_give_the_bytes_and_the_counts_of_one_task(
    tmp_path: Path, kind: str, more: tuple[str, ...]
) -> None:
    fresh = "corpus.fresh=true" in more
    number = "01" if fresh else "00"
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    make = tasks(tmp_path / "one", source(tmp_path, kind), *more)
    prepare.run(make("prepare"))
    one = make("prepare-01" if fresh else "prepare")
    if fresh:
        prepare.run(one)
    one_folder = one.paths.documents("corpus", 1 if fresh else None)
    make = tasks(tmp_path / "many", source(tmp_path, kind), f"prepare.num_shards={SHARDS}", *more)
    prepare.run(make("prepare"))
    for shards in ((2,), (0, 1)):
        tokenise.run(dataclasses.replace(make(f"tokenise-{number}"), shards=shards))
    many = make(f"gather-{number}")
    gather.run(many)
    assert len(written(many)) > 1
    assert written(many) == {path.name: path.read_bytes() for path in one_folder.glob("*.parquet")}
    found = [manifest.read(folder) for folder in (one_folder, many.output)]
    assert found[0] and found[1] and found[0].counts == found[1].counts
    assert found[0].fingerprint == found[1].fingerprint
    assert state.problem(many.paths, many.stage) is None


def test_a_stop_and_a_lost_part_cost_no_other_part(tmp_path: Path) -> None:
    make = tasks(tmp_path, source(tmp_path, "jsonl"), f"prepare.num_shards={SHARDS}")
    prepare.run(make("prepare"))
    output = make("tokenise-00").output
    stopped = make("tokenise-00", lambda: any(output.rglob("documents-*.parquet")))
    with pytest.raises(Interrupted):
        tokenise.run(dataclasses.replace(stopped, shards=(0,)))
    (kept,) = stopped.output.rglob("documents-*.parquet")
    before = kept.stat().st_mtime_ns
    with pytest.raises(IncompleteError, match=r"shards 0, 1, 2 are not done"):
        gather.run(make("gather-00"))
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0, 1, 2)))
    assert kept.stat().st_mtime_ns == before
    (damaged,) = stopped.output.rglob("documents-00002.parquet")
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    with pytest.raises(IncompleteError, match=r"shards 2 are not done"):
        gather.run(make("gather-00"))
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0, 1, 2)))
    assert kept.stat().st_mtime_ns == before
    gather.run(make("gather-00"))
    assert state.problem(stopped.paths, make("gather-00").stage) is None


def test_the_number_of_shards_is_that_of_the_first_start(tmp_path: Path) -> None:
    make = tasks(tmp_path, source(tmp_path, "jsonl"), "prepare.num_shards=2")
    prepare.run(make("prepare"))
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0,)))
    made = {path: path.stat().st_mtime_ns for path in make("tokenise-00").output.rglob("*.parquet")}
    make = tasks(tmp_path, source(tmp_path, "jsonl"), "prepare.num_shards=4")
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0, 1, 2, 3)))
    gather.run(make("gather-00"))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    # Where it is lost, shards of another number are made again.
    (make("tokenise-00").output / "shards.json").unlink()
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0, 1, 2, 3)))
    (make("gather-00").output / NAME).unlink()
    gather.run(make("gather-00"))
    assert state.problem(make("gather-00").paths, make("gather-00").stage) is None


def test_a_source_that_changed_between_tasks_is_refused(tmp_path: Path) -> None:
    make = tasks(tmp_path, source(tmp_path, "jsonl"), f"prepare.num_shards={SHARDS}")
    prepare.run(make("prepare"))
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0, 1, 2)))
    with (tmp_path / "many.jsonl").open("a") as stream:
        stream.write('\n{"text": "One more."}')
    with pytest.raises(ConfigError, match=r"corpus\.source=.* has changed since the launch"):
        gather.run(make("gather-00"))


def test_tasks_that_were_given_different_documents_by_the_hub_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    make = tasks(tmp_path, "corpus.source=owner/name", f"prepare.num_shards={SHARDS}")
    prepare.run(make("prepare"))
    for shard, copies in enumerate((3, 1, 3)):
        rows = datasets.Dataset.from_list([{"text": text, "thought": None} for text in TEXTS * copies])
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, rows=rows, **__: rows.to_iterable_dataset())
        tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(shard,)))
    with pytest.raises(ConfigError, match=r"corpus\.source='owner/name': tasks read different documents"):
        gather.run(make("gather-00"))


@pytest.mark.parametrize("limit", [0.35, 0.3])
def test_what_may_be_dropped_is_judged_as_by_one_task(tmp_path: Path, limit: float) -> None:
    """Of the last part alone, four of four; of all, eight of 24."""
    rows = [
        {"text": " " if number > 19 or number % 5 == 1 else text} for number, text in enumerate(TEXTS * 3)
    ]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [
        f"corpus.source={tmp_path}/many.jsonl",
        "corpus.thought_column=null",
        f"corpus.max_dropped={limit}",
    ]
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    one = tasks(tmp_path / "one", *words)("prepare")
    make = tasks(tmp_path / "many", *words, "prepare.num_shards=5")
    prepare.run(make("prepare"))
    tokenise.run(dataclasses.replace(make("tokenise-00"), shards=(0, 1, 2, 3, 4)))
    if limit > 8 / 24:
        prepare.run(one)
        gather.run(make("gather-00"))
        return
    for run, task in ((prepare.run, one), (gather.run, make("gather-00"))):
        with pytest.raises(
            ConfigError, match=r"corpus\.max_dropped=0\.3: 33\.3% of 24 documents .* are dropped"
        ):
            run(task)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 60))
def test_every_document_is_in_one_share(of: int, size: int, total: int) -> None:
    shares = [Share(number, of, size) for number in range(of)]
    found = [[index for index in range(total) if share.has(index)] for share in shares]
    assert sorted(itertools.chain.from_iterable(found)) == list(range(total))
    assert [share.count(total) for share in shares] == [len(one) for one in found]
