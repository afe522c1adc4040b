"""Attention of continuations over prefixes that many of them share.

A prefix is computed and held once, however many continuations it has. Attention runs over the
prefix, for all its continuations in one product, and over each continuation's own tokens; the two
are put together by their softmax denominators (as in Hydragen, Juravsky et al. 2024, arXiv
2402.05099). No key or value is copied for a continuation.
Shapes: N prefixes of width P, padded on the right; R continuations with T new tokens, L tokens
in all; H heads, of which groups of G share one of B keys and values; d head width.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache

NAME = "lt_hpc.shared_prefix"
MAX_SCORES = 2**26
"""Attention scores held at once: 256 MiB in float32."""


@dataclass
class Prefixes:
    """Keys and values of N prefixes [N, B, P, d] in the model's dtype, by layer; their `lengths` [N]
    int64, tokens; and which of them each continuation goes on from: `owners` [R] int64, ascending."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    lengths: torch.Tensor
    owners: torch.Tensor
    calls: int = field(default=0)
    """Number of attention calls that used these prefixes; 0 means the model bypasses our attention."""

    @classmethod
    def nothing(cls, rows: int, device: torch.device) -> Prefixes:
        """Of sequences that go on from no tokens at all."""
        return cls([], torch.zeros(rows, dtype=torch.long, device=device), torch.arange(rows, device=device))

    @classmethod
    def computed(cls, cache: DynamicCache, lengths: torch.Tensor) -> Prefixes:
        """From the cache of one forward over the padded prefixes."""
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return cls(layers, lengths, torch.arange(len(lengths), device=lengths.device))

    def of(self, owners: torch.Tensor) -> Prefixes:
        """The same for other continuations; prefixes are let go once half of them have none."""
        used = torch.zeros(len(self.lengths), dtype=torch.bool, device=owners.device)
        used[owners] = True
        kept = used.nonzero()[:, 0]
        if 2 * len(kept) > len(used):
            return Prefixes(self.layers, self.lengths, owners)
        layers = [(keys[kept], values[kept]) for keys, values in self.layers]
        return Prefixes(layers, self.lengths[kept], (used.cumsum(0) - 1)[owners])

    @functools.cached_property
    def rows(self) -> torch.Tensor:
        """[N, K] int64: continuations of each prefix, 0 where it has fewer than the most."""
        rows = torch.zeros(len(self.lengths), self._slots[1], dtype=torch.long, device=self.owners.device)
        rows.view(-1)[self.places] = torch.arange(len(self.owners), device=self.owners.device)
        return rows

    @functools.cached_property
    def places(self) -> torch.Tensor:
        """[R] int64: where each continuation stands in `rows`, flattened."""
        slots, most = self._slots
        return self.owners * most + slots

    @functools.cached_property
    def padding(self) -> torch.Tensor:
        """[N, 1, 1, P] bool: which keys belong to no prefix."""
        steps = torch.arange(self.layers[0][0].shape[2], device=self.lengths.device)
        return (steps >= self.lengths[:, None])[:, None, None]

    @functools.cached_property
    def _slots(self) -> tuple[torch.Tensor, int]:
        counts = torch.bincount(self.owners, minlength=len(self.lengths))
        first = counts.cumsum(0) - counts
        return torch.arange(len(self.owners), device=self.owners.device) - first[self.owners], int(
            counts.max()
        )


