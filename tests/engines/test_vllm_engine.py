"""What is vLLM's own, on a CPU: its cache, its limits, its heads. What every engine promises stands in
test_contract.py."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import VllmConfig
from lt_hpc.engines import vllm_engine
from lt_hpc.engines.head_padding import head_size, with_supported_heads
from lt_hpc.engines.load import load
from lt_hpc.engines.protocol import Draw, SamplingParams, Score, Work
from lt_hpc.engines.vllm_engine import CPU_BLOCK_TOKENS, VllmEngine, of_continuation, prompt_logprobs
from lt_hpc.errors import ConfigError
from tests.engines.exactness import STOP
from tests.runs.tiny_models import make_gpt2, make_llama


def ragged(seed: int, longest: int = 40) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 6, size).tolist() for size in (1, longest, 33, 4, 32)]


def test_the_models_own_end_of_text_does_not_end_a_sample(vllm_engine: VllmEngine, served_path: Path) -> None:
    own = AutoConfig.from_pretrained(served_path).eos_token_id
    assert own not in (None, STOP)
    samples = vllm_engine.sample([[1]], [list(range(30))], SamplingParams(20, STOP))[0]
    assert any(own in sample.ids[:-1] for sample in samples)


def test_a_position_read_from_the_cache_is_noticed(vllm_engine: VllmEngine) -> None:
    """What makes its scores right: vLLM leaves such log-probabilities unset."""
    prefix, ids = ragged(4)[1], ragged(6, longest=2 * CPU_BLOCK_TOKENS)[1]
    vllm_engine.llm.reset_prefix_cache()
    missing = []
    for use_cache in (True, True, False):
        (output,) = vllm_engine.llm.generate(
            {"prompt_token_ids": [*prefix, *ids]},
            prompt_logprobs(use_cache),
            use_tqdm=False,
        )
        found = np.array(output.prompt_logprobs.logprobs, np.float32)
        cached = output.num_cached_tokens or 0
        missing.append(of_continuation(found, len(prefix), len(ids), cached)[1])
    unseen, cached, uncached = missing
    assert unseen == uncached == 0 < cached


def test_once_stopping_what_has_begun_is_given_and_nothing_is_left_in_vllm(
    vllm_engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_engine._queue, "room", 6)
    params, steps = SamplingParams(12, -1), itertools.count()

    def work(prompt: list[int], seed: int) -> Work[list[np.ndarray]]:
        samples = yield Draw(prompt, [seed, seed + 1], params)
        return (yield Score(prompt, [one.ids.tolist() for one in samples]))

    blocks = ((n, [work(prompt, 10 * n + k) for k, prompt in enumerate(ragged(n))]) for n in range(9))
    found = dict(vllm_engine.complete(blocks, lambda: next(steps) > 8))
    assert 0 in found and len(found) < 9
    assert all(len(score) == 12 for of_block in found.values() for scores in of_block for score in scores)
    assert not vllm_engine.llm.llm_engine.has_unfinished_requests()
    assert vllm_engine.sample([[1]], [[0]], params)


def test_what_does_not_fit_is_refused(vllm_engine: VllmEngine) -> None:
    params = SamplingParams(28, STOP)
    assert vllm_engine.sample([[1] * 100], [[0]], params)
    with pytest.raises(ConfigError, match=r"model\.context_length"):
        vllm_engine.sample([[1] * 101], [[0]], params)
    with pytest.raises(ConfigError, match=r"model\.context_length"):
        vllm_engine.score([[1] * 100], [[[2] * 28]])


def test_too_little_memory_is_named_with_its_field(served_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sample\.vllm\.kv_cache_gb"):
        VllmEngine(served_path, "float32", VllmConfig(kv_cache_gb=1e-5), 128)


def test_a_missing_vllm_is_named_with_its_field(served_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lt_hpc.engines.vllm_engine")
    monkeypatch.setitem(sys.modules, "vllm", None)
    config = load_config(demo_file(), ["sample.engine=vllm"])
    with pytest.raises(ConfigError, match=r"sample\.engine=vllm"):
        load(config, served_path, "float32")


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


def test_the_build_for_cpus_is_refused_beside_gpus_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"CPU build is installed, and this node has GPUs.*setup\.sh vllm,"):
        VllmEngine(tmp_path / "no model", "float32", VllmConfig(), 128)


def test_the_build_for_gpus_is_refused_without_one_or_with_one_that_torch_was_not_built_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = SimpleNamespace(
        is_cpu=lambda: False, get_device_capability=lambda: SimpleNamespace(major=7, minor=0)
    )
    monkeypatch.setattr(vllm_engine, "current_platform", found)
    with pytest.raises(ConfigError, match=r"no GPU is here; set gpus_per_node of slurm\.sample"):
        VllmEngine(tmp_path / "no model", "float32", VllmConfig(), 128)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    with pytest.raises(ConfigError, match=r"built for sm_80, sm_90, not for this GPU .* 7\.0"):
        VllmEngine(tmp_path / "no model", "float32", VllmConfig(), 128)
