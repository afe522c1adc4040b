"""What the stages ask of an engine. Token ids in, token ids and log-probabilities (nats) out.

On a CPU an engine is deterministic: the same list of prompts, seeds and parameters gives the same
bytes. Floating-point sums depend on what is batched together, so callers pass one whole
block at a time; whether an engine mixes blocks it says itself (`Engine.complete`). On a GPU
log-probabilities may differ in their last bits from
one attempt to the next, and where a draw falls on such a bit, so may the thought; its log q is of what
was drawn in any case. The torch engine gave the same bytes there wherever it was tried (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

Ids = Sequence[int]
B = TypeVar("B")
T = TypeVar("T")


@dataclass(frozen=True)
class SamplingParams:
    """The sampling distribution. All of it is part of q: log-probabilities are of the
    tempered, truncated and renormalised distribution that the token was drawn from."""

    max_tokens: int
    stop_id: int
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from what the model itself says."""
        return (self.temperature, self.top_p, self.top_k) == (1.0, 1.0, 0)


@dataclass(frozen=True)
class Completion:
    """One sample. `ids` [T] int32 ends with the stop id when `finished`; `logprobs` [T] float32
    in nats, one for each id, the stop id included."""

    ids: np.ndarray
    logprobs: np.ndarray
    finished: bool


@dataclass(frozen=True)
class Draw:
    """Asks for len(seeds) samples of a prompt; the answer is a list of `Completion`."""

    prompt: Ids
    seeds: Sequence[int]
    params: SamplingParams


@dataclass(frozen=True)
class Score:
    """Asks for the scores of continuations of a prefix; the answer is a list of arrays, as of
    `Engine.score`."""

    prefix: Ids
    continuations: Sequence[Ids]
    params: SamplingParams | None = None


Work = Generator[Draw | Score, Any, T]
"""What is wanted of one chunk: it yields what it asks, is sent the answer, and returns its result. All works
of a block ask alike: in each turn for the same, with the same parameters."""


class Engine(Protocol):
    """Samples and scores with one loaded model. An engine says that it is one by this class as its base.

    Attributes:
        attention: the kernel it takes, for the log.
        seconds: spent up to now, on "sample" and on "score".
    """

    attention: str
    seconds: dict[str, float]

    def sample(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """len(seeds[i]) samples for prompt i, each from a seed of its own."""
        ...

    def score(
        self,
        prefixes: Sequence[Ids],
        continuations: Sequence[Sequence[Ids]],
        params: SamplingParams | None = None,
    ) -> list[list[np.ndarray]]:
        """log p(continuation token | prefix, earlier tokens), float32 nats [T], for every
        continuation of every prefix: untempered, or as `params` samples (-inf for what they never would).
        A prefix has at least one token.

        Raises:
            ConfigError: from an engine that scores the model's own distribution alone, for other `params`.
        """
        ...

    def complete(
        self, blocks: Iterable[tuple[B, Sequence[Work[T]]]], stopping: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[B, list[T]]]:
        """The results of the works of each block, beside what came with it. Here a block is the unit of
        batching: the next one is taken when the one before it is done.

        An engine may hold several at once, and give them in the order in which they end. It then takes no
        more once `stopping`, gives up what it can't end soon, and still gives the others.
        """
        for block, works in blocks:
            yield block, _in_turns(self, works)


def _in_turns(engine: Engine, works: Sequence[Work[T]]) -> list[T]:
    """All works ask, then all are answered by one call."""
    results: dict[int, T] = {}
    answers: Sequence[Any] = [None] * len(works)
    while len(results) < len(works):
        asked: list[Any] = []
        for number, (work, answer) in enumerate(zip(works, answers, strict=True)):
            try:
                asked.append(work.send(answer))
            except StopIteration as end:
                results[number] = end.value
        assert len(asked) in (0, len(works)) and len({(type(one), one.params) for one in asked}) <= 1
        if asked and isinstance(asked[0], Draw):
            answers = engine.sample(
                [one.prompt for one in asked], [one.seeds for one in asked], asked[0].params
            )
        elif asked:
            answers = engine.score(
                [one.prefix for one in asked], [one.continuations for one in asked], asked[0].params
            )
    return [results[number] for number in range(len(works))]
