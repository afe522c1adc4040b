"""What every engine must agree with: plain transformers forwards, and the enumeration of every thought."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lt_hpc.engines.proposal import log_proposal
from lt_hpc.engines.protocol import Engine, SamplingParams

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


def enumerate_thoughts(path: Path, prompt: list[int], params: SamplingParams) -> dict[tuple[int, ...], float]:
    """q of every finished and unfinished sequence of at most max_tokens tokens."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(1, params.max_tokens + 1):
        for ids in itertools.product(range(6), repeat=length):
            if STOP in ids[:-1] or (ids[-1] != STOP and length < params.max_tokens):
                continue
            found[ids] = float(np.exp(sum(plain_scores(path, prompt, ids, params))))
    return found


def check_against_the_enumeration(engine: Engine, path: Path, params: SamplingParams, count: int) -> None:
    """Samples fall as often as q says, and the importance estimate converges to the exact sum."""
    prompt, joint_prompt, suffix = [1, 2, 3], [1, 4], [2, 5]
    q = enumerate_thoughts(path, prompt, params)
    assert sum(q.values()) == pytest.approx(1, abs=1e-5)

    samples = engine.sample([prompt], [list(range(count))], params)[0]
    drawn = [tuple(sample.ids.tolist()) for sample in samples]
    assert all(q[ids] > 0 for ids in drawn), "a sample outside the support of q"
    common = {ids for ids, probability in q.items() if probability * count >= 10}
    for group in [*({ids} for ids in common), set(q) - common]:  # the rare ones counted together
        probability = sum(q[ids] for ids in group)
        error = np.sqrt(probability * (1 - probability) / count)
        share = sum(ids in group for ids in drawn) / count
        assert abs(share - probability) <= 4 * error + 1e-9

    finished = {ids for ids, probability in q.items() if ids[-1] == STOP and probability > 0}
    order = sorted(finished)
    scores = engine.score([joint_prompt], [[[*ids, *suffix] for ids in order]])[0]
    joint = {ids: float(np.exp(score.sum())) for ids, score in zip(order, scores, strict=True)}
    exact = sum(joint.values())
    w = np.array([joint[ids] / q[ids] if ids in finished else 0.0 for ids in drawn])
    assert abs(w.mean() - exact) <= 4 * w.std() / np.sqrt(count)
    # What truncation and the length limit leave out of the support of q is not in the estimate.
    everything = [(*ids, STOP) for n in range(3) for ids in itertools.product(range(1, 6), repeat=n)]
    whole = sum(
        float(np.exp(score.sum()))
        for score in engine.score([joint_prompt], [[[*ids, *suffix] for ids in everything]])[0]
    )
    if params is TRUNCATED:
        assert exact < 0.999 * whole
    else:
        assert exact == pytest.approx(whole, rel=1e-5)
