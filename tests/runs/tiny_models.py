"""Tiny random models: a folder each, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def make_llama(folder: Path, vocabulary: int, head_dim: int = 8, spread: float = 0.4) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=128,
        initializer_range=spread,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_gpt2(folder: Path, vocabulary: int, spread: float = 0.4) -> Path:
    """Absolute positions: it notices a row that is shifted by its padding, as a Llama does not."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=spread
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=[make_llama, make_gpt2], ids=["llama", "gpt2"])
def model_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of 32."""
    path: Path = request.param(tmp_path_factory.mktemp("model"), 32)
    return path


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of 6: few enough to enumerate every short thought."""
    return make_llama(tmp_path_factory.mktemp("tiny"), 6)
