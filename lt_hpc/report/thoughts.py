"""The selected thoughts of some chunks of each iteration: for the figures of drift, and side by side.

A fixed sample: of at most FILES files of selected/, evenly spaced, the first CHUNKS / FILES chunks each. So
a report reads as much of a large corpus as of a small one, and iterations on one corpus are seen on the same
chunks. Nothing here is verified or declared damaged; what can't be read is a `problem`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lt_hpc.latent import drift, intervals
from lt_hpc.latent.intervals import Interval
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths

CHUNKS, FILES, PASSAGES = 256, 4, 4
_LENGTH_CLASSES = ("short", "middling", "long")


@dataclass(frozen=True)
class Seen:
    """A chunk as token ids with its selected thoughts, and the weights that their losses had."""

    chunk: int
    document: int
    prefix: list[int]
    suffix: list[int]
    thoughts: list[list[int]]
    loss_weights: list[float]
    ess: float


@dataclass(frozen=True)
class Selected:
    """What one iteration selected. `data`: fingerprint of its documents: equal chunk ids of equal data are
    the same text. `problem`: why nothing could be read, or None."""

    number: int
    data: str
    seen: list[Seen]
    problem: str | None = None


@dataclass(frozen=True)
class Drift:
    """Means over the chunks of one iteration's sample, with 95% intervals over their documents.

    Names: `tokens` of a thought, `copied` and `repeated` as in `latent.drift`, `ess`, and where chunks differ
    in length `ess_short`, `ess_middling` and `ess_long` of the shortest, middle and longest third of them.
    One that no chunk has is left out.
    """

    number: int
    chunks: int
    values: dict[str, float]
    intervals: dict[str, Interval | None]

    def figure(self, name: str) -> tuple[float, Interval | None] | None:
        """A value with its interval; None where there is none."""
        return (self.values[name], self.intervals[name]) if name in self.values else None


@dataclass(frozen=True)
class Passage:
    """A chunk and, by iteration, what was selected of its thoughts first; None: every one was cut."""

    chunk: int
    prefix: list[int]
    suffix: list[int]
    thoughts: dict[int, list[int] | None]


def read(plan: Plan, paths: RunPaths) -> list[Selected]:
    """Of every iteration whose selection is done."""
    return [
        _selected(plan, paths, stage)
        for stage in plan.stages
        if stage.kind.ranked and "selected" in stage.inputs and "data" in stage.inputs
        if manifest.problem(paths.root / stage.inputs["selected"], plan.output(stage.inputs["selected"]))
        is None
    ]


def _selected(plan: Plan, paths: RunPaths, training: Stage) -> Selected:
    folder, data = paths.root / training.inputs["selected"], training.inputs["data"]
    try:
        record, documents = manifest.read(folder), manifest.read(paths.root / data)
        if record is None or documents is None:
            raise ValueError("its documents are gone")
        seen = [
            one
            for file, start, count in _pieces(record)
            for one in _seen(folder / file, paths.root / data, documents, start, count)
        ]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        return Selected(
            training.iteration, plan.output(data), [], f"thoughts of {training.inputs['selected']}: {error}"
        )
    return Selected(training.iteration, plan.output(data), seen)


def _pieces(record: Manifest) -> Iterator[tuple[str, int, int]]:
    """File, its first chunk, and how many of its chunks are seen."""
    sizes = [file.counts["chunks"] for file in record.files]
    starts = [0, *itertools.accumulate(sizes)]
    filled = [place for place, size in enumerate(sizes) if size]
    for place in filled[:: -(-len(filled) // FILES) or 1]:
        yield record.files[place].name, starts[place], min(sizes[place], CHUNKS // FILES)


def _seen(file: Path, data: Path, documents: Manifest, start: int, count: int) -> Iterator[Seen]:
    texts = dict(_texts(data, documents, start, start + count))
    with pq.ParquetFile(file) as opened:
        for row in next(opened.iter_batches(batch_size=count)).to_pylist():
            document, prefix, suffix = texts[row["chunk"]]
            drawn = [k >= 0 for k in row["samples"]]
            thoughts = list(itertools.compress(row["thoughts"], drawn))
            losses = list(itertools.compress(row.get("loss_weights") or [1.0] * len(drawn), drawn))
            yield Seen(row["chunk"], document, prefix, suffix, thoughts, losses, row["ess"])


def _texts(
    data: Path, documents: Manifest, start: int, stop: int
) -> Iterator[tuple[int, tuple[int, list[int], list[int]]]]:
    """Chunk -> its document, and token ids before it in that and of itself."""
    first = 0
    columns = ["document", "first_chunk", "context", "tokens", "chunk_lengths"]
    for entry in documents.files:
        before, first = first, first + entry.counts["chunks"]
        if before >= stop or first <= start:
            continue
        table = pq.read_table(data / entry.name, columns=columns)
        begins = table["first_chunk"].to_numpy()
        low = max(0, int(np.searchsorted(begins, start, "right")) - 1)
        high = int(np.searchsorted(begins, stop, "left"))
        for row in table.slice(low, high - low).to_pylist():
            ends = [0, *itertools.accumulate(row["chunk_lengths"])]
            for place, (begin, end) in enumerate(itertools.pairwise(ends)):
                before_it = [*row["context"], *row["tokens"][:begin]]
                yield row["first_chunk"] + place, (row["document"], before_it, row["tokens"][begin:end])


def drifts(selected: Sequence[Selected]) -> list[Drift]:
    """The figures of each iteration that has any. Pure."""
    return [_drift(one.number, one.seen) for one in selected if one.seen]


def _drift(number: int, seen: Sequence[Seen]) -> Drift:
    found: dict[str, tuple[float, Interval | None]] = {}
    thought = [one for one in seen if one.thoughts and sum(one.loss_weights) > 0]
    for name, measure in (
        ("tokens", lambda z, x: float(len(z))),
        ("copied", drift.copied_share),
        ("repeated", lambda z, x: drift.repeated_share(z)),
    ):
        values = [
            np.average([measure(z, one.suffix) for z in one.thoughts], weights=one.loss_weights)
            for one in thought
        ]
        if thought:
            found[name] = (_mean if name == "tokens" else _share)(thought, np.array(values))
    found["ess"] = _mean(seen, np.array([one.ess for one in seen]))
    classes = drift.by_length(np.array([len(one.suffix) for one in seen]), len(_LENGTH_CLASSES))
    for place, name in enumerate(_LENGTH_CLASSES):
        of_class = [one for one, mine in zip(seen, classes == place, strict=True) if mine]
        if 0 < len(of_class) < len(seen):
            found[f"ess_{name}"] = _mean(of_class, np.array([one.ess for one in of_class]))
    values_of = {name: value for name, (value, _) in found.items()}
    return Drift(number, len(seen), values_of, {name: interval for name, (_, interval) in found.items()})


def _mean(seen: Sequence[Seen], values: np.ndarray) -> tuple[float, Interval | None]:
    documents = np.array([one.document for one in seen])
    return intervals.ratio(
        intervals.by_document(documents, values), intervals.by_document(documents, np.ones(len(values)))
    )


def _share(seen: Sequence[Seen], values: np.ndarray) -> tuple[float, Interval | None]:
    """The same of values from 0 to 1."""
    documents = np.array([one.document for one in seen])
    return intervals.mean_share(
        intervals.by_document(documents, values), intervals.by_document(documents, np.ones(len(values)))
    )


MOVES: Mapping[str, Any] = {
    "tokens": drift.scaled_by(drift.LENGTH_FACTOR),
    "copied": drift.shifted_by(drift.SHARE_MOVED),
    "repeated": drift.shifted_by(drift.SHARE_MOVED),
    "ess": drift.scaled_by(drift.ESS_FACTOR),
    **{f"ess_{name}": drift.scaled_by(drift.ESS_FACTOR) for name in _LENGTH_CLASSES},
}
"""Figure -> whether a value of it is far from the first one."""


def moved(rows: Sequence[Drift]) -> Iterator[tuple[str, Drift, Drift]]:
    """Figures that have moved from the first iteration to the last one. Pure."""
    if len(rows) < 2:
        return
    for name, far in MOVES.items():
        first, last = rows[0].figure(name), rows[-1].figure(name)
        if first and last and drift.has_moved(first, last, far):
            yield name, rows[0], rows[-1]


def passages(selected: Sequence[Selected]) -> list[Passage]:
    """Some chunks that most iterations have seen, evenly spaced among those. Pure."""
    readable = [one for one in selected if one.seen]
    if not readable:
        return []
    kinds = [one.data for one in readable]
    data = max(kinds, key=lambda one: (kinds.count(one), kinds.index(one)))
    same = {one.number: {seen.chunk: seen for seen in one.seen} for one in readable if one.data == data}
    shared = sorted(set.intersection(*(set(of) for of in same.values())))
    chosen = shared[:: max(1, len(shared) // PASSAGES)][:PASSAGES]
    first = next(iter(same.values()))
    return [
        Passage(
            chunk,
            first[chunk].prefix,
            first[chunk].suffix,
            {number: next(iter(of[chunk].thoughts), None) for number, of in same.items()},
        )
        for chunk in chosen
    ]
