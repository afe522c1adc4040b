"""What a check prints: rows of one table. And the sizes at which checks run."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "FAIL", "measured", "skipped"]


@dataclass(frozen=True)
class Row:
    """One finding; `figures` go into the JSON file as they are."""

    what: str
    status: Status
    text: str
    figures: dict[str, Any] = field(default_factory=dict)


def verdict(what: str, good: bool, text: str, **figures: Any) -> Row:
    """A row that passes or fails."""
    return Row(what, "ok" if good else "FAIL", text, figures)


@dataclass(frozen=True)
class Shape:
    """A Llama of random weights."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int


@dataclass(frozen=True)
class Sizes:
    """How large the checks are. `trained` has TinyLlama's shape and `sampled` SmolLM2-135M's; a
    vocabulary of Llama 3's size is the hardest case of drawing tokens."""

    device: str
    trained: Shape
    sampled: Shape
    context: int
    rows: int
    prompts: int
    thought: int
    large_vocabulary: int
    drawn_rows: int
    matrix: int


FULL = Sizes(
    device="cuda",
    trained=Shape(32000, 2048, 5632, 22, 32, 4),
    sampled=Shape(49152, 576, 1536, 30, 9, 3),
    context=2048, rows=4, prompts=64, thought=128, large_vocabulary=128256, drawn_rows=1024, matrix=8192,
)  # fmt: skip
REHEARSAL = Sizes(
    device="cpu",
    trained=Shape(512, 64, 128, 2, 4, 2),
    sampled=Shape(512, 64, 128, 2, 4, 2),
    context=256, rows=2, prompts=4, thought=16, large_vocabulary=2048, drawn_rows=32, matrix=256,
)  # fmt: skip

Check = Callable[[Sizes, Path], Iterator[Row]]
"""Yields its rows one by one: a check that is stopped keeps those it has."""


def make_llama(folder: Path, shape: Shape, context: int, device: str) -> Path:
    """A model folder of random weights, made once; spread so that draws differ between prompts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_heads,
            max_position_embeddings=2 * context,
        )
        with torch.device(device):
            model = LlamaForCausalLM(config)
        model.save_pretrained(folder)
    return folder


def finish(
    commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]], seconds: float
) -> list[tuple[int | None, str]]:
    """Exit code (None: it did not end in time and was killed) and output of Python commands that run
    at the same time."""
    deadline, results = time.monotonic() + seconds, []
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in commands]
        processes = [
            subprocess.Popen([sys.executable, *command], env=env, stdout=log, stderr=subprocess.STDOUT)
            for command, env, log in zip(commands, environments, logs, strict=True)
        ]
        for process, log in zip(processes, logs, strict=True):
            code: int | None = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
            log.seek(0)
            results.append((code, log.read()))
    return results
