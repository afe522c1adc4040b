"""What training costs: floating-point operations and memory, from a model's shape alone.

N parameters, L layers, d hidden size, f width of the feed-forward layers, T tokens of a document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HIDDEN_BYTES, FEED_FORWARD_BYTES = 23.0, 8.0
"""Activations that a layer keeps, per token and hidden or feed-forward unit, in 16 bits."""
USUAL_FEED_FORWARD = 2.75
"""f / d of Llama-like models, where it is not known."""
BUCKET_ELEMENTS, LIVE_ELEMENTS = 5e8, 1e9
"""DeepSpeed's defaults: gradients that are reduced together, parameters that ZeRO-3 has gathered."""
CONTEXT_BYTES = 1.5e9
"""What CUDA and NCCL take of a GPU, outside of torch's allocator; between 1 and 2 GB as a rule."""
PROMPT_ROWS, PROMPT_BYTES = 1024, 7
"""Rows of logits that vLLM scores at once, and bytes per row and token of the vocabulary: 16 bits, float32,
and what lies between."""
MASTER_BYTES = 12
"""Per parameter in AdamW: float32 master weight and two moments; also a checkpoint's size."""


@dataclass(frozen=True)
class ModelShape:
    """What the formulas need of a decoder-only transformer."""

    parameters: int
    layers: int
    hidden_size: int
    vocabulary: int
    intermediate_size: int | None = None

    @property
    def feed_forward(self) -> float:
        """f."""
        return self.intermediate_size or USUAL_FEED_FORWARD * self.hidden_size


def flops_per_token(shape: ModelShape, length: float) -> float:
    """Floating-point operations that training needs for one token of documents with `length`
    tokens: 6N + 12 L d T, the model FLOPs of Chowdhery et al. (PaLM, arXiv 2204.02311,
    appendix B). Attention is counted in full, as there; recomputed activations are not.
    """
    return 6.0 * shape.parameters + 12.0 * shape.layers * shape.hidden_size * length


def forward_flops(shape: ModelShape, tokens: float) -> float:
    """Floating-point operations that sampling or scoring needs for so many tokens, each computed once: 2N per
    token. Attention is left out, which at the published sizes adds less than a tenth."""
    return 2.0 * shape.parameters * tokens


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


def buffer_bytes(shape: ModelShape, zero_stage: int, dtype_bytes: int, float32_reduction: bool) -> float:
    """Bytes a rank holds under ZeRO-2 and 3 besides `state_bytes`: one bucket of gradients on their way to
    other ranks, whole however small the model is, and under ZeRO-3 the parameters it has gathered
    (DeepSpeed 0.19: stage_1_and_2.py, stage3.py, zero/config.py)."""
    bucket = BUCKET_ELEMENTS * (4 if float32_reduction else dtype_bytes) if zero_stage >= 2 else 0.0
    live = min(LIVE_ELEMENTS, shape.parameters) * dtype_bytes if zero_stage >= 3 else 0.0
    return bucket + live


def activation_bytes(shape: ModelShape, tokens: int, dtype_bytes: int, checkpointing: bool) -> float:
    """Bytes of activations for `tokens` tokens in one forward: 23 d + 8 f per layer and token in 16 bits,
    measured on the Llama of transformers (tests/training/test_memory.py): 45 d for f = 2.75 d, 51 d for
    3.5 d; the fused layer of Korthikanti et al., arXiv 2205.05198, section 4.1, keeps 34 d. Without the
    attention matrix, which neither flash attention nor one document at a time keeps; with activation
    checkpointing the 2 d of each layer's input, and one layer in full. Then the logits and their gradient,
    in the training type and in float32.
    """
    per_token = HIDDEN_BYTES * shape.hidden_size + FEED_FORWARD_BYTES * shape.feed_forward
    layer = per_token * tokens * dtype_bytes / 2
    kept = 2.0 * shape.hidden_size * tokens * dtype_bytes / 2
    layers = shape.layers * kept + layer if checkpointing else shape.layers * layer
    return layers + tokens * shape.vocabulary * 2.0 * (dtype_bytes + 4)


def prompt_bytes(tokens: int, vocabulary: int) -> float:
    """Bytes that vLLM takes of a GPU to score a prompt, outside of what it plans with."""
    return float(min(tokens, PROMPT_ROWS) * vocabulary * PROMPT_BYTES)


def reference_bytes(parameters: int, longest: int, vocabulary: int) -> float:
    """Bytes of a model in float32 that checks an engine beside it, with the logits of one sequence."""
    return 4.0 * parameters + 8.0 * longest * vocabulary + CONTEXT_BYTES


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


def cost_of(prompt_tokens: float, answer_tokens: float, settings: Mapping[str, Any]) -> float | None:
    """USD of a teacher's tokens at `price_prompt` and `price_answer` per million; None without these."""
    prices = settings.get("price_prompt"), settings.get("price_answer")
    if prices[0] is None or prices[1] is None:
        return None
    return float(prompt_tokens * prices[0] + answer_tokens * prices[1]) / 1e6
