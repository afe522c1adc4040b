"""Thoughts read back from a finished run, over the iterations, and what is said of their drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from lt_hpc.report import thoughts
from lt_hpc.report.collect import collect
from lt_hpc.report.thoughts import Seen, Selected, drifts, moved, passages
from lt_hpc.report.warnings import warnings
from lt_hpc.run.state import last_plan
from lt_hpc.store.paths import RunPaths


def test_chunks_are_those_of_the_documents_with_the_thoughts_that_were_selected(paths: RunPaths) -> None:
    (found,) = thoughts.read(last_plan(paths), paths)
    files = sorted(paths.selected(1).glob("*.parquet"))
    selected = {row["chunk"]: row for file in files for row in pq.read_table(file).to_pylist()}
    documents = pq.read_table(paths.documents("corpus") / "documents-00000.parquet").to_pylist()
    texts = {row["first_chunk"]: row for row in documents}
    assert (found.number, found.problem, len(found.seen)) == (1, None, len(selected))
    for one in found.seen:
        row, text = selected[one.chunk], texts[one.chunk]
        assert one.thoughts == [z for z, k in zip(row["thoughts"], row["samples"], strict=True) if k >= 0]
        assert (one.ess, one.suffix, one.prefix) == (row["ess"], text["tokens"], text["context"])


def test_only_some_chunks_of_a_large_corpus_are_read(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thoughts, "CHUNKS", 4)
    monkeypatch.setattr(thoughts, "FILES", 2)
    (found,) = thoughts.read(last_plan(paths), paths)
    chunks = [one.chunk for one in found.seen]
    assert chunks[:2] == [0, 1] and len(chunks) == 4 and chunks[3] == chunks[2] + 1 > 3


@pytest.mark.parametrize("damage", [b"", b"PAR1 no table PAR1", bytes(range(256)) * 9])
def test_a_damaged_file_is_told_and_the_rest_of_the_report_stands(paths: RunPaths, damage: bytes) -> None:
    (paths.documents("corpus") / "documents-00000.parquet").write_bytes(damage)
    report = collect(last_plan(paths), paths)
    (line,) = report.problems
    assert line.startswith("thoughts of iter-01/selected: ")
    assert (report.drift, report.passages, len(report.iterations)) == ([], [], 2)


def test_an_evaluation_that_does_not_match_its_checksum_is_told(paths: RunPaths) -> None:
    part = next(paths.evaluation(1).glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    report = collect(last_plan(paths), paths)
    assert report.problems == [f"{part} does not match its checksum"]


def selected(number: int, data: str, of_chunks: Sequence[list[int]], ess: float = 2.0) -> Selected:
    """One document a chunk; x is always the same."""
    seen = [Seen(n, n, [9], [1, 2, 3, 4, 5], [z], [1.0], ess) for n, z in enumerate(of_chunks)]
    return Selected(number, data, seen)


def test_thoughts_that_come_to_copy_their_chunk_are_warned_of() -> None:
    fresh = [[10 + n, 20, 30, 40, 50 + n] for n in range(30)]
    copies = [[1, 2, 3, 4, 5]] * 15 + fresh[:15]
    rows = drifts([selected(1, "d", fresh), selected(2, "d", fresh), selected(3, "d", copies)])
    assert [row.values["copied"] for row in rows] == [0.0, 0.0, 0.5]
    assert [name for name, _, _ in moved(rows)] == ["copied"]
    (line,) = warnings([], drift=rows)
    assert (
        line.startswith("iteration 3: x copied is 0.500 [0.3") and "in iteration 1 0.000 [0.000, 0." in line
    )
    assert warnings([], drift=rows[:2]) == [] == warnings([], drift=rows[2:])


def test_longer_thoughts_and_another_ess_are_warned_of() -> None:
    short = [[n, n + 1] for n in range(10, 30)]
    long = [[*z, 7, 8] for z in short[:-1]] + [[7, 8, 9]]
    rows = drifts([selected(1, "d", short), selected(2, "d", long, ess=4.0)])
    steady = [replace(row, intervals={**row.intervals, "tokens": None, "ess": None}) for row in rows]
    assert {name for name, _, _ in moved(rows)} == {"tokens", "ess"}
    assert list(moved(steady)) == [], "without an interval nothing is said"


def test_several_thoughts_of_a_chunk_count_by_the_weight_of_their_loss_and_none_by_nothing() -> None:
    weighted = Seen(0, 0, [], [1], [[1], [2, 2, 2]], [0.75, 0.25], 1.0)
    (row,) = drifts([Selected(1, "d", [weighted, Seen(1, 1, [], [1], [], [], 1.0)])])
    assert (row.values["tokens"], row.values["copied"], row.chunks) == (1.5, 0.75, 2)


def test_passages_are_of_the_documents_that_most_iterations_share() -> None:
    of_two = [[n] for n in range(8)]
    found = passages([selected(1, "a", of_two), selected(2, "b", [[99]]), selected(3, "a", of_two[:6])])
    assert [one.chunk for one in found] == [0, 1, 2, 3]
    assert found[2].thoughts == {1: [2], 3: [2]} and found[2].prefix == [9]
    assert passages([]) == [] == passages([Selected(1, "a", [], "damaged")])
