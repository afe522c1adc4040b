"""The torch engine against plain transformers, and against the enumeration of every thought."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lt_hpc.engines import torch_engine
from lt_hpc.engines.proposal import draw, log_proposal
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.engines.torch_engine import TorchEngine

STOP = 0
TRUNCATED = SamplingParams(3, STOP, temperature=0.7, top_p=0.9, top_k=4)
PLAIN = SamplingParams(3, STOP)


def make_model(folder: Path, vocabulary: int) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), 32)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny"), 6)


def plain_logits(path: Path, ids: list[int]) -> torch.Tensor:
    """[T, V] logits of a full forward without cache or padding."""
    model = AutoModelForCausalLM.from_pretrained(path)
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def ragged(seed: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    rng = np.random.default_rng(seed)
    prefixes = [rng.integers(1, 32, size).tolist() for size in (1, 9, 4, 1, 17)]
    continuations = [
        [rng.integers(1, 32, rng.integers(1, 12)).tolist() for _ in range(k)] for k in (3, 1, 0, 2, 4)
    ]
    return prefixes, continuations


@pytest.mark.parametrize(("batch_tokens", "max_logits"), [(4096, 2**27), (1, 2**27), (4096, 32 * 5)])
def test_scores_are_those_of_a_full_forward(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, max_logits: int
) -> None:
    monkeypatch.setattr(torch_engine, "MAX_LOGITS", max_logits)
    prefixes, continuations = ragged(3)
    scored = TorchEngine(model_path, "float32", batch_tokens).score(prefixes, continuations)
    for prefix, of_prefix, scores in zip(prefixes, continuations, scored, strict=True):
        assert len(scores) == len(of_prefix)
        for ids, logprobs in zip(of_prefix, scores, strict=True):
            expected = plain_logits(model_path, [*prefix, *ids]).log_softmax(-1)
            rows = range(len(prefix) - 1, len(prefix) + len(ids) - 1)
            wanted = [float(expected[row, token]) for row, token in zip(rows, ids, strict=True)]
            np.testing.assert_allclose(logprobs, wanted, atol=1e-4)


@pytest.mark.parametrize(
    "params", [SamplingParams(12, STOP), SamplingParams(12, STOP, temperature=0.7, top_p=0.9, top_k=5)]
)
def test_log_q_is_the_density_the_tokens_were_drawn_from(model_path: Path, params: SamplingParams) -> None:
    prompts, _ = ragged(5)
    draws = [[100 * i + k for k in range(6)] for i in range(len(prompts))]
    engine = TorchEngine(model_path, "float32", 4096)
    first, second = engine.sample(prompts, draws, params), engine.sample(prompts, draws, params)
    for prompt, samples, again in zip(prompts, first, second, strict=True):
        assert len({sample.ids.tobytes() for sample in samples}) > 1, "seeds must differ"
        for sample, same in zip(samples, again, strict=True):
            assert sample.ids.tobytes() == same.ids.tobytes()
            assert sample.logprobs.tobytes() == same.logprobs.tobytes()
            ids = sample.ids.tolist()
            assert sample.finished == (ids[-1] == STOP)
            assert STOP not in ids[:-1]
            assert sample.finished or len(ids) == params.max_tokens
            log_q = log_proposal(plain_logits(model_path, [*prompt, *ids]), params)
            rows = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
            wanted = [float(log_q[row, token]) for row, token in zip(rows, ids, strict=True)]
            np.testing.assert_allclose(sample.logprobs, wanted, atol=2e-4)


def test_greedy_takes_the_most_likely_token(model_path: Path) -> None:
    prompt = [3, 1, 4, 1, 5]
    params = SamplingParams(6, STOP, temperature=0)
    ids = TorchEngine(model_path, "float32", 4096).sample([prompt], [[0]], params)[0][0].ids.tolist()
    so_far = list(prompt)
    for token in ids:
        assert token == int(plain_logits(model_path, so_far)[-1].argmax())
        so_far.append(token)


def enumerate_thoughts(path: Path, prompt: list[int], params: SamplingParams) -> dict[tuple[int, ...], float]:
    """q of every finished and unfinished sequence of at most max_tokens tokens."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(1, params.max_tokens + 1):
        for ids in itertools.product(range(6), repeat=length):
            if STOP in ids[:-1] or (ids[-1] != STOP and length < params.max_tokens):
                continue
            log_q = log_proposal(plain_logits_cached(path, (*prompt, *ids)), params)
            rows = range(len(prompt) - 1, len(prompt) + length - 1)
            found[ids] = float(np.exp(sum(float(log_q[r, t]) for r, t in zip(rows, ids, strict=True))))
    return found


_MODELS: dict[Path, torch.nn.Module] = {}


def plain_logits_cached(path: Path, ids: tuple[int, ...]) -> torch.Tensor:
    if path not in _MODELS:
        _MODELS[path] = AutoModelForCausalLM.from_pretrained(path)
    with torch.inference_mode():
        return _MODELS[path](torch.tensor([list(ids)]), use_cache=False).logits[0]


@pytest.mark.parametrize("params", [PLAIN, TRUNCATED])
def test_samples_and_weights_agree_with_the_enumeration(tiny_path: Path, params: SamplingParams) -> None:
    prompt, joint_prompt, suffix = [1, 2, 3], [1, 4], [2, 5]
    q = enumerate_thoughts(tiny_path, prompt, params)
    assert sum(q.values()) == pytest.approx(1, abs=1e-5)

    engine, count = TorchEngine(tiny_path, "float32", 2**20), 6000
    samples = engine.sample([prompt], [list(range(count))], params)[0]
    drawn = [tuple(sample.ids.tolist()) for sample in samples]
    assert all(q[ids] > 0 for ids in drawn), "a sample outside the support of q"
    common = {ids for ids, probability in q.items() if probability * count >= 10}
    for group in [*({ids} for ids in common), set(q) - common]:  # the rare ones counted together
        probability = sum(q[ids] for ids in group)
        error = np.sqrt(probability * (1 - probability) / count)
        share = sum(ids in group for ids in drawn) / count
        assert abs(share - probability) <= 4.5 * error + 1e-9

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


@settings(deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12),
    st.floats(0.1, 3),
    st.floats(0.05, 1),
    st.integers(0, 12),
    st.floats(0, 1, exclude_max=True),
)
def test_a_removed_token_is_never_drawn(
    logits: list[float], temperature: float, top_p: float, top_k: int, uniform: float
) -> None:
    params = SamplingParams(1, STOP, temperature, top_p, top_k)
    row = torch.tensor([logits])
    log_q = log_proposal(row, params)
    assert float(log_q.double().exp().sum()) == pytest.approx(1, abs=1e-5)
    token, logprob = draw(row, torch.tensor([uniform], dtype=torch.float64), params)
    assert torch.isfinite(logprob).all()
    assert float(log_q[0, token[0]]) == float(logprob[0])
    assert not top_k or int((log_q > -torch.inf).sum()) <= top_k
