"""Training examples: chunks with their thoughts, laid out afresh in each epoch.

Everything about an epoch (the order of each chunk, the order of the chunks, the packing)
comes from (run seed, iteration, epoch), so any rank of any world size works it out alone.

Each chunk is a document of its own: its prefix c as raw text, then z and x. Laying the chunks
of a text one after the other in one sequence (z1 x1 z2 x2 ...) would compute no prefix twice,
but then chunk i would be trained given the thoughts of the chunks before it, while sampling
and scoring condition on their text alone: p and q of the importance weights would be those of
contexts that training never shows.

Documents whose prefixes begin at the same token may share them (sharing.py): the one with the
longest prefix is laid out whole, and another borrows the beginning of its own from there. It is
computed from the last token of its prefix on, at the positions that it has alone; losses that it
takes before that are added to those of the one it borrows from. So loss and gradient stay.

Of prefixes that begin at the same token the longest may take a loss as raw text, once: every token that
another one precedes, a bos token included. They are computed anyway. Where a token has a loss already (a
question's), this one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.data.corpus import Chunk, Corpus, row
from lt_hpc.latent import seeds
from lt_hpc.latent.layout import NUM_JOINT_MARKERS, NUM_MARKERS, Layout
from lt_hpc.store.arrays import BLOCK, IN_MEMORY, Arrays, Columns, spans
from lt_hpc.store.lists import Lists
from lt_hpc.training import packing, sharing

IGNORED = -100
"""Label of a position that takes no loss."""


@dataclass(frozen=True)
class Example:
    """A chunk to train on; no thought means raw text, c x."""

    chunk: Chunk
    thought: list[int] | None

    def tokens(self, layout: Layout, thought_first: bool) -> list[int]:
        """The ids of one of the two orders (or of the raw text)."""
        chunk = self.chunk
        if self.thought is None:
            return [*chunk.prefix, *chunk.suffix]
        order = layout.joint if thought_first else layout.posterior
        return order(chunk.prefix, self.thought, chunk.suffix)


@dataclass(frozen=True)
class Examples:
    """N examples, each made when it is asked for: only their sizes are held. Arrays [N] int64, tokens."""

    make: Callable[[int], Example]
    """From an index in [0, N); the same index gives an equal example each time."""
    text: np.ndarray
    """Of c x."""
    thought: np.ndarray
    """Of z; -1 for raw text."""
    unscored: np.ndarray
    """Leading tokens without loss: nothing precedes the first, and a prefix made of earlier chunks
    takes its loss in their own examples."""
    weights: np.ndarray
    """[N] float64, of each one's loss; those of a chunk's different thoughts add up to 1."""
    prefixes: np.ndarray
    """Of c."""
    origins: np.ndarray
    """[N] int64, equal where prefixes begin at the same token of a document; -1 where no other one does."""

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> Example:
        return self.make(index)

    def lengths(self, thought_first: np.ndarray, members: slice | np.ndarray = slice(None)) -> np.ndarray:
        """[M] tokens of the layouts of some examples, or of all; `thought_first` [M]: their orders."""
        text, thought = self.text[members], self.thought[members]
        with_thought = text + thought + np.where(thought_first, NUM_JOINT_MARKERS, NUM_MARKERS)
        return np.where(thought < 0, text, with_thought)


def examples_of_list(examples: list[Example]) -> Examples:
    """Examples that are there already."""
    chunks = [example.chunk for example in examples]
    sizes = [len(chunk.prefix) + len(chunk.suffix) for chunk in chunks]
    thoughts = [-1 if example.thought is None else len(example.thought) for example in examples]
    given = np.array([chunk.given for chunk in chunks], bool)
    prefixes = np.array([len(chunk.prefix) for chunk in chunks], np.int64)
    return Examples(
        examples.__getitem__,
        np.array(sizes, np.int64),
        np.array(thoughts, np.int64),
        unscored_lengths(given, prefixes),
        np.ones(len(examples)),
        prefixes,
        np.full(len(examples), -1),
    )


def examples_of_corpus(
    corpus: Corpus, chunks: np.ndarray, thoughts: Lists, rows: np.ndarray, weights: np.ndarray | None = None
) -> Examples:
    """Chunks `chunks` [N] of a corpus, with the thoughts of these rows of `thoughts` (-1: none), and the
    weights of their losses, all 1 unless given."""
    prefixes, offsets = corpus.prefix_lengths(chunks), thoughts[1]
    there = np.flatnonzero(rows >= 0)
    lengths = np.full(len(chunks), -1)
    lengths[there] = offsets[rows[there] + 1] - offsets[rows[there]]
    return Examples(
        _maker(corpus, chunks, thoughts, rows),
        prefixes + corpus.ends[chunks + 1] - corpus.ends[chunks],
        lengths,
        unscored_lengths(corpus.given(chunks), prefixes),
        np.ones(len(chunks)) if weights is None else weights,
        prefixes,
        corpus.prefix_origins(chunks),
    )


def _maker(corpus: Corpus, chunks: np.ndarray, thoughts: Lists, rows: np.ndarray) -> Callable[[int], Example]:
    def make(index: int) -> Example:
        thought = row(thoughts, rows[index]).tolist() if rows[index] >= 0 else None
        return Example(corpus.chunk(int(chunks[index])), thought)

    return make


Blocks = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]]
"""Chunks, rows of thoughts, and weights where they are not all 1: what `examples_of_corpus` takes."""


def examples_in(
    arrays: Arrays, name: str, corpus: Corpus, thoughts: Lists, blocks: Callable[[], Blocks]
) -> Examples:
    """The examples of all blocks, one after the other, in `arrays`."""

    def columns() -> Iterator[Columns]:
        for chunks, rows, weights in blocks():
            one = examples_of_corpus(corpus, chunks, thoughts, rows, weights)
            sizes = {
                "text": one.text,
                "thought": one.thought,
                "unscored": one.unscored,
                "prefix": one.prefixes,
            }
            numbers = {"chunk": chunks, "row": rows, "origin": one.origins}
            yield {"weight": one.weights, **numbers, **sizes}

    numbers = dict.fromkeys(("chunk", "row", "origin"), np.int64)
    sizes = dict.fromkeys(("text", "thought", "unscored", "prefix"), np.int32)
    found = arrays.columns(name, {"weight": np.float64, **numbers, **sizes}, columns)
    make = _maker(corpus, found["chunk"], thoughts, found["row"])
    of_loss = found["unscored"], found["weight"]
    return Examples(make, found["text"], found["thought"], *of_loss, found["prefix"], found["origin"])


def unscored_lengths(given: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
    """[N] int64, see `Examples.unscored`; from `given` [N] bool and the tokens of each prefix [N]."""
    return np.where(given, 1, np.maximum(1, prefixes))


@dataclass(frozen=True)
class Epoch:
    """One pass over N examples: packed rows of indices into `examples`, and the order of each."""

    examples: Examples
    rows: Sequence[Sequence[int]] | PackedRows
    thought_first: np.ndarray
    """[N] bool: the joint order rather than the posterior's."""
    borrowed: np.ndarray
    """[N] int64, the first tokens of each example that are computed in another one: the nearest before it in
    its row that borrows nothing."""
    raw_weight: float = 0.0
    """Of the loss of each token of raw text; other losses weigh what their examples do."""
    raw: np.ndarray | None = None
    """[N] int64, the tokens of each example that take a loss as raw text, from the second on; None where that
    weighs nothing."""

    def lengths(self, row: int) -> np.ndarray:
        """Tokens of each example of a row."""
        members = np.asarray(self.rows[row], np.int64)
        return self.examples.lengths(self.thought_first[members], members)

    def computed(self, row: int) -> int:
        """Tokens that are computed for a row."""
        return int((self.lengths(row) - self.borrowed[np.asarray(self.rows[row], np.int64)]).sum())


