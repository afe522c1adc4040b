"""What is the torch engine's own: its batches, its proposal, what it computes once. What every engine
promises stands in test_contract.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lt_hpc.engines import torch_engine
from lt_hpc.engines.proposal import draw, log_proposal
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.engines.torch_engine import TorchEngine
from lt_hpc.errors import StageError
from lt_hpc.stages.estep import Scheme, propose
from tests.engines.exactness import (
    CHUNK,
    LAYOUT,
    PLAIN,
    STOP,
    TRUNCATED,
    Enumerated,
    free,
    plain_scores,
)


def ragged(seed: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    rng = np.random.default_rng(seed)
    prefixes = [rng.integers(1, 32, size).tolist() for size in (1, 9, 4, 1, 17)]
    continuations = [
        [rng.integers(1, 32, rng.integers(1, 12)).tolist() for _ in range(k)] for k in (3, 1, 0, 2, 4)
    ]
    return prefixes, continuations


@pytest.mark.parametrize(("batch_tokens", "max_logits"), [(1, 2**27), (4096, 32 * 5)])
def test_in_batches_of_any_size_scores_are_those_of_a_full_forward(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, batch_tokens: int, max_logits: int
) -> None:
    monkeypatch.setattr(torch_engine, "MAX_LOGITS", max_logits)
    prefixes, continuations = ragged(3)
    engine, held = TorchEngine(model_path, "float32", batch_tokens), list[int]()
    head = engine.model.get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, logits: held.append(logits.numel()))
    scored = engine.score(prefixes, continuations)
    assert max(held) <= max_logits
    for prefix, of_prefix, scores in zip(prefixes, continuations, scored, strict=True):
        assert len(scores) == len(of_prefix)
        for ids, logprobs in zip(of_prefix, scores, strict=True):
            np.testing.assert_allclose(logprobs, plain_scores(model_path, prefix, ids), atol=1e-4)


def test_the_score_of_a_continuation_does_not_depend_on_its_neighbours(model_path: Path) -> None:
    prefixes, continuations = ragged(11)
    engine = TorchEngine(model_path, "float32", 4096)
    together = engine.score(prefixes, continuations)
    for prefix, of_prefix, scores in zip(prefixes, continuations, together, strict=True):
        for ids, logprobs in zip(of_prefix, scores, strict=True):
            np.testing.assert_allclose(engine.score([prefix], [[ids]])[0][0], logprobs, atol=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 60])
def test_in_batches_of_any_size_the_same_samples_are_drawn(model_path: Path, batch_tokens: int) -> None:
    prompts, _ = ragged(9)
    draws = [[10 * i + k for k in range(3)] for i in range(len(prompts))]
    params = SamplingParams(10, STOP, temperature=0.9)
    whole = TorchEngine(model_path, "float32", 4096).sample(prompts, draws, params)
    split = TorchEngine(model_path, "float32", batch_tokens).sample(prompts, draws, params)
    for one, other in zip(itertools.chain(*whole), itertools.chain(*split), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_a_longer_limit_goes_on_where_the_shorter_one_stopped(model_path: Path) -> None:
    engine, draws = TorchEngine(model_path, "float32", 4096), [list(range(12))]
    short = engine.sample([[1, 2, 3]], draws, SamplingParams(4, STOP))[0]
    long = engine.sample([[1, 2, 3]], draws, SamplingParams(12, STOP))[0]
    assert [sample.ids[:4].tolist() for sample in long] == [sample.ids.tolist() for sample in short]
    assert any(len(sample.ids) > 4 for sample in long)


@pytest.mark.parametrize("params", [PLAIN, TRUNCATED])
def test_q_is_the_score_under_its_own_parameters(tiny_path: Path, params: SamplingParams) -> None:
    engine = TorchEngine(tiny_path, "float32", 2**20)
    exact = Enumerated.of(tiny_path, params)
    prompt = LAYOUT.posterior_prompt(CHUNK.prefix, CHUNK.suffix)
    scored = engine.score([prompt], [[free(ids, params.max_tokens) for ids in exact.thoughts]], params)[0]
    np.testing.assert_allclose([np.exp(log_q.sum()) for log_q in scored], exact.q, atol=1e-5)


def test_log_weights_that_are_no_numbers_are_refused_with_the_chunk(tiny_path: Path) -> None:
    engine = TorchEngine(tiny_path, "float32", 2**20)
    with torch.no_grad():
        engine.model.lm_head.weight[2] = torch.nan
    with pytest.raises(StageError, match=r"chunk 7: .*nan"):
        propose(engine, LAYOUT, [CHUNK], [[1, 2]], Scheme(PLAIN))


def test_of_one_token_a_thought_is_nothing_but_its_end(tiny_path: Path) -> None:
    engine = TorchEngine(tiny_path, "float32", 2**20)
    for prior in (0, 0.5):
        (found,) = propose(engine, LAYOUT, [CHUNK], [[1, 2]], Scheme(SamplingParams(1, STOP), prior))
        assert [ids.tolist() for ids in found.thoughts] == [[STOP], [STOP]] and found.cut.all()
        (score,) = engine.score([LAYOUT.joint_prompt(CHUNK.prefix)], [[[STOP, *CHUNK.suffix]]])[0]
        assert found.log_weights == pytest.approx([float(score.sum())] * 2, abs=1e-5)


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
    token, logprob = draw(row, torch.tensor([0]), torch.tensor([uniform], dtype=torch.float64), params)
    assert torch.isfinite(logprob).all()
    assert float(log_q[0, token[0]]) == float(logprob[0])
    assert not top_k or int((log_q > -torch.inf).sum()) <= top_k


@given(
    st.lists(st.integers(-40, 40).map(lambda value: value / 4), min_size=2, max_size=10, unique=True),
    st.sampled_from([0.5, 0.7, 1.0, 2.0]),
    st.sampled_from([0.31, 0.57, 0.83, 1.0]),
    st.integers(0, 11),
)
def test_the_proposal_is_tempered_cut_and_renormalised(
    logits: list[float], temperature: float, top_p: float, top_k: int
) -> None:
    """Against the definition, one token at a time: top-k first, then the fewest tokens that hold top_p."""
    weights = {token: np.exp(value / temperature) for token, value in enumerate(logits)}
    kept = sorted(weights, key=lambda token: -weights[token])[: top_k or None]
    mass, nucleus = sum(weights[token] for token in kept), []
    for token in kept:
        nucleus.append(token)
        share = sum(weights[token] for token in nucleus) / mass
        assume(abs(share - top_p) > 1e-5 or top_p == 1)
        if share >= top_p and top_p < 1:
            break
    total = sum(weights[token] for token in nucleus)
    expected = [weights[token] / total if token in nucleus else 0.0 for token in range(len(logits))]
    params = SamplingParams(1, STOP, temperature, top_p, top_k)
    found = log_proposal(torch.tensor([logits]), params)[0].exp()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_row_has_a_proposal_of_its_own() -> None:
    logits = torch.tensor(np.random.default_rng(0).normal(0, 3, (20, 12)))
    alone = torch.cat([log_proposal(row[None], TRUNCATED) for row in logits])
    assert torch.equal(log_proposal(logits, TRUNCATED), alone)


@pytest.mark.parametrize("params", [PLAIN, TRUNCATED])
def test_tokens_are_drawn_as_often_as_the_proposal_says(params: SamplingParams) -> None:
    count = 40_000
    logits = torch.tensor([[0.3, -1.0, 2.0, 1.1, -3.0, 0.9]]).expand(count, -1)
    uniforms = torch.tensor(np.random.default_rng(5).random(count))
    tokens, logprobs = draw(logits[:1], torch.zeros(count, dtype=torch.long), uniforms, params)
    log_q = log_proposal(logits[:1], params)[0]
    assert torch.equal(logprobs, log_q[tokens])
    q = log_q.double().exp().numpy()
    share = np.bincount(tokens.numpy(), minlength=6) / count
    assert np.all(np.abs(share - q) <= 4 * np.sqrt(q * (1 - q) / count) + 1e-9)


def test_the_ends_of_the_unit_interval_draw_the_first_and_the_last_possible_token() -> None:
    logits = torch.tensor([[-200.0, 0.0, 0.0, -200.0]]).expand(2, -1)
    uniforms = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    tokens, _ = draw(logits, torch.arange(2), uniforms, SamplingParams(1, STOP, top_k=2))
    assert tokens.tolist() == [1, 2]


def test_a_chunk_with_nothing_left_to_score_has_no_scores(model_path: Path) -> None:
    scored = TorchEngine(model_path, "float32", 1).score([[3], [4, 5]], [[[], []], [[6]]])
    assert [[len(scores) for scores in of_prefix] for of_prefix in scored] == [[0, 0], [1]]


def test_what_samples_and_continuations_of_a_prompt_share_is_computed_once(model_path: Path) -> None:
    engine, computed = TorchEngine(model_path, "float32", 2**20), []
    engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )

    def tokens(work: Callable[[], object]) -> int:
        computed.clear()
        work()
        return sum(computed)

    prompt, params = [3, 1, 4, 1, 5], SamplingParams(10, STOP)
    (alone,) = engine.sample([prompt], [[7]], params)[0]
    assert tokens(lambda: engine.sample([prompt], [[7]], params)) == len(prompt) + len(alone.ids) - 1
    assert tokens(lambda: engine.sample([prompt], [[7] * 20], params)) == len(prompt) + len(alone.ids) - 1
    scored = tokens(lambda: engine.score([prompt], [[[2, 3, 4], [5, 6, 7], [2, 3, 4]]]))
    assert scored == len(prompt) - 1 + 2 * 3
