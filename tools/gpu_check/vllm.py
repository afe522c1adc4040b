"""vLLM: its two runners against the torch engine, what scoring takes, tensor parallelism."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tools.gpu_check.engines import flat, make_prompts
from tools.gpu_check.rows import Row, Sizes, make_llama, verdict

MISSING = Row("vLLM", "skipped", "vllm is not installed")
RUNNER = "VLLM_USE_V2_MODEL_RUNNER"


def vllm(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The runner that lt_hpc chooses here."""
    yield from _runner(sizes, folder)


def vllm_v1(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The older runner, for its speed beside the other one's."""
    os.environ[RUNNER] = "0"
    yield from _runner(sizes, folder)


def _runner(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Speed, and log-probabilities against the torch engine's, in the dtype it samples in."""
    if importlib.util.find_spec("vllm") is None:
        yield MISSING
        return
    from lt_hpc import hardware
    from lt_hpc.engines.protocol import SamplingParams
    from lt_hpc.engines.torch_engine import TorchEngine

    model = make_llama(folder / "sampled", sizes.sampled, sizes.context, sizes.device)
    prompts, seeds = make_prompts(sizes)
    params = SamplingParams(sizes.thought, 0)
    dtype = "bfloat16" if sizes.device == "cuda" else "float32"
    under_test = _engine(model, dtype, sizes.context + sizes.thought)
    yield Row("runs", "measured", hardware.line(hardware.found(under_test.attention)))
    under_test.sample(prompts[:2], seeds[:2], SamplingParams(4, 0))
    started = time.perf_counter()
    samples = under_test.sample(prompts, seeds, params)
    seconds = time.perf_counter() - started
    drawn = sum(len(sample.ids) for sample in flat(samples))
    yield Row(f"{dtype}: speed", "measured", f"sampled {drawn / seconds:,.0f} tokens/s")
    continuations = [[sample.ids.tolist() for sample in of_prompt] for of_prompt in samples]
    scores = under_test.score(prompts, continuations)
    uncached = []
    for prompt, of_prompt in zip(prompts, continuations, strict=True):
        for ids in of_prompt:
            under_test.llm.reset_prefix_cache()
            uncached += under_test.score([prompt], [[ids]])[0]
    exact = flat(TorchEngine(model, dtype, 65536).score(prompts, continuations))
    bound = 0.5 if dtype == "bfloat16" else 1e-3
    for what, found, other in (
        ("scores against the torch engine", flat(scores), exact),
        ("log q against the torch engine", [sample.logprobs for sample in flat(samples)], exact),
        ("scores with the cache and without", flat(scores), uncached),
    ):
        worst = max(float(np.abs(a - b).max()) for a, b in zip(found, other, strict=True))
        yield verdict(what, worst < bound, f"within {worst:.1e} nats per token")
    again = under_test.sample(prompts, seeds, params)
    same = np.mean([np.array_equal(a.ids, b.ids) for a, b in zip(flat(samples), flat(again), strict=True)])
    alone = under_test.sample(prompts[:1], seeds[:1], params)[0]
    kept = np.mean([np.array_equal(a.ids, b.ids) for a, b in zip(samples[0], alone, strict=True)])
    text = f"{same:.0%} of the thoughts the same; of one prompt alone {kept:.0%}"
    yield Row("the same block twice", "measured", text)


def vllm_queue(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Blocks in flight against drained ones: slots used, seconds, and what of the time is scoring."""
    if importlib.util.find_spec("vllm") is None:
        yield MISSING
        return
    from tools.bench_queue import Block, compare

    model = make_llama(folder / "sampled", sizes.sampled, sizes.context, sizes.device)
    prompts, seeds = make_prompts(sizes)
    chunks = [(prompt[:-4], prompt[-4:]) for prompt in prompts]
    size = max(1, len(prompts) // 4)
    blocks = [Block(chunks[i : i + size], seeds[i : i + size]) for i in range(0, len(prompts), size)]
    slots = max(1, size * len(seeds[0]) // 2)
    dtype = "bfloat16" if sizes.device == "cuda" else "float32"
    under_test = _engine(model, dtype, sizes.context + 4 * sizes.thought, slots=slots)
    compare(under_test, blocks[:1], sizes.thought, slots, repeats=1)  # warm
    under_test.seconds.update(sample=0.0, score=0.0)
    found = compare(under_test, blocks, sizes.thought, slots, repeats=1)
    for name, arm in found.items():
        whole, filled = arm.used(slots)
        yield Row(name, "measured", f"{whole:.2f} of {slots} slots used, {filled:.2f} while filled")
    ratio = found["drained"].seconds[0] / found["in flight"].seconds[0]
    share = under_test.seconds["score"] / sum(under_test.seconds.values())
    yield Row("drained to in flight", "measured", f"{ratio:.2f} of the time; scoring {share:.0%} of both")


def vllm_scoring(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """What scoring a long prompt over a large vocabulary takes beside what vLLM has planned with."""
    if importlib.util.find_spec("vllm") is None:
        yield MISSING
        return
    import torch

    from lt_hpc.latent.cost import prompt_bytes

    shape, length = replace(sizes.sampled, vocabulary=sizes.large_vocabulary, layers=1), 2 * sizes.context - 1
    model = make_llama(folder / "wide", shape, sizes.context, sizes.device)
    under_test = _engine(model, "bfloat16" if sizes.device == "cuda" else "float32", length)
    before = _peak(sizes, reset=True)
    ids = np.random.default_rng(0).integers(1, shape.vocabulary, length - 1).tolist()
    scores = under_test.score([ids[:1]], [[ids[1:]]])[0][0]
    taken, estimated = _peak(sizes) - before, prompt_bytes(length, shape.vocabulary)
    good = bool(np.isfinite(scores).all())
    yield verdict(f"{length:,} tokens are scored", good, f"NLL {-scores.mean():.2f} nats per token")
    if sizes.device == "cuda":
        torch.cuda.synchronize()
        text = f"{taken / 1e9:.2f} GB beside the plan, estimated {estimated / 1e9:.2f}"
        yield verdict("memory of scoring", taken < 1.5 * estimated, text)


def vllm_parallel(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Two GPUs per engine score what one GPU scores."""
    import torch

    if importlib.util.find_spec("vllm") is None:
        yield MISSING
        return
    if torch.cuda.device_count() < 2:
        yield Row("tensor parallelism", "skipped", "one GPU or none")
        return
    from lt_hpc.engines.torch_engine import TorchEngine

    shape = replace(sizes.sampled, heads=8, key_heads=2, hidden=512)
    model = make_llama(folder / "parallel", shape, sizes.context, sizes.device)
    prompts, _ = make_prompts(sizes)
    continuations = [[prompt[::-1]] for prompt in prompts]
    found = flat(_engine(model, "bfloat16", sizes.context, parallel=2).score(prompts, continuations))
    exact = flat(TorchEngine(model, "bfloat16", 65536).score(prompts, continuations))
    worst = max(float(np.abs(a - b).max()) for a, b in zip(found, exact, strict=True))
    yield verdict("two GPUs against the torch engine", worst < 0.5, f"within {worst:.1e} nats per token")


def _engine(model: Path, dtype: str, longest: int, parallel: int = 1, slots: int = 256) -> Any:
    from lt_hpc.config.schema import VllmConfig
    from lt_hpc.engines.vllm_engine import VllmEngine

    settings = VllmConfig(parallel, slots, gpu_memory_utilization=0.5)
    return VllmEngine(model, dtype, settings, longest, False)


def _peak(sizes: Sizes, reset: bool = False) -> int:
    """Bytes of the GPU's memory: the most since the last reset, or after one what is held."""
    import torch

    if sizes.device != "cuda":
        return 0
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.max_memory_allocated())
