"""The proposal's density: from logits to the distribution that a token is drawn from.

Shapes: R rows (sequences), B branches (different sequences), V vocabulary.
"""

from __future__ import annotations

import torch

from lt_hpc.engines.protocol import SamplingParams


def log_proposal(logits_RV: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """float32 [R, V] log-probabilities in nats, renormalised after temperature, top-k, top-p.

    Top-k is applied before top-p, and top-p keeps the smallest set of tokens whose mass
    reaches it, both as in transformers and vLLM; removed tokens have -inf.
    """
    log_q = torch.log_softmax(logits_RV.float() / params.temperature, dim=-1)
    if not (0 < params.top_k < log_q.shape[-1]) and params.top_p >= 1.0:
        return log_q
    sorted_log, order = log_q.sort(dim=-1, descending=True, stable=True)
    removed = torch.zeros_like(sorted_log, dtype=torch.bool)
    if params.top_k:
        removed[:, params.top_k :] = True
        sorted_log = torch.log_softmax(sorted_log.masked_fill(removed, -torch.inf), dim=-1)
    if params.top_p < 1.0:
        mass = sorted_log.double().exp()
        before = mass.cumsum(dim=-1) - mass
        removed |= before >= params.top_p
    sorted_log = torch.log_softmax(sorted_log.masked_fill(removed, -torch.inf), dim=-1)
    return torch.empty_like(log_q).scatter_(-1, order, sorted_log)


def draw(
    logits_BV: torch.Tensor, branches_R: torch.Tensor, uniforms_R: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row by inversion of the distribution function, and its log q in nats.

    Row r draws from the logits of branch `branches_R[r]` (int64). `uniforms_R` are float64 in [0, 1).
    Returns int64 [R] and float32 [R]. Greedy (temperature 0) takes the argmax, with log q 0.
    """
    if params.temperature == 0:
        tokens = logits_BV.argmax(dim=-1)[branches_R]
        return tokens, torch.zeros(tokens.shape, dtype=torch.float32, device=tokens.device)
    log_q = log_proposal(logits_BV, params)
    cumulative = log_q.double().exp().cumsum(dim=-1)
    if cumulative.is_cuda:
        # A parallel sum may fall by a rounding, and a search in it end at a token of probability 0.
        cumulative = cumulative.cummax(dim=-1).values
    cumulative = cumulative[branches_R]
    total = cumulative[:, -1:]
    # Rounding may carry u * total up to total itself, past the last possible token.
    target = torch.minimum(uniforms_R[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # Where a model says what is no number, its log q is none either: that is seen with the weights.
    tokens = tokens.clamp(max=log_q.shape[-1] - 1)
    return tokens, log_q[branches_R, tokens]
