"""What the estimate says of activations is what training keeps: a real model with packed attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lt_hpc.latent.cost import ModelShape, activation_bytes
from lt_hpc.training import packed_attention

HIDDEN, VOCABULARY = 512, 100


def kept_bytes(feed_forward: int, layers: int, lengths: list[int], checkpointing: bool) -> int:
    """Bytes that one forward in bfloat16 keeps for its backward pass, without the head and the weights."""
    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=feed_forward, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=2, attn_implementation=packed_attention.NAME,
    )  # fmt: skip
    model = LlamaForCausalLM(settings).to(torch.bfloat16).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor  # held, so that no other one gets its address
        return tensor

    ids = np.random.default_rng(0).integers(0, VOCABULARY, sum(lengths))[None]
    positions = np.concatenate([np.arange(length) for length in lengths])[None]
    flat = packed_attention.flatten(ids, positions, ids)
    where = packed_attention.boundaries(packed_attention.NAME, flat, torch.device("cpu"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(
            input_ids=torch.from_numpy(flat.ids)[None],
            position_ids=torch.from_numpy(flat.positions)[None],
            use_cache=False,
            **where,
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("feed_forward", [1408, 1792])  # 2.75 d as TinyLlama, 3.5 d as Llama-3
@pytest.mark.parametrize("lengths", [[384], [150, 120, 114]])
def test_a_layer_keeps_what_the_estimate_says(
    feed_forward: int, lengths: list[int], checkpointing: bool
) -> None:
    tokens = sum(lengths)
    two, four = (kept_bytes(feed_forward, layers, lengths, checkpointing) for layers in (2, 4))
    estimated = [
        activation_bytes(ModelShape(0, layers, HIDDEN, VOCABULARY, feed_forward), tokens, 2, checkpointing)
        for layers in (2, 4)
    ]
    assert (four - two) / 2 == pytest.approx((estimated[1] - estimated[0]) / 2, rel=0.1)
