"""The M-step: attention kernels, ZeRO against plain PyTorch, checkpoints between GPU and CPU, speed and
memory of TinyLlama's shape."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tools.gpu_check.machine import MATRIX_RATE
from tools.gpu_check.rows import Row, Sizes, finish, make_llama, verdict

STEPS, SAVED = 8, 4
KINDS = [(stage, "float32") for stage in range(4)] + [(stage, "bfloat16") for stage in (1, 2, 3)]
NO_DEEPSPEED = Row("DeepSpeed", "skipped", "deepspeed is not installed")


def attention(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Attention over packed documents takes a fused kernel in both dtypes, and equals one at a time, also
    where every second one has the beginning of the one before it as its own."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from lt_hpc.training import packed_attention

    lengths = np.random.default_rng(0).integers(40, sizes.context // 4, 24)
    heads, keys, size = sizes.trained.heads, sizes.trained.key_heads, 64
    tokens = int(lengths.sum())
    none, borrowed = np.zeros_like(lengths), np.zeros_like(lengths)
    borrowed[1::2] = lengths[::2] // 2
    for dtype, kernel, shared in (
        (torch.bfloat16, SDPBackend.FLASH_ATTENTION, none),
        (torch.float32, SDPBackend.EFFICIENT_ATTENTION, none),
        (torch.bfloat16, SDPBackend.EFFICIENT_ATTENTION, borrowed),
        (torch.float32, SDPBackend.EFFICIENT_ATTENTION, borrowed),
    ):
        groups = packed_attention.group(lengths, shared, torch.device(sizes.device))
        q, k, v = (
            torch.randn(1, number, tokens, size, device=sizes.device, dtype=dtype, requires_grad=True)
            for number in (heads, keys, keys)
        )
        name = f"{str(dtype).removeprefix('torch.')} by {kernel.name.lower()}"
        name += ", shared prefixes" if shared.any() else ""
        with sdpa_kernel(kernel) if sizes.device == "cuda" else _nothing():
            _reset_peak(sizes)
            try:
                found, _ = packed_attention.attend(torch.nn.Module(), q, k, v, None, documents=groups)
                found.float().square().sum().backward()
            except RuntimeError as error:
                yield verdict(name, False, str(error).splitlines()[0][:160])
                continue
        worst = float((found.float() - _one_at_a_time(q, k, v, lengths, shared)).abs().max())
        bound = 2e-2 if dtype == torch.bfloat16 else 1e-4
        text = (
            f"largest difference from one document at a time {worst:.1e}, peak {_peak(sizes) / 2**20:.0f} MiB"
        )
        yield verdict(name, worst < bound, text, difference=worst)
    kind = packed_attention.implementation("bfloat16")
    yield Row("attention that training takes", "measured", kind)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _one_at_a_time(q: Any, k: Any, v: Any, lengths: np.ndarray, borrowed: np.ndarray) -> Any:
    """[1, T, heads, d] in float32 by plain matrix products, document by document; so many first tokens of
    each are those of the one before it."""
    import torch

    parts, group, starts = [], q.shape[1] // k.shape[1], np.cumsum(lengths) - lengths
    for n, (start, length, first) in enumerate(zip(starts, lengths, borrowed, strict=True)):
        some = [*range(starts[max(0, n - 1)], starts[max(0, n - 1)] + first), *range(start, start + length)]
        query = q[0][:, some].detach().float()
        key, value = (
            tensor[0][:, some].detach().float().repeat_interleave(group, dim=0) for tensor in (k, v)
        )
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        hidden = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        parts.append((weights @ value).transpose(0, 1)[first:])
    return torch.cat(parts)[None]


def _reset_peak(sizes: Sizes) -> None:
    import torch

    if sizes.device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(sizes: Sizes) -> int:
    import torch

    return int(torch.cuda.max_memory_allocated()) if sizes.device == "cuda" else 0


def zero(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """ZeRO 0 to 3 on the GPU gives plain PyTorch's losses; a checkpoint goes on on the CPU and back."""
    if importlib.util.find_spec("deepspeed") is None:
        yield NO_DEEPSPEED
        return
    from tests.runs.tiny_models import make_llama as make_tiny
    from tests.training.test_zero import plain_losses

    model = make_tiny(folder / "tiny", 32)
    expected = plain_losses(model)
    _work(folder, "gpu", [_job(folder, model, *kind, "whole", save_at=SAVED) for kind in KINDS])
    for stage, dtype in KINDS:
        worst = _distance(_losses(folder, stage, dtype, "whole"), expected)
        bound = 1e-4 if dtype == "float32" else 0.15
        yield verdict(f"ZeRO-{stage} {dtype}", worst < bound, f"losses within {worst:.1e} of plain PyTorch")
    for name, place in (("again", "gpu"), ("on-cpu", "cpu"), ("back", "gpu")):
        # "back" goes on from what the CPU run saved one step later.
        more: dict[str, Any] = {"save_at": SAVED + 1} if name == "on-cpu" else {}
        kinds = [(1, "float32"), (3, "float32"), (3, "bfloat16")]
        _work(folder, place, [_job(folder, model, *kind, name, resume=True, **more) for kind in kinds])
        for stage, dtype in kinds:
            whole, found = (_losses(folder, stage, dtype, n) for n in ("whole", name))
            worst = _distance(found, whole[-len(found) :])
            first = STEPS - len(found)
            bound = 1e-4 if dtype == "float32" else 0.1
            good = worst < bound and first == SAVED + (name == "back")
            text = f"from step {first}: losses within {worst:.1e} of the undisturbed run"
            yield verdict(f"resumed {name}: ZeRO-{stage} {dtype}", good, text, difference=worst)


