"""The E-step: draws from a large vocabulary, exact scores, the float32 reference beside a full card."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.gpu_check.rows import Row, Sizes, make_llama, verdict

SAMPLES = 4


def draws(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Every drawn token has a finite log q, also where a parallel sum is not monotonic."""
    import torch

    from lt_hpc.engines.proposal import draw, log_proposal
    from lt_hpc.engines.protocol import SamplingParams

    generator = torch.Generator(sizes.device).manual_seed(0)
    branches = torch.arange(sizes.drawn_rows, device=sizes.device)
    falls = infinite = 0
    rounds, seconds = 20, []
    for index in range(rounds):
        logits = 8.0 * torch.randn(
            sizes.drawn_rows, sizes.large_vocabulary, device=sizes.device, generator=generator
        )
        params = SamplingParams(1, 0, top_p=0.9 if index % 2 else 1.0)
        uniforms = torch.rand(sizes.drawn_rows, dtype=torch.float64, device=sizes.device, generator=generator)
        sums = log_proposal(logits, params).double().exp().cumsum(dim=-1)
        falls += int((sums.diff(dim=-1) < 0).sum())
        del sums
        started = time.perf_counter()
        _, log_q = draw(logits, branches, uniforms, params)
        infinite += int((~log_q.isfinite()).sum())  # waits for the device
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() / 2**30 if sizes.device == "cuda" else float("nan")
    number = rounds * sizes.drawn_rows
    yield verdict(
            "log q of every draw is finite", infinite == 0,
            f"{infinite} of {number:,} not; sums that fall: {falls} of {number * sizes.large_vocabulary:,}",
            infinite=infinite, falls=falls,
        )  # fmt: skip
    yield Row(
            f"draw {sizes.drawn_rows} rows of {sizes.large_vocabulary:,}", "measured",
            f"{1e3 * sorted(seconds)[rounds // 2]:.1f} ms, peak {peak:.1f} GiB",
        )  # fmt: skip


def make_prompts(sizes: Sizes) -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(0)
    prompts = [
        rng.integers(1, sizes.sampled.vocabulary, rng.integers(8, sizes.context // 4)).tolist()
        for _ in range(sizes.prompts)
    ]
    return prompts, [[1000 * index + k for k in range(SAMPLES)] for index in range(len(prompts))]


def flat(found: Sequence[Sequence[Any]]) -> list[Any]:
    return [one for of_prompt in found for one in of_prompt]


def engine(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The torch engine: speed in bfloat16, the same bytes twice, exact log-probabilities in float32."""
    from lt_hpc.engines.protocol import SamplingParams
    from lt_hpc.engines.torch_engine import TorchEngine

    model = make_llama(folder / "sampled", sizes.sampled, sizes.context, sizes.device)
    prompts, seeds = make_prompts(sizes)
    params = SamplingParams(sizes.thought, 0)
    for dtype in ("bfloat16", "float32"):
        under_test = TorchEngine(model, dtype, 65536)
        under_test.sample(prompts[:2], seeds[:2], SamplingParams(4, 0))  # warm up
        started = time.perf_counter()
        samples = under_test.sample(prompts, seeds, params)
        seconds = time.perf_counter() - started
        drawn = sum(len(sample.ids) for sample in flat(samples))
        started = time.perf_counter()
        continuations = [[sample.ids.tolist() for sample in of_prompt] for of_prompt in samples]
        scores = under_test.score(prompts, continuations, params)
        scored = time.perf_counter() - started
        worst = max(
            float(np.abs(sample.logprobs - score).max())
            for sample, score in zip(flat(samples), flat(scores), strict=True)
        )
        bound = 1e-4 if dtype == "float32" else 0.3
        yield Row(
            f"{dtype}: speed", "measured",
            f"sampled {drawn / seconds:,.0f} tokens/s, scored {drawn / scored:,.0f} tokens/s",
            {"sampled_per_second": drawn / seconds, "scored_per_second": drawn / scored},
        )  # fmt: skip
        yield verdict(f"{dtype}: log q against a score", worst < bound, f"within {worst:.1e} nats per token")
        again = under_test.sample(prompts, seeds, params)
        same = all(
            np.array_equal(a.ids, b.ids) and np.array_equal(a.logprobs, b.logprobs)
            for a, b in zip(flat(samples), flat(again), strict=True)
        )
        yield verdict(f"{dtype}: the same block twice", same, "same bytes" if same else "other bytes")
    yield _against_cpu(under_test, model, prompts[:4], [c[:2] for c in continuations[:4]])


def _against_cpu(under_test: Any, model: Path, prompts: list[Any], continuations: list[Any]) -> Row:
    """float32 scores against plain transformers in float64 on the CPU: no TF32, no lost digits."""
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    worst = 0.0
    found = under_test.score(prompts, continuations)
    for prompt, of_prompt, scores in zip(prompts, continuations, found, strict=True):
        for ids, score in zip(of_prompt, scores, strict=True):
            with torch.inference_mode():
                logits = plain(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            exact = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0].numpy()
            worst = max(worst, float(np.abs(exact - score).max()))
    return verdict(
        "float32 scores against float64 on CPU", worst < 1e-4, f"within {worst:.1e} nats per token"
    )


def reference(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The float32 reference on a card that another engine fills is refused as MemoryError, not a crash."""
    import torch

    from lt_hpc.config.load import demo_file, load_config
    from lt_hpc.engines.load import load_reference

    if sizes.device != "cuda":
        yield Row("reference beside a full card", "skipped", "no card to fill")
        return
    model = make_llama(folder / "trained", sizes.trained, sizes.context, sizes.device)
    torch.cuda.empty_cache()
    config = load_config(demo_file(), [])
    for left in (0.5, 3.0):  # GiB: less than a context and a layer, and less than the model
        held = torch.empty(
            max(0, int(torch.cuda.mem_get_info()[0] - left * 2**30)), dtype=torch.uint8, device="cuda"
        )
        try:
            load_reference(config, model)
            yield verdict(f"reference with {left} GiB left", False, "loaded, which can't be")
        except MemoryError as error:
            yield verdict(f"reference with {left} GiB left", True, f"skipped: {error}")
        del held
        torch.cuda.empty_cache()
    load_reference(config, model)
    yield verdict("reference on a free card", True, "loaded")