@dataclass(frozen=True)
class _Part:
    """Softmax over some of the keys, not yet divided, float32: sum of exp(score - top) value
    [.., Q, d], the same without values [.., Q, 1], and the largest score [.., Q, 1]."""

    numerator: torch.Tensor
    denominator: torch.Tensor
    top: torch.Tensor

    def __add__(self, other: _Part) -> _Part:
        top = torch.maximum(self.top, other.top)
        mine, others = (self.top - top).exp_(), (other.top - top).exp_()
        return _Part(
            (self.numerator * mine).addcmul_(other.numerator, others),
            (self.denominator * mine).addcmul_(other.denominator, others),
            top,
        )


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    prefixes: Prefixes | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """query [R, H, T, d] over key and value [R, B, L, d] and over their prefixes: [R, T, H, d],
    in the query's dtype.

    Raises:
        NotImplementedError: for a model that keeps the prefixes from its attention, or needs a bias.
    """
    if prefixes is None or more.get("position_bias") is not None:
        raise NotImplementedError(f"{type(module).__name__}: attention over shared prefixes")
    prefixes.calls += 1
    groups, new, length = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    rule = functools.partial(_part, softcap=softcap)
    # Scores are float32 whatever the model's dtype: rounded ones would move log-weights.
    scaled = query.float() * (scaling or query.shape[-1] ** -0.5)
    folded = scaled.unflatten(1, (key.shape[1], groups)).flatten(2, 3)  # [R, B, G T, d]
    steps = torch.arange(length, device=query.device)
    newest = steps[length - new :, None]
    hidden = None
    if new > 1 or (sliding_window and length > sliding_window):
        hidden = steps > newest
        if sliding_window:
            hidden |= steps <= newest - sliding_window
        hidden = hidden.repeat(groups, 1)[None, None]
    parts = [rule(folded, key, value, hidden)]
    if prefixes.layers:
        parts.append(_over_prefixes(rule, folded, prefixes, module.layer_idx, newest, sliding_window))
    result = _join(parts, s_aux, groups)
    return result.unflatten(2, (groups, new)).flatten(1, 2).transpose(1, 2).to(query.dtype), None


def _over_prefixes(
    rule: Any, folded: torch.Tensor, prefixes: Prefixes, layer: int, newest: torch.Tensor, window: int | None
) -> _Part:
    """The part of every continuation that its prefix makes up."""
    keys, values = prefixes.layers[layer]
    num_prefixes, most = prefixes.rows.shape
    queries = folded.index_select(0, prefixes.rows.view(-1)).unflatten(0, (num_prefixes, most))
    queries = queries.transpose(1, 2).flatten(2, 3)  # [N, B, K G T, d]
    hidden = prefixes.padding
    if window:
        steps = torch.arange(keys.shape[2], device=keys.device)
        outside = steps <= prefixes.lengths[:, None, None] + newest - window  # [N, T, P]
        hidden = hidden | outside.repeat(1, queries.shape[2] // len(newest), 1)[:, None]
    part = rule(queries, keys, values, hidden)

    def back(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.unflatten(2, (most, -1)).transpose(1, 2).flatten(0, 1)
        return tensor.index_select(0, prefixes.places)

    return _Part(back(part.numerator), back(part.denominator), back(part.top))


def _part(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    hidden: torch.Tensor | None,
    softcap: float | None,
) -> _Part:
    """Scaled queries [.., Q, d] over keys and values [.., L, d], of which some are hidden [.., Q, L]."""
    at_once = max(1, MAX_SCORES // (queries.shape[1] * queries.shape[2] * max(1, keys.shape[2])))
    parts = []
    for start in range(0, len(queries), at_once):
        some = slice(start, start + at_once)
        scores = queries[some] @ keys[some].float().transpose(-1, -2)
        if softcap:
            scores = softcap * (scores / softcap).tanh()
        if hidden is not None:
            scores.masked_fill_(hidden[some] if len(hidden) > 1 else hidden, -torch.inf)
        top = scores.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)
        weights = scores.sub_(top).exp_()
        parts.append((weights @ values[some].float(), weights.sum(dim=-1, keepdim=True), top))
    return _Part(*(torch.cat(pieces) if len(parts) > 1 else pieces[0] for pieces in zip(*parts, strict=True)))


def _join(parts: list[_Part], sinks: torch.Tensor | None, groups: int) -> torch.Tensor:
    """One softmax from its parts; `sinks` [H] are scores that only take weight away."""
    if sinks is not None:
        shape = parts[0].top.shape
        of_queries = sinks.float().view(-1, groups, 1).expand(-1, -1, shape[2] // groups)
        score = of_queries.flatten(1)[None, ..., None].expand(shape)
        parts = [*parts, _Part(torch.zeros_like(parts[0].numerator), torch.ones_like(score), score)]
    whole = functools.reduce(operator.add, parts)
    return whole.numerator / whole.denominator


AttentionInterface.register(NAME, attend)
