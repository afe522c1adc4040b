"""Attention over shared prefixes on the kinds of models that there are, against plain transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GptOssConfig,
    Llama4TextConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from lt_hpc.engines import shared_prefix
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.engines.torch_engine import TorchEngine
from lt_hpc.errors import ConfigError
from tests.engines.exactness import STOP, plain_scores

COMMON = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "pad_token_id": 0,
}
KNOWN = {
    "a window of 5": MistralConfig(**COMMON, sliding_window=5),
    "softcap and a window on every other layer": Gemma2Config(
        **COMMON, sliding_window=4, attn_logit_softcapping=2.0, query_pre_attn_scalar=8
    ),
    "sinks": GptOssConfig(**COMMON, num_local_experts=2, num_experts_per_tok=1, sliding_window=6),
    "normalised queries": Qwen3Config(**COMMON),
}
UNKNOWN = {
    "biases by distance": BloomConfig(vocab_size=32, hidden_size=32, n_layer=2, n_head=4),
    "no attention": MambaConfig(vocab_size=32, hidden_size=32, num_hidden_layers=2, state_size=4),
    "attention in pieces": Llama4TextConfig(
        **COMMON, intermediate_size_mlp=64, num_local_experts=2, attention_chunk_size=4
    ),
}


def save(config: PreTrainedConfig, folder: Path) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("max_scores", [2**26, 1])
def test_samples_and_scores_are_those_of_full_forwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, max_scores: int
) -> None:
    monkeypatch.setattr(shared_prefix, "MAX_SCORES", max_scores)
    path = save(KNOWN[kind], tmp_path)
    rng = np.random.default_rng(3)
    prompts = [rng.integers(1, 32, size).tolist() for size in (1, 9, 4, 17)]
    engine = TorchEngine(path, "float32", 4096)
    sampled = engine.sample(prompts, [[1, 2, 3], [4], [5, 6], [7, 8, 9]], SamplingParams(12, STOP))
    scored = engine.score(prompts, [[one.ids.tolist() for one in of_prompt] for of_prompt in sampled])
    for prompt, of_prompt, scores in zip(prompts, sampled, scored, strict=True):
        for sample, logprobs in zip(of_prompt, scores, strict=True):
            wanted = plain_scores(path, prompt, sample.ids.tolist())
            np.testing.assert_allclose(sample.logprobs, wanted, atol=1e-4)
            np.testing.assert_allclose(logprobs, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_model_whose_attention_is_not_ours_to_replace_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"attention of \w+ForCausalLM: use sample.engine=vllm"):
        TorchEngine(save(UNKNOWN[kind], tmp_path), "float32", 4096)
