"""In which optimizer steps an M-step trains on its examples: a function of the plan alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lt_hpc.errors import StageError
from lt_hpc.stages.task import Task
from lt_hpc.stages.train_data import Data
from lt_hpc.store.arrays import BLOCK, IN_MEMORY, Arrays, Columns, spans
from lt_hpc.training.batches import Epoch, Examples, pack_epoch

FEW_EXAMPLES = 1 << 16
"""Epochs over so many at most are packed by every rank for itself: there may be thousands of them, each would
be some small files, and a file that is mapped holds a descriptor."""


@dataclass(frozen=True)
class StepSize:
    """Tokens of thoughts and chunks that take a loss, as many as these weigh, tokens of raw text that take
    one and the weight of each, tokens that are computed, the packed documents that they make up, and the
    tokens of these, with those that they borrow."""

    scored: int
    weight: float
    raw: int
    raw_weight: float
    tokens: int
    documents: int
    whole: int

    @property
    def all_weight(self) -> float:
        """What all tokens that take a loss weigh, those of raw text too: what the loss is divided by."""
        return self.weight + self.raw_weight * self.raw


Row = tuple[Epoch, int]
"""A packed row: its epoch, and which one there."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Which packed rows each optimizer step takes: the same for every world size.

    Attributes:
        epochs: by number; those of text that is mixed in count down from -1.
        epoch, row: of each packed row its epoch's number, and which one there.
    """

    epochs: dict[int, Epoch]
    epoch: np.ndarray
    row: np.ndarray
    rows_per_step: int
    count: int

    @property
    def num_rows(self) -> int:
        return len(self.row)

    def of(self, step: int) -> list[Row]:
        start = step * self.rows_per_step
        numbers, rows = (one[start : start + self.rows_per_step].tolist() for one in (self.epoch, self.row))
        return [(self.epochs[number], row) for number, row in zip(numbers, rows, strict=True)]

    def size(self, step: int) -> StepSize:
        """What a step trains on, over all ranks."""
        tokens = scored = raw = documents = whole = 0
        weight = raw_weight = 0.0
        for epoch, row in self.of(step):
            members, lengths = epoch.rows[row], epoch.lengths(row)
            losses = lengths - epoch.examples.unscored[members]
            tokens += epoch.computed(row)
            whole += int(lengths.sum())
            scored += int(losses.sum())
            weight += float(losses @ epoch.examples.weights[members])
            if epoch.raw is not None:
                raw, raw_weight = raw + int(epoch.raw[members].sum()), epoch.raw_weight
            documents += len(members)
        return StepSize(scored, weight, raw, raw_weight, tokens, documents, whole)

    def passes(self, over: Sequence[Examples]) -> float:
        """How often these examples are gone through, all of them together."""
        shares = {
            number: 1 / len(epoch.rows)
            for number, epoch in self.epochs.items()
            if any(epoch.examples is one for one in over)
        }
        numbers = itertools.chain.from_iterable(self.epoch[span].tolist() for span in spans(self.num_rows))
        return sum(shares[number] for number in numbers if number in shares)


def plan_steps(task: Task, data: Data, arrays: Arrays = IN_MEMORY) -> Steps:
    """Pack as many epochs as the settings ask for, into `arrays`. The last step may be smaller: no chunk is
    dropped, and a step's loss is normalised by its own tokens."""
    settings = task.plan.training(task.stage)
    rows_per_step = settings.batch_tokens // task.plan.config.row_tokens(settings)
    wanted = None if settings.steps is None else settings.steps * rows_per_step
    draws, text = data.draws, [data.text] if data.text is not None else []
    if not len((draws or text)[0]):
        raise StageError(
            "nothing is left to train on: all thoughts of every chunk were cut (raise "
            "sample.max_thought_tokens, or merge.unfinished=raw), or no text has two tokens"
        )
    own = _Epochs(task, draws or text, arrays, "epoch")
    others = _Epochs(task, text, arrays, "text-epoch")
    shares = list(_shares(own, settings.epochs, wanted))

    def blocks() -> Iterator[Columns]:
        rows: Iterator[tuple[int, int]] = (
            (number, row) for number, count in enumerate(shares) for row in range(count)
        )
        if draws and text:
            rows = _mixed(rows, own, others, settings.raw_share)
        while block := list(itertools.islice(rows, BLOCK)):
            numbers, places = zip(*block, strict=True)
            yield {"epoch": np.array(numbers, np.int32), "row": np.array(places, np.int64)}

    found = arrays.columns("steps", {"epoch": np.int32, "row": np.int64}, blocks)
    count = settings.steps or -(-len(found["row"]) // rows_per_step)
    taken = slice(count * rows_per_step)
    epochs = dict(enumerate(map(own.get, range(len(shares)))))
    epochs |= {-1 - n: others.get(n) for n in range(-int(found["epoch"].min()))}
    return Steps(epochs, found["epoch"][taken], found["row"][taken], rows_per_step, count)


class _Epochs:
    """The epochs over some lists of examples, which take turns; packed when they are asked for."""

    def __init__(self, task: Task, draws: list[Examples], arrays: Arrays, name: str) -> None:
        self._task, self._draws, self._arrays, self._name = task, draws, arrays, name
        self._found: list[Epoch] = []

    def get(self, index: int) -> Epoch:
        config, iteration = self._task.plan.config, self._task.stage.iteration
        settings = self._task.plan.training(self._task.stage)
        while len(self._found) <= index:
            number = len(self._found)
            examples = self._draws[number % len(self._draws)]
            self._found.append(
                pack_epoch(
                    examples, config.seed, iteration, number, config.row_tokens(settings),
                    self._arrays if len(examples) > FEW_EXAMPLES else IN_MEMORY, f"{self._name}-{number}",
                    share=settings.prefixes == "shared", raw_weight=settings.raw_loss_weight,
                )
            )  # fmt: skip
        return self._found[index]


def _shares(own: _Epochs, epochs: float, wanted: int | None) -> Iterator[int]:
    """Of each epoch, how many rows: of so many epochs, or of as many as make up the wanted number or more."""
    total = 0
    for index in itertools.count():
        if total >= wanted if wanted is not None else index >= epochs:
            return
        share = 1.0 if wanted is not None else min(1.0, epochs - index)
        count = max(1, round(share * len(own.get(index).rows)))
        total += count
        yield count


def _mixed(
    rows: Iterator[tuple[int, int]], own: _Epochs, others: _Epochs, share: float
) -> Iterator[tuple[int, int]]:
    """Rows with others evenly between them, which make up that share of the tokens."""
    tokens = of_others = 0
    between = ((n, row) for n in itertools.count() for row in range(len(others.get(n).rows)))
    for number, row in rows:
        yield number, row
        tokens += own.get(number).computed(row)
        while of_others < share * (tokens + of_others):
            number, row = next(between)
            yield -1 - number, row
            of_others += others.get(number).computed(row)
