"""The same Llama with wider attention heads, for kernels that know only some head sizes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lt_hpc.errors import ConfigError


def head_size(config: AutoConfig) -> int:
    """Numbers in one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def with_supported_heads(model_path: Path, supported: Sequence[int], scratch: Path) -> Path:
    """`model_path`, or a copy in `scratch` whose heads are padded to the next size in `supported`.

    Exact up to rounding. Rotary embeddings (Su et al., arXiv 2104.09864) turn the pair (i, i + d/2)
    by theta^(-2i/d) per position; in a head of D > d the same pairs keep these frequencies with
    theta^(D/d) in place of theta. Scores are divided by sqrt(D), so queries grow by sqrt(D/d).

    Raises:
        ConfigError: when the heads have another size and the model is not a plain Llama.
    """
    config = AutoConfig.from_pretrained(model_path)
    size = head_size(config)
    if size in supported:
        return model_path
    wider = min((candidate for candidate in supported if candidate > size), default=None)
    rope = getattr(config, "rope_parameters", None) or {}
    plain = config.model_type == "llama" and rope.get("rope_type") == "default"
    if wider is None or not plain or config.attention_bias:
        sizes = ", ".join(map(str, supported))
        raise ConfigError(
            f"sample.engine=vllm: {model_path} has heads of {size}, this device takes {sizes}; "
            "use sample.engine=torch"
        )
    original = AutoModelForCausalLM.from_pretrained(model_path, dtype="auto")
    padded = copy.deepcopy(config)
    padded.head_dim = wider
    padded.rope_parameters = {**rope, "rope_theta": rope["rope_theta"] ** (wider / size)}
    state = {name: _padded(name, weight, size, wider) for name, weight in original.state_dict().items()}
    network = type(original)(padded).to(original.dtype)
    network.load_state_dict(state)
    network.save_pretrained(scratch)
    return scratch


def _padded(name: str, weight: torch.Tensor, size: int, wider: int) -> torch.Tensor:
    """One weight with zeros after each half of each head."""
    kind = name.split(".")[-2]
    if kind not in ("q_proj", "k_proj", "v_proj", "o_proj"):
        return weight
    rows = weight.T if kind == "o_proj" else weight  # [heads * size, ...]
    halves = rows.reshape(-1, size // 2, rows.shape[1])
    zeros = halves.new_zeros(len(halves), (wider - size) // 2, rows.shape[1])
    rows = torch.cat([halves, zeros], dim=1).reshape(-1, rows.shape[1])
    if kind == "q_proj":
        rows = rows * (wider / size) ** 0.5
    return rows.T.contiguous() if kind == "o_proj" else rows
