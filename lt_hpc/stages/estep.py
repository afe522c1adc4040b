"""Thoughts for a group of chunks, with the log-probabilities that make their weights.

The E-step and the held-out bound both use this, so they measure the same thing. Every thought ends: one that
has not done so after T - 1 tokens is cut, and its <EOL> is put there. That token is drawn from nothing, so it
has a log q of 0, and its own log p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.protocol import Completion, Draw, Engine, Ids, SamplingParams, Score, Work
from lt_hpc.errors import StageError
from lt_hpc.latent import weights
from lt_hpc.latent.layout import Layout


@dataclass(frozen=True)
class Scheme:
    """What the K thoughts of a chunk are drawn from: `params` at the posterior prompt, and the last ones, a
    share of `prior_share`, the model itself, untempered, at the joint prompt. `params.max_tokens` is T, <EOL>
    included."""

    params: SamplingParams
    prior_share: float = 0.0

    def num_prior(self, count: int) -> int:
        """How many of a chunk's `count` thoughts are drawn from the model itself."""
        return weights.prior_count(count, self.prior_share)

    @property
    def free(self) -> SamplingParams:
        """Of the tokens before a forced <EOL>."""
        return replace(self.params, max_tokens=self.params.max_tokens - 1)

    @property
    def free_prior(self) -> SamplingParams:
        """The same of thoughts from the prior."""
        return SamplingParams(self.params.max_tokens - 1, self.params.stop_id)


@dataclass(frozen=True)
class Proposals:
    """K thoughts of one chunk, each with its <EOL>; `cut` [K] bool: it was put there. Log-probabilities are
    sums in nats, float64 [K], over the same sampled ids, <EOL> included.

    `log_proposal`: log density of what the K were drawn from, which is log q unless some are from the prior
    or from earlier iterations. `drawn` [K]: then the iteration of each; None: all are of this one.
    """

    thoughts: list[np.ndarray]
    cut: np.ndarray
    log_q: np.ndarray
    log_prior: np.ndarray
    log_likelihood: np.ndarray
    log_proposal: np.ndarray
    drawn: np.ndarray | None = None

    @property
    def log_weights(self) -> np.ndarray:
        """[K] nats."""
        return weights.log_weights(self.log_prior, self.log_likelihood, self.log_proposal)


@dataclass(frozen=True)
class Drawn:
    """A thought, and the log-probabilities of its tokens under what it was drawn from."""

    ids: list[int]
    cut: bool
    logprobs: np.ndarray

    @property
    def free_ids(self) -> list[int]:
        return self.ids[: len(self.ids) - self.cut]


def propose(
    engine: Engine,
    layout: Layout,
    chunks: Sequence[Chunk],
    seeds: Sequence[Sequence[int]],
    scheme: Scheme,
) -> list[Proposals]:
    """What `proposing` says of every chunk, as one block."""
    works = [proposing(layout, chunk, own, scheme) for chunk, own in zip(chunks, seeds, strict=True)]
    ((_, found),) = engine.complete([(None, works)])
    return found


def proposing(layout: Layout, chunk: Chunk, seeds: Sequence[int], scheme: Scheme) -> Work[Proposals]:
    """Draw thoughts for a chunk, one for each of its seeds, then score log p(z_k | c), log p(x | c, z_k),
    and log q(z_k | c, x) of those that were not drawn from q.

    Raises:
        StageError: when the log-weights are no numbers.
    """
    (posterior,), (joint,) = prompts(layout, [chunk])
    from_q = len(seeds) - scheme.num_prior(len(seeds))
    drawn = yield from _drawing(posterior, seeds[:from_q], scheme.free)
    of_q = [thought.logprobs for thought in drawn]
    if scheme.prior_share:
        others = yield from _drawing(joint, seeds[from_q:], scheme.free_prior)
        of_q += yield Score(posterior, [z.free_ids for z in others], scheme.free)
        drawn += others
    of_joint = yield Score(joint, [[*z.ids, *chunk.suffix] for z in drawn])
    ids = [np.array(z.ids, np.int32) for z in drawn]
    return checked(chunk, weigh(ids, np.array([z.cut for z in drawn], bool), of_q, of_joint, scheme))


def checked(chunk: Chunk, proposals: Proposals) -> Proposals:
    """The thoughts of a chunk, whose log-weights are numbers.

    Raises:
        StageError: naming the chunk where they are none.
    """
    if not (proposals.log_weights < np.inf).all():
        raise StageError(
            f"chunk {chunk.chunk_id}: log-weights {proposals.log_weights.tolist()}: what the model says is "
            "no number; try sample.dtype=float32 (evaluate.dtype in an evaluation)"
        )
    return proposals


def prompts(layout: Layout, chunks: Sequence[Chunk]) -> tuple[list[Ids], list[Ids]]:
    """The posterior and the joint prompt of each chunk."""
    return (
        [layout.posterior_prompt(chunk.prefix, chunk.suffix) for chunk in chunks],
        [layout.joint_prompt(chunk.prefix) for chunk in chunks],
    )


def weigh(
    thoughts: list[np.ndarray],
    cut: np.ndarray,
    of_q: Sequence[np.ndarray],
    of_joint: Sequence[np.ndarray],
    scheme: Scheme,
) -> Proposals:
    """The sums of one chunk's K thoughts, drawn by `scheme`: `of_q` from log q of their tokens but for a
    forced <EOL>, `of_joint` from log p of their tokens and of the chunk's after them."""
    joint = [scores.astype(np.float64) for scores in of_joint]
    log_q = np.array([scores.astype(np.float64).sum() for scores in of_q])
    lengths = [len(ids) for ids in thoughts]
    free = np.array([one[: n - c].sum() for one, n, c in zip(joint, lengths, cut, strict=True)])
    return Proposals(
        thoughts=thoughts,
        cut=cut,
        log_q=log_q,
        log_prior=np.array([one[:n].sum() for one, n in zip(joint, lengths, strict=True)]),
        log_likelihood=np.array([one[n:].sum() for one, n in zip(joint, lengths, strict=True)]),
        log_proposal=weights.log_mixture(log_q, free, scheme.num_prior(len(thoughts)) / len(thoughts)),
    )


def draw(
    engine: Engine, of: list[Ids], seeds: Sequence[Sequence[int]], params: SamplingParams
) -> list[list[Drawn]]:
    """Thoughts after each prompt, one for each seed. `params.max_tokens`: before a forced <EOL>."""
    works = [_drawing(prompt, own, params) for prompt, own in zip(of, seeds, strict=True)]
    ((_, found),) = engine.complete([(None, works)])
    return found


def _drawing(prompt: Ids, seeds: Sequence[int], params: SamplingParams) -> Work[list[Drawn]]:
    if params.max_tokens == 0:  # nothing to sample: every thought is empty
        return [Drawn([params.stop_id], True, np.zeros(0)) for _ in seeds]
    samples: list[Completion] = yield Draw(prompt, seeds, params)
    return [
        Drawn(
            [*sample.ids.tolist(), *([] if sample.finished else [params.stop_id])],
            not sample.finished,
            sample.logprobs,
        )
        for sample in samples
    ]
