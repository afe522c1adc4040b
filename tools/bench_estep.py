"""python tools/bench_estep.py {vllm,torch,same} [--model DIR] [--samples 1 4 8 16] [--chunks 6] [--repeats 3]

Side by side in one process, on the same chunks, model and engine, in alternating order:

vllm   the E-step of the method's reference code (every prompt K times, prompt log-probabilities
       while sampling, every joint sequence scored from its first token, no prefix cache) against
       lt_hpc's `VllmEngine`, on word problems after at least --prefix-tokens of earlier ones.
torch  `model.generate` over the same prompts K times at its best batch size against `TorchEngine`,
       on the demo's problems.
same   not a timing: whether `VllmEngine` gives a block the same bytes again, after other work, and
       each of its chunks the same alone.

Thoughts have exactly --thought-tokens in `vllm`, so that both arms do the same work. The default is the mean
length of the thoughts that configs/smollm2_gsm.yaml samples.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lt_hpc.config.schema import CorpusConfig, VllmConfig
from lt_hpc.data import sources
from lt_hpc.engines.protocol import Ids, SamplingParams
from lt_hpc.latent import seeds
from lt_hpc.latent.layout import Layout

NO_STOP = -1


@dataclass
class Arm:
    """What repeated runs of one way of doing it took."""

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    peak_gb: float = 0.0


def peak_memory_gb() -> float:
    """Highest resident memory of this process since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def word_problems(tokenizer: Any, count: int, prefix_tokens: int) -> list[tuple[list[int], list[int]]]:
    """(prefix, suffix) token ids: a worked-out word problem after earlier ones."""
    source = sources.documents(CorpusConfig(source="builtin:gsm", seed=5, num_documents=20 * count), "given")
    chunks = []
    for _ in range(count):
        prefix: list[int] = []
        while len(prefix) < prefix_tokens:
            prefix += tokenizer.encode(_text(next(source)))
        chunks.append((prefix, tokenizer.encode(_text(next(source)))))
    return chunks


def _text(document: sources.Document) -> str:
    return f"{document.question} {document.answer}\n"


def reference(
    engine: Any, layout: Layout, chunks: Sequence[tuple[Ids, Ids]], draws: list[list[int]], length: int
) -> None:
    """The E-step as in the method's reference code."""
    import vllm

    prompts = [vllm.TokensPrompt(prompt_token_ids=layout.posterior_prompt(c, x)) for c, x in chunks]
    num_samples = len(draws[0])
    common = {
        "prompt_logprobs": 0,
        "detokenize": False,
        "ignore_eos": True,
        "skip_reading_prefix_cache": True,
    }
    outputs = engine.llm.generate(
        [prompt for prompt in prompts for _ in range(num_samples)],
        [
            vllm.SamplingParams(max_tokens=length, seed=seed, logprobs=0, **common)
            for seed in itertools.chain.from_iterable(draws)
        ],
        use_tqdm=False,
    )
    owners = [chunk for chunk in chunks for _ in range(num_samples)]
    joints = [
        layout.joint(c, output.outputs[0].token_ids, x)
        for (c, x), output in zip(owners, outputs, strict=True)
    ]
    engine.llm.generate(
        [vllm.TokensPrompt(prompt_token_ids=joint) for joint in joints],
        vllm.SamplingParams(max_tokens=1, temperature=0, **common),
        use_tqdm=False,
    )


def ours(
    engine: Any, layout: Layout, chunks: Sequence[tuple[Ids, Ids]], draws: list[list[int]], length: int
) -> None:
    """The E-step of stages/estep.py, with the end of every thought given."""
    prompts = [layout.posterior_prompt(c, x) for c, x in chunks]
    completions = engine.sample(prompts, draws, SamplingParams(length, NO_STOP))
    continuations = [
        [[*sample.ids.tolist(), layout.eol, *x] for sample in of_chunk]
        for (_, x), of_chunk in zip(chunks, completions, strict=True)
    ]
    engine.score([layout.joint_prompt(c) for c, _ in chunks], continuations)


