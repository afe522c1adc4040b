"""The vLLM engine on a CPU, against plain transformers and the enumeration of every thought."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import VllmConfig
from lt_hpc.engines.head_padding import head_size, with_supported_heads
from lt_hpc.engines.load import load
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.engines.vllm_engine import CPU_BLOCK_TOKENS, VllmEngine
from lt_hpc.errors import ConfigError
from tests.engines.exactness import (
    PLAIN,
    STOP,
    TRUNCATED,
    check_against_the_enumeration,
    plain_logits,
    plain_scores,
)
from tests.runs.tiny_models import make_gpt2, make_llama

CACHE = VllmConfig(kv_cache_gb=0.1)
NO_STOP = -1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of 6, 128 positions, and heads that vLLM takes as they are."""
    return make_llama(tmp_path_factory.mktemp("served"), 6, head_dim=32, spread=0.15)


@pytest.fixture(scope="module")
def engine(path: Path) -> VllmEngine:
    return VllmEngine(path, "float32", CACHE, 128)


def ragged(seed: int, longest: int = 40) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 6, size).tolist() for size in (1, longest, 33, 4, 32)]


@pytest.mark.parametrize("params", [PLAIN, TRUNCATED], ids=["plain", "truncated"])
def test_samples_and_weights_agree_with_the_enumeration(
    engine: VllmEngine, path: Path, params: SamplingParams
) -> None:
    check_against_the_enumeration(engine, path, params, 3000)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(40, NO_STOP),
        SamplingParams(40, STOP, temperature=0.7, top_p=0.9),
        SamplingParams(40, STOP, temperature=0.7, top_p=0.9, top_k=4),
    ],
    ids=["plain", "top-p", "top-k and top-p"],
)
def test_log_q_is_the_density_the_tokens_were_drawn_from(
    engine: VllmEngine, path: Path, params: SamplingParams
) -> None:
    prompts = ragged(5)
    draws = [[2**62 + 100 * i + k for k in range(4)] for i in range(len(prompts))]
    first = engine.sample(prompts, draws, params)
    for prompt, samples in zip(prompts, first, strict=True):
        assert len({sample.ids.tobytes() for sample in samples}) > 1, "seeds must differ"
        for sample in samples:
            ids = sample.ids.tolist()
            assert sample.finished == (ids[-1] == params.stop_id)
            assert params.stop_id not in ids[:-1]
            assert sample.finished or len(ids) == params.max_tokens
            np.testing.assert_allclose(sample.logprobs, plain_scores(path, prompt, ids, params), atol=1e-4)


def test_the_models_own_end_of_text_does_not_end_a_sample(engine: VllmEngine, path: Path) -> None:
    own = AutoConfig.from_pretrained(path).eos_token_id
    assert own not in (None, STOP)
    samples = engine.sample([[1]], [list(range(30))], SamplingParams(20, STOP))[0]
    assert any(own in sample.ids[:-1] for sample in samples)


def test_a_block_gives_the_same_bytes_again_and_after_other_work(engine: VllmEngine) -> None:
    prompts, params = ragged(9), SamplingParams(30, STOP, temperature=0.9)
    draws = [[10 * i + k for k in range(3)] for i in range(len(prompts))]

    def block() -> list[bytes]:
        samples = engine.sample(prompts, draws, params)
        scores = engine.score(prompts, [[one.ids.tolist() for one in many] for many in samples])
        return [
            *(
                part
                for one in itertools.chain(*samples)
                for part in (one.ids.tobytes(), one.logprobs.tobytes())
            ),
            *(one.tobytes() for one in itertools.chain(*scores)),
        ]

    first = block()
    engine.sample(ragged(10), [[1, 2]] * 5, params)
    engine.score(prompts, [[[1, 2, 3]]] * 5)
    assert block() == first