@dataclass(frozen=True, eq=False)
class PackedRows:
    """R rows of N examples: row r has members[ends[order[r]] : ends[order[r] + 1]]. Arrays [N], [R + 1],
    [R]."""

    members: np.ndarray
    ends: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> list[int]:
        if not 0 <= row < len(self):
            raise IndexError(row)  # so that iteration ends
        place = int(self.order[row])
        members: list[int] = self.members[self.ends[place] : self.ends[place + 1]].tolist()
        return members


_EMPTY = Epoch(examples_of_list([]), [[]], np.zeros(0, bool), np.zeros(0, np.int64))


def pack_epoch(
    examples: Examples,
    run_seed: int,
    iteration: int,
    index: int,
    capacity: int,
    arrays: Arrays = IN_MEMORY,
    name: str = "epoch",
    share: bool = False,
    raw_weight: float = 0.0,
) -> Epoch:
    """The packed rows of epoch `index`, at most `capacity` tokens each; each chunk's order is a
    fair coin of its own. `share`: prefixes that begin alike are computed once, in one row, and the longest
    takes a loss as raw text, with `raw_weight`. They are put into `arrays` under `name`."""

    def stream(purpose: str) -> np.random.Generator:
        return seeds.generator(run_seed, purpose, iteration, index)

    def flips() -> Iterator[Columns]:
        generator = stream("order")
        return ({"coin": generator.random(s.stop - s.start) < 0.5} for s in spans(len(examples)))

    coins = arrays.columns(f"{name}-order", {"coin": np.bool_}, flips)["coin"]

    units = _units(examples, coins, capacity, arrays, name) if share else None

    def packed() -> Iterator[Columns]:
        count = len(examples) if units is None else len(units)
        sizes = arrays.scratch(count)
        for span in spans(count):
            sizes[span] = examples.lengths(coins[span], span) if units is None else units.sizes[span]
        order = packing.shuffled(count, stream("shuffle"), arrays.scratch)
        rows = packing.pack(sizes, order, capacity, arrays.scratch)
        return _blocks_of_rows(rows if units is None else map(units.members, rows))

    found = arrays.columns(name, {"members": np.int64, "ends": np.int64}, packed)
    num_rows = len(found["ends"]) - 1

    def mixed() -> Iterator[Columns]:
        order = packing.shuffled(num_rows, stream("rows"), arrays.scratch)
        return ({"row": order[span]} for span in spans(num_rows))

    order = arrays.columns(f"{name}-rows", {"row": np.int64}, mixed)["row"]
    borrowed = np.broadcast_to(np.int64(0), len(examples)) if units is None else units.borrowed
    packed_rows = PackedRows(found["members"], found["ends"], order)
    raw = _raw(examples, arrays, name) if raw_weight else None
    return Epoch(examples, packed_rows, coins, borrowed, raw_weight, raw)


