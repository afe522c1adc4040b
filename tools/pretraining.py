"""How this project's own base models are pretrained: packed rows, AdamW, cosine decay. Used by the tools
that make them.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

IGNORED = -100


@dataclass(frozen=True)
class Phase:
    """One schedule of warm-up and decay. `rows` of `row_length` tokens a step."""

    steps: int
    lr: float
    rows: int
    row_length: int


def draw_batch(
    documents: Iterator[list[int]], phase: Phase, pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Packed rows of whole documents: input ids, labels, and positions that restart with each document. The
    document that does not fit into a row any more is left out."""
    shape = (phase.rows, phase.row_length)
    ids, labels = np.full(shape, pad_id), np.full(shape, IGNORED)
    positions = np.zeros(shape, dtype=np.int64)
    for row in range(phase.rows):
        filled = 0
        for document in documents:
            end = filled + len(document)
            if end > phase.row_length:
                break
            ids[row, filled:end] = document
            labels[row, filled + 1 : end] = document[1:]
            positions[row, filled:end] = np.arange(len(document))
            filled = end
        positions[row, filled:] = np.arange(phase.row_length - filled)
    return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(positions)


def pretrain(model: LlamaForCausalLM, documents: Iterator[list[int]], phase: Phase) -> float:
    """One phase, in place, with a short warm-up and cosine decay; returns the smoothed loss in nats.

    `documents`: without end, each with its end-of-text token.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.01)
    start, smoothed = time.perf_counter(), math.nan
    model.train()
    for step in range(phase.steps):
        warmup = min(1.0, (step + 1) / 100)
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / phase.steps))
        for group in optimizer.param_groups:
            group["lr"] = phase.lr * warmup * decay
        ids, labels, positions = draw_batch(documents, phase, model.config.pad_token_id)
        loss = model(input_ids=ids, labels=labels, position_ids=positions, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        smoothed = loss.item() if step == 0 else 0.95 * smoothed + 0.05 * loss.item()
        if step % 100 == 0 or step == phase.steps - 1:
            print(f"step {step:5d}  loss {smoothed:.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    return smoothed


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the folder beside its place, then swaps it in: readers never see half a model."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    staging.chmod(0o755)
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    for file in staging.iterdir():
        file.chmod(0o644)
    if out.exists():
        old = staging.with_name(staging.name + "-old")
        os.replace(out, old)
        os.replace(staging, out)
        shutil.rmtree(old)
    else:
        os.replace(staging, out)