def test_a_sample_depends_on_its_seed_and_not_on_what_is_batched_with_it(engine: VllmEngine) -> None:
    prompts, params = ragged(9), SamplingParams(30, STOP, temperature=0.9)
    draws = [[10 * i + k for k in range(3)] for i in range(len(prompts))]
    whole = engine.sample(prompts, draws, params)
    alone = [
        engine.sample([prompt], [of_one], params)[0] for prompt, of_one in zip(prompts, draws, strict=True)
    ]
    for one, other in zip(itertools.chain(*whole), itertools.chain(*alone), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_each_prompt_has_as_many_samples_as_seeds_and_a_seed_repeats_its_sample(engine: VllmEngine) -> None:
    params = SamplingParams(16, NO_STOP)
    samples = engine.sample([[1, 2], [3], [4, 5, 1]], [[7, 8, 7], [], [9]], params)
    assert [len(of_prompt) for of_prompt in samples] == [3, 0, 1]
    first, second, third = (sample.ids.tolist() for sample in samples[0])
    assert first == third != second
    assert engine.sample([], [], params) == []


def test_greedy_takes_the_most_likely_token(engine: VllmEngine, path: Path) -> None:
    prompt = [3, 1, 4, 1, 5]
    sample = engine.sample([prompt], [[0]], SamplingParams(6, STOP, temperature=0))[0][0]
    so_far = list(prompt)
    for token in sample.ids.tolist():
        assert token == int(plain_logits(path, so_far)[-1].argmax())
        so_far.append(token)
    assert sample.logprobs.tolist() == [0.0] * len(sample.ids)


def siblings(rng: np.random.Generator) -> list[list[int]]:
    """Continuations that share much, little and nothing, so that some of their blocks are in the cache."""
    start = rng.integers(1, 6, 2 * CPU_BLOCK_TOKENS).tolist()
    half = start[: CPU_BLOCK_TOKENS + 5]
    return [
        start, [*start, 1, 2, 3], [*half, 4, 4], [*start, 1, 2, 3], start[:3], [], [5],
    ]  # fmt: skip


def test_scores_are_those_of_a_full_forward(engine: VllmEngine, path: Path) -> None:
    rng = np.random.default_rng(3)
    prefixes = ragged(3)
    continuations = [siblings(rng) for _ in prefixes]
    for attempt in range(2):  # the second time every block is in the cache
        scored = engine.score(prefixes, continuations)
        for prefix, of_prefix, scores in zip(prefixes, continuations, scored, strict=True):
            for ids, logprobs in zip(of_prefix, scores, strict=True):
                wanted = plain_scores(path, prefix, ids) if ids else []
                np.testing.assert_allclose(logprobs, wanted, atol=2e-4, err_msg=f"attempt {attempt}")


def test_a_position_read_from_the_cache_is_noticed(engine: VllmEngine) -> None:
    """What makes the scores above right: vLLM leaves such log-probabilities unset."""
    prefix, ids = ragged(4)[1], ragged(6, longest=2 * CPU_BLOCK_TOKENS)[1]
    engine.llm.reset_prefix_cache()
    (_, unseen), (_, cached), (_, uncached) = (
        engine._prompt_logprobs([(prefix, ids)], use_cache)[0] for use_cache in (True, True, False)
    )
    assert unseen == uncached == 0 < cached


def test_untempered_samples_score_as_they_were_drawn(engine: VllmEngine) -> None:
    prompts = ragged(7)
    samples = engine.sample(prompts, [[i, 50 + i] for i in range(len(prompts))], SamplingParams(40, STOP))
    scores = engine.score(prompts, [[sample.ids.tolist() for sample in of_prompt] for of_prompt in samples])
    for of_prompt, scored in zip(samples, scores, strict=True):
        for sample, logprobs in zip(of_prompt, scored, strict=True):
            np.testing.assert_allclose(sample.logprobs, logprobs, atol=1e-4)


def test_what_does_not_fit_is_refused(engine: VllmEngine) -> None:
    params = SamplingParams(28, STOP)
    assert engine.sample([[1] * 100], [[0]], params)
    with pytest.raises(ConfigError, match=r"model\.context_length"):
        engine.sample([[1] * 101], [[0]], params)
    with pytest.raises(ConfigError, match=r"model\.context_length"):
        engine.score([[1] * 100], [[[2] * 28]])


def test_too_little_memory_is_named_with_its_field(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sample\.vllm\.kv_cache_gb"):
        VllmEngine(path, "float32", dataclasses.replace(CACHE, kv_cache_gb=1e-5), 128)


def test_a_missing_vllm_is_named_with_its_field(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lt_hpc.engines.vllm_engine")
    monkeypatch.setitem(sys.modules, "vllm", None)
    config = load_config(demo_file(), ["sample.engine=vllm"])
    with pytest.raises(ConfigError, match=r"sample\.engine=vllm"):
        load(config, path, "float32")


def test_padded_heads_change_no_logit(tiny_path: Path, tmp_path: Path) -> None:
    assert with_supported_heads(tiny_path, [8, 32], tmp_path) == tiny_path
    padded = with_supported_heads(tiny_path, [16, 32], tmp_path)
    assert head_size(AutoConfig.from_pretrained(padded)) == 16
    ids = torch.tensor([ragged(1)[1]])
    with torch.inference_mode():
        before = AutoModelForCausalLM.from_pretrained(tiny_path)(ids).logits
        after = AutoModelForCausalLM.from_pretrained(padded)(ids).logits
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_heads_that_can_not_be_padded_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="heads of 8"):
        with_supported_heads(make_gpt2(tmp_path / "gpt2", 6), [32], tmp_path)
    with pytest.raises(ConfigError, match="heads of 8"):
        with_supported_heads(make_llama(tmp_path / "llama", 6), [4], tmp_path)
