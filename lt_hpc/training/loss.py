"""The loss of a batch of packed documents."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from lt_hpc.training import packed_attention
from lt_hpc.training.batches import IGNORED, Batch


class Nll(NamedTuple):
    """Summed NLL, nats: `weighted`, of all tokens that take a loss, each with its weight; `raw`, of those of
    raw text alone, without weights and without a gradient."""

    weighted: torch.Tensor
    raw: torch.Tensor


def summed_nll(network: Any, attention: str, batch: Batch, device: torch.device) -> Nll:
    """Of a batch. `network`: a causal language model that computes attention of this kind
    (`packed_attention.implementation`)."""
    flat = packed_attention.flatten(batch.ids, batch.positions, batch.labels)
    scored = torch.from_numpy((flat.labels != IGNORED).nonzero()[0]).to(device)
    logits = network(
        input_ids=torch.from_numpy(flat.ids)[None].to(device),
        position_ids=torch.from_numpy(flat.positions)[None].to(device),
        use_cache=False,  # a cache would hide from transformers that documents are packed
        logits_to_keep=scored,
        **packed_attention.boundaries(attention, flat, device),
    ).logits[0]
    labels = torch.from_numpy(flat.labels).to(device)[scored]
    none = torch.zeros((), device=device)
    if batch.weights is None and batch.raw is None:
        return Nll(torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum"), none)
    each = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    weighted = each.sum() if batch.weights is None else each @ torch.from_numpy(batch.weights).to(device)
    if batch.raw is None:
        return Nll(weighted, none)
    return Nll(weighted, each.detach() @ torch.from_numpy(batch.raw).to(each))
