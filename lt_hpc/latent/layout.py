"""Token layouts and which of their tokens count in which log-probability.

For a chunk with prefix c and suffix x (Ruan et al., arXiv 2503.18866, section 3):

    joint      p(z, x | c)    c <SOL><PRIOR> z <EOL> x
    posterior  q(z | c, x)    c <SOL><EOL> x <SOL><POST> z <EOL>
    raw                       c x

Markers that are given (<SOL><PRIOR>, <SOL><EOL>, <SOL><POST>) are never scored;
<EOL> ends a thought, is generated, and counts in both log p(z | c) and log q(z | c, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MARKERS = ("<SOL>", "<EOL>", "<PRIOR>", "<POST>")
"""Start of latent, end of latent, prior role, posterior role."""

Ids = Sequence[int]


@dataclass(frozen=True)
class Layout:
    """The layouts for one tokenizer: the ids of the four markers."""

    sol: int
    eol: int
    prior: int
    post: int

    def joint_prompt(self, prefix: Ids) -> list[int]:
        """c <SOL><PRIOR>: what a thought and then the chunk are generated from."""
        return [*prefix, self.sol, self.prior]

    def posterior_prompt(self, prefix: Ids, suffix: Ids) -> list[int]:
        """c <SOL><EOL> x <SOL><POST>: what the E-step samples from."""
        return [*prefix, self.sol, self.eol, *suffix, self.sol, self.post]

    def marked_prompt(self, prefix: Ids) -> list[int]:
        """c <SOL><EOL>: the chunk without a thought before it."""
        return [*prefix, self.sol, self.eol]

    def joint(self, prefix: Ids, thought: Ids, suffix: Ids) -> list[int]:
        """c <SOL><PRIOR> z <EOL> x; `thought` without its <EOL>."""
        return [*self.joint_prompt(prefix), *thought, self.eol, *suffix]

    def posterior(self, prefix: Ids, thought: Ids, suffix: Ids) -> list[int]:
        """c <SOL><EOL> x <SOL><POST> z <EOL>; `thought` without its <EOL>."""
        return [*self.posterior_prompt(prefix, suffix), *thought, self.eol]


NUM_MARKERS = 5
"""Markers of the longest layout, the posterior."""
NUM_JOINT_MARKERS = 3


def longest_chunk(context_length: int, max_thought_tokens: int) -> int:
    """Tokens of the longest suffix that fits a sequence beside the longest thought."""
    return context_length - NUM_MARKERS - max_thought_tokens


def prefix_budgets(context_length: int, max_thought_tokens: int, num_suffix_N: np.ndarray) -> np.ndarray:
    """Tokens of prefix [N] that fit beside each suffix and the longest thought.

    The same cut, of the prefix's first tokens, serves sampling, scoring, training and evaluation:
    a function of the chunk alone, so that c is the same c in p and in q.
    """
    room = longest_chunk(context_length, max_thought_tokens)
    return np.maximum(0, room - num_suffix_N.astype(np.int64))
