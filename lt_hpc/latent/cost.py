"""What training costs: floating-point operations and memory, from a model's shape alone.

N parameters, L layers, d hidden size, T tokens of a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LAYER_BYTES = 45.0
"""Activations that a layer keeps, per token and hidden unit, in 16 bits."""
MASTER_BYTES = 12
"""Per parameter in AdamW: float32 master weight and two moments; also a checkpoint's size."""


@dataclass(frozen=True)
class ModelShape:
    """What the formulas need of a decoder-only transformer."""

    parameters: int
    layers: int
    hidden_size: int
    vocabulary: int


def flops_per_token(shape: ModelShape, length: float) -> float:
    """Floating-point operations that training needs for one token of documents with `length`
    tokens: 6N + 12 L d T, the model FLOPs of Chowdhery et al. (PaLM, arXiv 2204.02311,
    appendix B). Attention is counted in full, as there; recomputed activations are not.
    """
    return 6.0 * shape.parameters + 12.0 * shape.layers * shape.hidden_size * length


def state_bytes(shape: ModelShape, zero_stage: int, ranks: int, dtype_bytes: int) -> float:
    """Bytes a rank holds in weights, gradients and optimizer state under ZeRO (Rajbhandari et
    al., arXiv 1910.02054, section 3.1 and figure 1), with gradients accumulated in float32.

    Weights of `dtype_bytes` are whole up to stage 2, gradients up to stage 1, and the
    MASTER_BYTES of the optimizer only in stage 0. In float32 without ZeRO the weights
    are their own master. DeepSpeed's ZeRO-1 in 16 bits keeps the gradients of a micro-batch as well.
    """
    weights = dtype_bytes / (ranks if zero_stage >= 3 else 1)
    gradients = 4.0 / (ranks if zero_stage >= 2 else 1)
    gradients += dtype_bytes if zero_stage == 1 and dtype_bytes == 2 else 0
    master = MASTER_BYTES - 4 if zero_stage == 0 and dtype_bytes == 4 else MASTER_BYTES
    return shape.parameters * (weights + gradients + master / (ranks if zero_stage >= 1 else 1))


def activation_bytes(shape: ModelShape, tokens: int, dtype_bytes: int, checkpointing: bool) -> float:
    """Bytes of activations for `tokens` tokens in one forward: 45 d per layer and token in 16 bits,
    measured on the Llama of transformers with a feed-forward of 2.75 d (51 d with 3.5 d; the fused
    layer of Korthikanti et al., arXiv 2205.05198, section 4.1, keeps 34 d), without the attention matrix,
    which neither flash attention nor one document at a time keeps; with activation checkpointing
    the 2 d of each layer's input, and one layer in full. Then the logits and their gradient,
    in the training type and in float32.
    """
    layer = LAYER_BYTES * shape.hidden_size * tokens * dtype_bytes / 2
    kept = 2.0 * shape.hidden_size * tokens * dtype_bytes / 2
    layers = shape.layers * kept + layer if checkpointing else shape.layers * layer
    return layers + tokens * shape.vocabulary * 2.0 * (dtype_bytes + 4)


_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "n_ctx",
    "seq_length",
)


def longest_sequence(settings: dict[str, Any]) -> int | None:
    """Tokens that a model with this config.json has positions for, or None where it does not say."""
    text = settings.get("text_config") or {}
    found = [of[name] for of in (text, settings) for name in _POSITIONS if isinstance(of.get(name), int)]
    return min((one for one in found if one > 0), default=None)
