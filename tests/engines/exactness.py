"""What every engine must agree with: plain transformers forwards, and the enumeration of every thought."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.proposal import log_proposal
from lt_hpc.engines.protocol import Engine, SamplingParams
from lt_hpc.latent.layout import Layout
from lt_hpc.stages.estep import Scheme, propose

STOP = 0
TRUNCATED = SamplingParams(3, STOP, temperature=0.7, top_p=0.9, top_k=4)
PLAIN = SamplingParams(3, STOP)


_MODELS: dict[Path, torch.nn.Module] = {}


def plain_logits(path: Path, ids: Sequence[int]) -> torch.Tensor:
    """[T, V] logits of a full forward without cache or padding."""
    if path not in _MODELS:
        # Other implementations leave out what some models need (a soft cap on the scores).
        _MODELS[path] = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    with torch.inference_mode():
        return _MODELS[path](torch.tensor([list(ids)]), use_cache=False).logits[0]


def plain_scores(
    path: Path, prefix: Sequence[int], ids: Sequence[int], params: SamplingParams | None = None
) -> list[float]:
    """Log-probability of every continuation token, under `params` or untempered."""
    logits = plain_logits(path, [*prefix, *ids])
    logprobs = logits.log_softmax(-1) if params is None else log_proposal(logits, params)
    rows = range(len(prefix) - 1, len(prefix) + len(ids) - 1)
    return [float(logprobs[row, token]) for row, token in zip(rows, ids, strict=True)]


LAYOUT = Layout(sol=1, eol=STOP, prior=4, post=3)
CHUNK = Chunk(chunk_id=7, prefix=[2, 5], suffix=[2, 5], num_bytes=2, given=False)


def all_thoughts(length: int) -> list[tuple[int, ...]]:
    """Every thought of at most so many tokens, its <EOL> among them, over a vocabulary of 6."""
    return [(*ids, STOP) for n in range(length) for ids in itertools.product(range(1, 6), repeat=n)]


def free(ids: tuple[int, ...], length: int) -> list[int]:
    """What of a thought was drawn: a thought that fills the limit was cut there, and its <EOL> put."""
    return list(ids[:-1] if len(ids) == length else ids)


@dataclass(frozen=True)
class Enumerated:
    """All thoughts of CHUNK with their probabilities, arrays over thoughts, by plain forwards."""

    thoughts: list[tuple[int, ...]]
    q: np.ndarray
    prior: np.ndarray
    """Of drawing it from the model itself, at the joint prompt."""
    joint: np.ndarray
    """p(z, x | c), with the real probability of its <EOL>."""

    @classmethod
    def of(cls, path: Path, params: SamplingParams) -> Enumerated:
        thoughts = all_thoughts(params.max_tokens)
        posterior = LAYOUT.posterior_prompt(CHUNK.prefix, CHUNK.suffix)
        joint = LAYOUT.joint_prompt(CHUNK.prefix)

        def density(prompt: list[int], ids: Sequence[int], under: SamplingParams | None) -> float:
            return float(np.exp(sum(plain_scores(path, prompt, ids, under)))) if ids else 1.0

        drawn = [free(ids, params.max_tokens) for ids in thoughts]
        return cls(
            thoughts,
            np.array([density(posterior, ids, params) for ids in drawn]),
            np.array([density(joint, ids, None) for ids in drawn]),
            np.array([density(joint, [*ids, *CHUNK.suffix], None) for ids in thoughts]),
        )

    def mixture(self, share: float) -> np.ndarray:
        return (1 - share) * self.q + share * self.prior


def check_against_the_enumeration(
    engine: Engine, path: Path, params: SamplingParams, count: int, prior: float
) -> None:
    """Thoughts fall as often as the mixture says, a share `prior` of which is the model's own, their weights
    are exact, and E[w] is p(x | c) over all thoughts of at most T tokens."""
    exact = Enumerated.of(path, params)
    assert exact.q.sum() == pytest.approx(1, abs=1e-5)
    assert exact.mixture(prior).sum() == pytest.approx(1, abs=1e-5)
    inside = exact.mixture(prior) > 0
    true = exact.joint[inside].sum()
    w = dict(
        zip(
            itertools.compress(exact.thoughts, inside),
            exact.joint[inside] / exact.mixture(prior)[inside],
            strict=True,
        )
    )
    if prior or params.plain:
        assert inside.all(), "what truncation leaves out of q is in the mixture"
        likelihood = exact.joint / exact.prior
        assert prior == 0 or max(w.values()) <= likelihood.max() / prior * (1 + 1e-6)
    else:
        assert true < 0.999 * exact.joint.sum()

    num_prior = round(count * prior)
    (found,) = propose(engine, LAYOUT, [CHUNK], [list(range(count))], Scheme(params, prior))
    drawn = [tuple(ids.tolist()) for ids in found.thoughts]
    assert set(drawn) <= set(w), "a thought outside of the support"
    assert found.cut.tolist() == [len(ids) == params.max_tokens for ids in drawn]
    assert 0 < found.cut.mean() < 1
    np.testing.assert_allclose(np.exp(found.log_weights), [w[ids] for ids in drawn], rtol=2e-3)
    by_engine = dict(zip(drawn, np.exp(found.log_weights), strict=True))
    density = dict(zip(exact.thoughts, exact.mixture(prior), strict=True))
    joint = dict(zip(exact.thoughts, exact.joint, strict=True))
    assert sum(density[ids] * one for ids, one in by_engine.items()) == pytest.approx(
        sum(joint[ids] for ids in by_engine), abs=1e-5
    )
    for part, drawn_from in (
        (drawn[: count - num_prior], exact.q),
        (drawn[count - num_prior :], exact.prior),
    ):
        check_frequencies(part, dict(zip(exact.thoughts, drawn_from, strict=True)))
    values = np.exp(found.log_weights)
    parts = (values[: count - num_prior], values[count - num_prior :])
    error = np.sqrt(sum(part.var() * len(part) for part in parts if len(part))) / count
    assert abs(values.mean() - true) <= 4 * error


def check_frequencies(drawn: list[tuple[int, ...]], density: dict[tuple[int, ...], float]) -> None:
    """Each thought falls as often as its density says, the rare ones counted together."""
    if not drawn:
        return
    common = {ids for ids, probability in density.items() if probability * len(drawn) >= 10}
    for group in [*({ids} for ids in common), set(density) - common]:
        probability = sum(density[ids] for ids in group)
        error = np.sqrt(probability * (1 - probability) / len(drawn))
        assert abs(sum(ids in group for ids in drawn) / len(drawn) - probability) <= 4 * error + 1e-9
