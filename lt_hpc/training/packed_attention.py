"""Attention over packed documents without a mask: each document attends to itself alone.

A micro-batch of packed rows becomes one long row of documents. Flash attention takes it with
the documents' boundaries; elsewhere documents of similar lengths are gathered into a batch for
one causal scaled-dot-product call, in which the padding stands after every real token and so is
never attended to. That spares the square mask over the whole row, which transformers' own
detection of packed rows needs; and that detection holds for flash attention with one row only
and is lost when a cache is in use.

The keys of a document that borrows its first tokens from another one are gathered from both places,
its queries are its own tokens alone. There the diagonal begins further right, which takes a mask, of
own tokens by all of the document's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

from lt_hpc.training.batches import IGNORED

NAME = "lt_hpc.documents"
_FLASH = "flash_attention_2"


def implementation(dtype: str, borrowing: bool = False) -> str:
    """The attention transformers shall use: flash attention where it runs, else ours. transformers hands
    flash attention no tokens that are `borrowing`."""
    flash = torch.cuda.is_available() and dtype == "bfloat16" and is_flash_attn_2_available()
    return _FLASH if flash and not borrowing else NAME


@dataclass(frozen=True)
class Flat:
    """Documents one after the other: ids, positions and labels [T], lengths [documents], int64. A document
    borrows as many first tokens as its positions begin with, from the nearest before it that borrows none."""

    ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray

    @property
    def borrowed(self) -> np.ndarray:
        """[documents] int64."""
        return np.asarray(self.positions[np.cumsum(self.lengths) - self.lengths])


def flatten(ids: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> Flat:
    """One row of documents from packed rows [rows, capacity].

    A document without a label (the padding of a row) has no part in the loss and is left out;
    where none has one, a single token stays, since every rank has to take part in a step.
    """
    starts = np.flatnonzero(np.diff(positions.ravel(), prepend=-2) != 1)
    lengths = np.diff(np.append(starts, positions.size))
    labelled = np.add.reduceat(labels.ravel() != IGNORED, starts) > 0
    if not labelled.any():
        return Flat(ids.ravel()[:1], positions.ravel()[:1], labels.ravel()[:1], np.ones(1, dtype=np.int64))
    kept = np.repeat(labelled, lengths)
    return Flat(ids.ravel()[kept], positions.ravel()[kept], labels.ravel()[kept], lengths[labelled])


@dataclass(frozen=True)
class Group:
    """Documents of similar lengths side by side. `keys` [documents, L]: where their tokens stand in the row,
    borrowed ones first, 0 for the padding after them; `queries` [documents, Q]: the same of their own tokens.
    `newest` [documents, Q]: the last key that each query sees, or None where nothing is borrowed: its own."""

    keys: torch.Tensor
    queries: torch.Tensor
    newest: torch.Tensor | None

    @cached_property
    def visible(self) -> torch.Tensor | None:
        """[documents, 1, Q, L] bool: which keys each query sees, where something is borrowed."""
        return None if self.newest is None else ~_hidden(self, None)


@dataclass(frozen=True)
class Groups:
    """`inverse` [T] leads from the queries of all groups, flattened and one after the other, back to the
    row."""

    groups: list[Group]
    inverse: torch.Tensor


def group(lengths: np.ndarray, borrowed: np.ndarray, device: torch.device) -> Groups:
    """Group documents whose lengths, with and without what they borrow, lie between two powers of two."""
    starts, whole = np.cumsum(lengths) - lengths, borrowed + lengths
    lenders = starts[np.maximum.accumulate(np.where(borrowed == 0, np.arange(len(lengths)), 0))]
    powers = np.stack([borrowed > 0, *np.ceil(np.log2([whole, lengths]))])
    kinds, kind_of = np.unique(powers, axis=1, return_inverse=True)
    groups, inverse, base = [], np.zeros(int(lengths.sum()), dtype=np.int64), 0
    for kind in range(kinds.shape[1]):
        members = np.flatnonzero(kind_of == kind)
        skip, start = borrowed[members, None], starts[members, None]
        own = np.arange(lengths[members].max())
        real = own < lengths[members, None]
        queries = np.where(real, start + own, 0)
        inverse[queries[real]] = base + np.flatnonzero(real)
        base += queries.size
        if not skip.any():
            one = torch.from_numpy(queries).to(device)
            groups.append(Group(one, one, None))
            continue
        steps = np.arange(whole[members].max())
        place = np.where(steps < skip, lenders[members, None], start - skip) + steps
        keys = np.where(steps < whole[members, None], place, 0)
        newest = np.minimum(skip + own, steps[-1])
        groups.append(Group(*(torch.from_numpy(one).to(device) for one in (keys, queries, newest))))
    return Groups(groups, torch.from_numpy(inverse).to(device))


def boundaries(kind: str, flat: Flat, device: torch.device) -> dict[str, Any]:
    """Where the documents lie, as the keyword arguments that attention of this kind takes;
    transformers hands them on."""
    if kind == NAME:
        return {"documents": group(flat.lengths, flat.borrowed, device)}
    assert not flat.borrowed.any(), "flash attention finds no borrowed tokens"
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
    parts = []
    for one in documents.groups:
        narrow = window is not None and one.keys.shape[1] > window
        explicit = narrow or softcap or sinks is not None
        # On GPUs no fused kernel takes grouped heads in float32 or with a mask: the quadratic one would be
        # taken in silence.
        copied = grouped and query.is_cuda and (one.newest is not None or query.dtype == torch.float32)
        k, v = (_gathered(tensor, one.keys) for tensor in (key, value))
        q = _gathered(query, one.queries)
        if copied or explicit:
            k, v = (tensor.repeat_interleave(len(query[0]) // len(key[0]), dim=1) for tensor in (k, v))
        if explicit:
            scale = scaling or q.shape[-1] ** -0.5
            hidden = _hidden(one, window if narrow else None)
            found = _by_scores(q, k, v, scale, dropout, hidden, softcap, sinks)
        else:
            found = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, one.visible, dropout_p=dropout, scale=scaling, is_causal=one.visible is None,
                enable_gqa=grouped and not copied,
            )  # fmt: skip
        parts.append(found.transpose(1, 2).flatten(0, 1))  # [D Q, heads, d]
    return torch.cat(parts).index_select(0, documents.inverse)[None], None


def _gathered(tensor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[D, heads, L, d] of a tensor [1, heads, T, d], by an index [D, L]."""
    return tensor[0].index_select(1, index.view(-1)).unflatten(1, index.shape).transpose(0, 1)


def _hidden(group: Group, window: int | None) -> torch.Tensor:
    """[D or 1, 1, Q, L] bool: which keys a query does not see."""
    steps = torch.arange(group.keys.shape[1], device=group.keys.device)
    newest = (steps[None] if group.newest is None else group.newest)[:, None, :, None]
    hidden = steps > newest
    return hidden if window is None else hidden | (steps <= newest - window)


def _by_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    dropout: float,
    hidden: torch.Tensor,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """The same where torch has no fused kernel: a window of so many tokens, capped scores, or `sinks`
    [heads], scores that only take weight away. Memory grows with Q times L."""
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if softcap:
        scores = softcap * (scores / softcap).tanh()
    scores = scores.masked_fill(hidden, -torch.inf)
    if sinks is not None:
        of_heads = sinks.float()[None, :, None, None].expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, of_heads], dim=-1)
    weights = scores.softmax(dim=-1)[..., : key.shape[-2]].to(value.dtype)
    return torch.nn.functional.dropout(weights, dropout, training=dropout > 0) @ value


AttentionInterface.register(NAME, attend)