def count_tokens(engine: Any) -> Callable[[], int]:
    """Tokens that the engine's scheduler has sent through the model since the last call."""
    scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
    schedule, total = scheduler.schedule, [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        output = schedule(*args, **kwargs)
        total[0] += output.total_num_scheduled_tokens
        return output

    def taken() -> int:
        tokens, total[0] = total[0], 0
        return tokens

    scheduler.schedule = counted
    return taken


def alternate(arms: dict[str, Callable[[], Any]], repeat: int) -> list[tuple[str, Callable[[], Any]]]:
    """The arms in this order or the other, by turns."""
    return list(arms.items())[:: 1 if repeat % 2 == 0 else -1]


def bench_vllm(options: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    from lt_hpc.engines.vllm_engine import VllmEngine

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    chunks = word_problems(tokenizer, options.chunks, options.prefix_tokens)
    # Any four ids do as markers: nothing is trained here, and lengths decide the time.
    layout = Layout(*range(4))
    engine = VllmEngine(options.model, options.dtype, VllmConfig(kv_cache_gb=options.kv_cache_gb), 2048)
    taken, length = count_tokens(engine), options.thought_tokens
    lengths = ", ".join(f"P={len(c)} S={len(x)}" for c, x in chunks)
    print(f"{options.dtype}, thoughts of {length} tokens; chunks: {lengths}", flush=True)
    ours(engine, layout, chunks[:1], [[0]], 4)  # warm
    results: dict[int, tuple[Arm, Arm]] = {k: (Arm("reference"), Arm("ours")) for k in options.samples}
    deadline = time.monotonic() + options.seconds
    for repeat, num_samples in itertools.product(range(options.repeats), options.samples):
        if time.monotonic() > deadline:
            break
        draws = [
            [seeds.derive(repeat, "bench", i, k) for k in range(num_samples)] for i in range(len(chunks))
        ]
        arms = dict(zip((reference, ours), results[num_samples], strict=True))
        for run, arm in list(arms.items())[:: 1 if repeat % 2 == 0 else -1]:
            reset_peak()
            taken()
            started, cpu_started = time.monotonic(), time.process_time()
            run(engine, layout, chunks, draws, length)
            arm.seconds.append(time.monotonic() - started)
            arm.cpu_seconds.append(time.process_time() - cpu_started)
            arm.tokens, arm.peak_gb = taken(), max(arm.peak_gb, peak_memory_gb())
        print(
            f"K={num_samples}: "
            + ", ".join(
                f"{a.name} {a.seconds[-1]:.1f} s ({a.cpu_seconds[-1]:.1f} s of CPU)" for a in arms.values()
            ),
            flush=True,
        )
    print(
        "| K | reference, s | ours, s | ratio, wall | ratio, CPU | tokens, reference and ours "
        "| ours to the bound | peak GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for num_samples, (a, b) in results.items():
        bound = sum(len(c) + len(x) + 4 + num_samples * (2 * length + len(x) + 2) for c, x in chunks)
        print(
            f"| {num_samples} | {spread(a.seconds)} | {spread(b.seconds)} | {ratio(a.seconds, b.seconds)} "
            f"| {ratio(a.cpu_seconds, b.cpu_seconds)} | {a.tokens}, {b.tokens} "
            f"| {b.tokens / bound:.2f} | {a.peak_gb:.2f}, {b.peak_gb:.2f} |"
        )


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "–"


def ratio(slow: list[float], fast: list[float]) -> str:
    """Of runs of the same repeat."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def generate_loop(
    model: Any, prompts: list[list[int]], batch: int, tokens: int, stop: int, pad: int
) -> list[Any]:
    """`model.generate` over prompts padded on the left; the new ids of every row."""
    import torch

    rows: list[Any] = []
    for start in range(0, len(prompts), batch):
        group = prompts[start : start + batch]
        width = max(map(len, group))
        ids = torch.full((len(group), width), pad)
        for row, prompt in enumerate(group):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in group])
        with torch.inference_mode():
            output = model.generate(
                ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=tokens, eos_token_id=stop, pad_token_id=pad, use_cache=True,
            )  # fmt: skip
        rows += [row[width:] for row in output.tolist()]
    return rows


def bench_torch(options: argparse.Namespace) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lt_hpc.engines.torch_engine import TorchEngine

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    names = ("<SOL>", "<EOL>", "<PRIOR>", "<POST>")
    layout = Layout(*tokenizer.convert_tokens_to_ids(list(names)))
    source = sources.documents(CorpusConfig(seed=9, num_documents=options.chunks), "given")
    chunks = [(tokenizer.encode(d.question), tokenizer.encode(d.answer)) for d in source]
    prompts = [layout.posterior_prompt(c, x) for c, x in chunks]
    num_samples, tokens = options.samples[-1], options.thought_tokens
    engine = TorchEngine(options.model, options.dtype, 65536)
    plain = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    repeated = [prompt for prompt in prompts for _ in range(num_samples)]
    ends: dict[str, tuple[float, float]] = {}

    def by_generate(batch: int) -> Callable[[], None]:
        def run() -> None:
            torch.manual_seed(0)
            rows = generate_loop(plain, repeated, batch, tokens, layout.eol, tokenizer.pad_token_id or 0)
            lengths = [row.index(layout.eol) + 1 if layout.eol in row else tokens for row in rows]
            unfinished = [layout.eol not in row for row in rows]
            ends[f"generate, batches of {batch}"] = float(np.mean(lengths)), float(np.mean(unfinished))

        return run

    def by_engine() -> None:
        block = options.block_chunks
        found: list[Any] = []
        for start in range(0, len(prompts), block):
            part = prompts[start : start + block]
            draws = [
                [seeds.derive(0, "bench", start + i, k) for k in range(num_samples)] for i in range(len(part))
            ]
            found += itertools.chain(*engine.sample(part, draws, SamplingParams(tokens, layout.eol)))
        lengths, unfinished = [len(one.ids) for one in found], [not one.finished for one in found]
        ends["ours"] = float(np.mean(lengths)), float(np.mean(unfinished))

    arms: dict[str, Callable[[], None]] = {
        f"generate, batches of {batch}": by_generate(batch) for batch in (64, 256, 1024)
    }
    arms["ours"] = by_engine
    by_engine()  # warm
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(options.repeats):
        for name, run in alternate(arms, repeat):
            started = time.monotonic()
            run()
            seconds[name].append(time.monotonic() - started)
    print(f"{len(prompts)} prompts, K={num_samples}, blocks of {options.block_chunks} chunks")
    print("| way | s | samples per second | mean length | unfinished | against ours |")
    print("|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        rate = len(repeated) / statistics.median(taken)
        mean, unfinished = ends[name]
        print(
            f"| {name} | {spread(taken)} | {rate:.0f} | {mean:.2f} | {unfinished:.3f} "
            f"| {ratio(taken, seconds['ours'])} |"
        )


def compare_blocks(options: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    from lt_hpc.engines.vllm_engine import VllmEngine

    chunks = word_problems(
        AutoTokenizer.from_pretrained(options.model), options.chunks, options.prefix_tokens
    )
    layout, num_samples = Layout(*range(4)), options.samples[-1]
    engine = VllmEngine(options.model, options.dtype, VllmConfig(kv_cache_gb=options.kv_cache_gb), 2048)
    draws = [[seeds.derive(0, "bench", i, k) for k in range(num_samples)] for i in range(len(chunks))]
    params = SamplingParams(options.thought_tokens, NO_STOP)

    def block(which: Sequence[int]) -> list[tuple[bytes, np.ndarray, np.ndarray]]:
        """Ids, log q and scores of every sample of these chunks."""
        parts = [chunks[i] for i in which]
        prompts = [layout.posterior_prompt(c, x) for c, x in parts]
        samples = engine.sample(prompts, [draws[i] for i in which], params)
        ids = [[[*one.ids.tolist(), *x] for one in many] for many, (_, x) in zip(samples, parts, strict=True)]
        scores = engine.score([layout.joint_prompt(c) for c, _ in parts], ids)
        return [
            (one.ids.tobytes(), one.logprobs, score)
            for many, of_many in zip(samples, scores, strict=True)
            for one, score in zip(many, of_many, strict=True)
        ]

    everything = range(len(chunks))
    whole = block(everything)
    others = {"again": block(everything)}
    others["each chunk alone"] = [one for i in everything for one in block([i])]
    others["after other work"] = block(everything)
    print(
        f"{options.dtype}: {len(chunks)} chunks, K={num_samples}, thoughts of {options.thought_tokens} tokens"
    )
    for name, found in others.items():
        same = [(a, b) for a, b in zip(whole, found, strict=True) if a[0] == b[0]]
        bytes_too = sum(np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2]) for a, b in same)
        furthest = max((abs(float(a[2].sum() - b[2].sum())) for a, b in same), default=0.0)
        print(
            f"{name}: {len(same)} of {len(whole)} samples have the same tokens, {bytes_too} the same bytes "
            f"in all; scores of the same tokens differ by at most {furthest:.2g} nats"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("engine", choices=("vllm", "torch", "same"))
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[1, 4, 8, 16], help="the last, but for vllm"
    )
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--block-chunks", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--thought-tokens", type=int, default=96)
    parser.add_argument("--prefix-tokens", type=int, default=400)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kv-cache-gb", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=3600, help="vllm: no new measurement after these")
    options = parser.parse_args()
    {"vllm": bench_vllm, "torch": bench_torch, "same": compare_blocks}[options.engine](options)


if __name__ == "__main__":
    main()