def _raw(examples: Examples, arrays: Arrays, name: str) -> np.ndarray:
    def columns() -> Iterator[Columns]:
        longest = sharing.longest(examples.origins, examples.prefixes)
        yield {"raw": np.where(longest, np.maximum(0, examples.prefixes - 1), 0)}

    return arrays.columns(f"{name}-raw", {"raw": np.int64}, columns)["raw"]


def _units(examples: Examples, coins: np.ndarray, capacity: int, arrays: Arrays, name: str) -> sharing.Units:
    def columns() -> Iterator[Columns]:
        lengths = examples.lengths(coins)
        found = sharing.units(examples.origins, examples.prefixes, lengths, capacity)
        yield vars(found)

    fields = dict.fromkeys(("order", "edges", "borrowed", "sizes"), np.int64)
    return sharing.Units(**arrays.columns(f"{name}-units", fields, columns))


def _blocks_of_rows(rows: Iterator[list[int]]) -> Iterator[Columns]:
    members: list[int] = []
    ends, before = [0], 0
    for packed in rows:
        members += packed
        ends.append(before + len(members))
        if len(members) >= BLOCK:
            yield {"members": np.array(members, np.int64), "ends": np.array(ends, np.int64)}
            before, members, ends = ends[-1], [], []
    yield {"members": np.array(members, np.int64), "ends": np.array(ends, np.int64)}


@dataclass(frozen=True)
class Batch:
    """Packed rows as arrays [rows, capacity] int64: ids, positions, labels. Positions that do not go on begin
    a document; where they begin after 0, so many first tokens are those of the last document that began at 0.
    Of each label that is not ignored, in their order: `weights`, of its loss, float32, None where all are 1;
    `raw`, bool, whether it takes a loss as raw text, None where none does.
    """

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    raw: np.ndarray | None = None


def make_batch(rows: Sequence[tuple[Epoch, int]], layout: Layout, pad: int, capacity: int) -> Batch:
    """The arrays of some rows, each given as (its epoch, index in it); of one empty row where there
    are none. Labels are shifted: labels[t] is the token at t + 1, and the padding at the end is a
    document of its own."""
    rows = rows or [(_EMPTY, 0)]
    ids = np.full((len(rows), capacity), pad, dtype=np.int64)
    positions = np.zeros((len(rows), capacity), dtype=np.int64)
    labels = np.full((len(rows), capacity), IGNORED, dtype=np.int64)
    weights = np.zeros((len(rows), capacity), dtype=np.float32)
    as_text = np.zeros((len(rows), capacity), dtype=np.bool_)
    for r, (of_epoch, index) in enumerate(rows):
        start = lender = 0
        for member in of_epoch.rows[index]:
            tokens = of_epoch.examples[member].tokens(layout, bool(of_epoch.thought_first[member]))
            borrowed = int(of_epoch.borrowed[member])
            stop = start + len(tokens) - borrowed
            ids[r, start:stop] = tokens[borrowed:]
            positions[r, start:stop] = np.arange(borrowed, len(tokens))
            lender = lender if borrowed else start
            first = int(of_epoch.examples.unscored[member])
            own = max(first, borrowed + 1)
            for where, scored in (
                (slice(lender + first - 1, lender + own - 1), tokens[first:own]),
                (slice(start + own - 1 - borrowed, stop - 1), tokens[own:]),
            ):
                labels[r, where] = scored
                weights[r, where] += of_epoch.examples.weights[member]
            raw = 0 if of_epoch.raw is None else int(of_epoch.raw[member])
            labels[r, start : start + raw] = tokens[1 : 1 + raw]
            weights[r, start : start + raw] += of_epoch.raw_weight
            as_text[r, start : start + raw] = True
            start = stop
        positions[r, start:] = np.arange(capacity - start)
    every, raws = weights[labels != IGNORED], as_text[labels != IGNORED]
    weighted = None if (every == 1).all() else every
    return Batch(ids, positions, labels, weighted, raws if raws.any() else None)
