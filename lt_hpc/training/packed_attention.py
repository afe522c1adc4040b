"""Attention over packed documents without a mask: each document attends to itself alone.

A micro-batch of packed rows becomes one long row of documents. Flash attention takes it with
the documents' boundaries; elsewhere documents of similar lengths are gathered into a batch for
one causal scaled-dot-product call, in which the padding stands after every real token and so is
never attended to. That spares the square mask over the whole row, which transformers' own
detection of packed rows needs; and that detection holds for flash attention with one row only
and is lost when a cache is in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

from lt_hpc.training.batches import IGNORED

NAME = "lt_hpc.documents"
_FLASH = "flash_attention_2"


def implementation(dtype: str) -> str:
    """The attention transformers shall use: flash attention where it runs, else ours."""
    flash = torch.cuda.is_available() and dtype == "bfloat16" and is_flash_attn_2_available()
    return _FLASH if flash else NAME


@dataclass(frozen=True)
class Flat:
    """Documents one after the other: ids, positions and labels [T], lengths [documents], int64."""

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray


def flatten(ids: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> Flat:
    """One row of documents from packed rows [rows, capacity].

    A document without a label (the padding of a row) has no part in the loss and is left out;
    where none has one, a single token stays, since every rank has to take part in a step.
    """
    starts = np.flatnonzero(positions.ravel() == 0)
    lengths = np.diff(np.append(starts, positions.size))
    labelled = np.add.reduceat(labels.ravel() != IGNORED, starts) > 0
    if not labelled.any():
        return Flat(ids.ravel()[:1], positions.ravel()[:1], labels.ravel()[:1], np.ones(1, dtype=np.int64))
    kept = np.repeat(labelled, lengths)
    return Flat(ids.ravel()[kept], positions.ravel()[kept], labels.ravel()[kept], lengths[labelled])


@dataclass(frozen=True)
class Groups:
    """Documents of similar lengths side by side: `indices` [documents, longest] are positions in
    the row, those of the padding 0; `inverse` [T] leads from the groups, flattened and one
    after the other, back to the row."""

    indices: list[torch.Tensor]
    inverse: torch.Tensor
    longest: int


def group(lengths: np.ndarray, device: torch.device) -> Groups:
    """Group documents whose lengths lie between two powers of two."""
    starts = np.cumsum(lengths) - lengths
    powers = np.ceil(np.log2(lengths)).astype(int)
    indices, inverse, base = [], np.zeros(int(lengths.sum()), dtype=np.int64), 0
    for power in np.unique(powers):
        members = np.flatnonzero(powers == power)
        steps = np.arange(lengths[members].max())
        real = steps < lengths[members, None]
        index = np.where(real, starts[members, None] + steps, 0)
        inverse[index[real]] = base + np.flatnonzero(real)
        base += index.size
        indices.append(torch.from_numpy(index).to(device))
    return Groups(indices, torch.from_numpy(inverse).to(device), int(lengths.max()))


def boundaries(kind: str, flat: Flat, device: torch.device) -> dict[str, Any]:
    """Where the documents lie, as the keyword arguments that attention of this kind takes;
    transformers hands them on."""
    if kind == NAME:
        return {"documents": group(flat.lengths, device)}
    ends = np.concatenate([[0], np.cumsum(flat.lengths)])
    offsets = torch.from_numpy(ends.astype(np.int32)).to(device)
    longest = int(flat.lengths.max())
    return {
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    documents: Groups | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document: query [1, heads, T, d], result [1, T, heads, d].

    Raises:
        NotImplementedError: for a kind of attention that plain scaled dot products are not.
    """
    if documents is None or more.get("position_bias") is not None:
        lacking = "rows without their documents" if documents is None else "position_bias"
        raise NotImplementedError(f"packed training without flash attention: no {lacking}")
    window, softcap, sinks = (more.get(name) for name in ("sliding_window", "softcap", "s_aux"))
    grouped = query.shape[1] != key.shape[1]
    # On GPUs no fused kernel takes grouped heads in float32: the quadratic one would be taken in silence.
    copied = grouped and query.is_cuda and query.dtype == torch.float32
    parts = []
    for index in documents.indices:  # [D, L]
        narrow = window is not None and index.shape[1] > window
        q, k, v = (
            tensor[0].index_select(1, index.view(-1)).unflatten(1, index.shape).transpose(0, 1)
            for tensor in (query, key, value)
        )
        if copied or narrow or softcap or sinks is not None:
            k, v = (tensor.repeat_interleave(len(query[0]) // len(key[0]), dim=1) for tensor in (k, v))
        if narrow or softcap or sinks is not None:
            scale = scaling or q.shape[-1] ** -0.5
            found = _by_scores(q, k, v, scale, dropout, window if narrow else None, softcap, sinks)
        else:
            found = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped and not copied
            )
        parts.append(found.transpose(1, 2).flatten(0, 1))  # [D L, heads, d]
    return torch.cat(parts).index_select(0, documents.inverse)[None], None


def _by_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    dropout: float,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """The same where torch has no fused kernel: a window of so many tokens, capped scores, or `sinks`
    [heads], scores that only take weight away. All [D, heads, L, d]; memory grows with L squared."""
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if softcap:
        scores = softcap * (scores / softcap).tanh()
    steps = torch.arange(scores.shape[-1], device=scores.device)
    hidden = steps > steps[:, None]
    if window is not None:
        hidden |= steps <= steps[:, None] - window
    scores = scores.masked_fill(hidden, -torch.inf)
    if sinks is not None:
        of_heads = sinks.float()[None, :, None, None].expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, of_heads], dim=-1)
    weights = scores.softmax(dim=-1)[..., : key.shape[-2]].to(value.dtype)
    return torch.nn.functional.dropout(weights, dropout, training=dropout > 0) @ value


AttentionInterface.register(NAME, attend)
