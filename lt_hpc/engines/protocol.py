"""What the stages ask of an engine. Token ids in, token ids and log-probabilities (nats) out.

On a CPU an engine is deterministic: the same list of prompts, seeds and parameters gives the same
bytes. Floating-point sums depend on what is batched together, so callers pass one whole
block at a time and never mix blocks. On a GPU log-probabilities may differ in their last bits from
one attempt to the next, and where a draw falls on such a bit, so may the thought; its log q is of what
was drawn in any case. The torch engine gave the same bytes there wherever it was tried (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Ids = Sequence[int]


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


class Engine(Protocol):
    """Samples and scores with one loaded model."""

    @property
    def attention(self) -> str:
        """The kernel it takes, for the log."""
        ...

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