def _job(root: Path, model: Path, stage: int, dtype: str, name: str, **more: Any) -> dict[str, Any]:
    folder = root / f"zero-{stage}-{dtype}"
    return {
        "name": name, "model": str(model), "stage": stage, "dtype": dtype, "steps": STEPS,
        "folder": str(folder), "recompute": stage == 2, **more,
    }  # fmt: skip


def _work(folder: Path, place: str, jobs: list[dict[str, Any]], count: int = 1) -> None:
    """Jobs of tests/training/zero_worker.py one after the other on new processes."""
    rendezvous = folder / f"ranks-{place}-{jobs[0]['name']}-{count}"
    rendezvous.mkdir()
    spec = rendezvous / "spec.json"
    spec.write_text(json.dumps({"rendezvous": str(rendezvous), "jobs": jobs}))
    environment = dict(os.environ)
    if place == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    commands = [
        ["-m", "tests.training.zero_worker", str(spec), str(rank), str(count)] for rank in range(count)
    ]
    environments = [environment | {"LOCAL_RANK": str(rank)} for rank in range(count)]
    found = finish(commands, environments, 150)
    if any(code for code, _ in found):
        raise RuntimeError("\n".join(output[-1500:] for _, output in found))


def _losses(root: Path, stage: int, dtype: str, name: str) -> list[float]:
    record = json.loads((root / f"zero-{stage}-{dtype}" / f"{name}.json").read_text())
    return list(record["losses"].values())


def _distance(a: list[float], b: list[float]) -> float:
    return float(np.abs(np.array(a) - np.array(b)).max())


def two_gpus(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Two ranks on two GPUs give the losses of one: NCCL, ZeRO-1 and ZeRO-3."""
    import torch

    if torch.cuda.device_count() < 2:
        yield Row("two ranks over NCCL", "skipped", "one GPU or none")
        return
    if importlib.util.find_spec("deepspeed") is None:
        yield NO_DEEPSPEED
        return
    from tests.runs.tiny_models import make_llama as make_tiny
    from tests.training.test_zero import plain_losses

    model = make_tiny(folder / "tiny", 32)
    expected, kinds = plain_losses(model), [(1, "float32"), (3, "float32"), (1, "bfloat16")]
    _work(folder, "gpu", [_job(folder, model, *kind, "two") for kind in kinds], count=2)
    for stage, dtype in kinds:
        worst = _distance(_losses(folder, stage, dtype, "two"), expected)
        good = worst < (1e-4 if dtype == "float32" else 0.15)
        text = f"losses within {worst:.1e} of plain PyTorch"
        yield verdict(f"two ranks: ZeRO-{stage} {dtype}", good, text)


def training(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Speed, MFU and memory of the trainer at TinyLlama's shape, beside what the estimate says."""
    if importlib.util.find_spec("deepspeed") is None:
        yield NO_DEEPSPEED
        return
    model = make_llama(folder / "trained", sizes.trained, sizes.context, sizes.device)
    for stage, recompute in ((1, False), (3, True)):
        result = folder / f"speed-{stage}.json"
        spec = {"stage": stage, "recompute": recompute, "model": str(model), "result": str(result)}
        command = ["-m", "tools.gpu_check.speed", sizes.device, json.dumps(spec)]
        [(code, output)] = finish([command], [dict(os.environ)], 120)
        name = f"ZeRO-{stage} bfloat16" + (", recomputation" if recompute else "")
        if code != 0:
            yield verdict(name, False, (output.strip().splitlines() or ["?"])[-1][:200], output=output)
            continue
        yield from _speed(name, json.loads(result.read_text()), folder / MATRIX_RATE)


def _speed(name: str, found: dict[str, Any], matrix_rate: Path) -> Iterator[Row]:
    text = f"{found['tokens_per_second']:,.0f} tokens/s ({found['slowest']:,.0f} to {found['fastest']:,.0f})"
    if matrix_rate.exists():
        rate = json.loads(matrix_rate.read_text())
        text += f", MFU {found['flops_per_second'] / rate:.2f} of the measured matrix rate"
    yield Row(f"{name}: speed", "measured", text, found)
    peak, estimated = found["peak_bytes"], found["estimated_bytes"]
    if peak:
        text = (
            f"peak {peak / 1e9:.1f} GB allocated, estimated {estimated / 1e9:.1f} ({estimated / peak:.2f}); "
            f"reserved {found['reserved_bytes'] / peak:.2f} of the peak"
        )
        yield verdict(f"{name}: memory", 0.75 < estimated / peak < 1.25, text)
