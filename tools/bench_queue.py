"""python tools/bench_queue.py [--model DIR] [--slots 64] [--samples 4] [--block-chunks 64] [--blocks 4]

The E-step with vLLM, drained blocks (all of a block is sampled, then all of it scored, then the next one is
begun) against blocks in flight (`VllmEngine.complete`): in one process, on the same chunks, seeds and lengths
of thoughts, in alternating order. Lengths are log-normal (sigma 0.5) with mean --mean, at most 1,024 / 430
of it, and are forced here alone: by max_tokens of each request.

Slots are counted in its scheduler: the requests that it runs in a step, of --slots, over all steps in which
anything is sampled; and over those up to the last one that had all slots in use, which is what a longer shard
comes to. Says too in how many chunks the two differ: in tokens, in log q, in log-weights.

--simulate needs no model: the same queue before a server that decodes a token of each request in a step, and
scores a request in one, all steps alike. What it says of time is what slots alone would give.
"""

from __future__ import annotations

import argparse
import heapq
import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lt_hpc.config.schema import VllmConfig
from lt_hpc.engines.in_flight import Queue, Steps
from lt_hpc.engines.protocol import Draw, SamplingParams, Score, Work
from lt_hpc.latent import seeds
from lt_hpc.latent.layout import Layout
from tools.bench_estep import ratio, spread, word_problems

SIGMA, LIMIT, NO_STOP = 0.5, 1024 / 430, -1
LAYOUT = Layout(*range(4))
"""Any four ids do as markers: nothing is trained here."""


@dataclass(frozen=True)
class Found:
    """Of one chunk: ids and log q of each thought, and the scores of it with the chunk after it."""

    ids: list[np.ndarray]
    log_q: list[np.ndarray]
    scores: list[np.ndarray]

    @property
    def log_weights(self) -> np.ndarray:
        """[K] nats."""
        pairs = zip(self.scores, self.log_q, strict=True)
        return np.array([score.astype(np.float64).sum() - q.astype(np.float64).sum() for score, q in pairs])


@dataclass
class Arm:
    """What runs of one way took: seconds, and the requests at work in each step of the last one that sampled;
    after the first `filled` of these some slots were free."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    filled: int = 0
    found: list[list[Found]] = field(default_factory=list)

    def used(self, slots: int) -> tuple[float, float]:
        """Shares of the slots, of all steps and of the filled ones."""
        whole, filled = (float(np.mean(part)) / slots for part in (self.running, self.running[: self.filled]))
        return whole, filled


class Counted:
    """Counts what vLLM's scheduler runs."""

    def __init__(self, engine: Any) -> None:
        self.scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
        self.running: list[int] = []
        self.schedule, self.scheduler.schedule = self.scheduler.schedule, self._counted

    def _counted(self, *args: Any, **kwargs: Any) -> Any:
        output = self.schedule(*args, **kwargs)
        requests = [self.scheduler.requests[one] for one in output.num_scheduled_tokens]
        if any(one.sampling_params.prompt_logprobs is None for one in requests):
            self.running.append(len(requests))
        return output


def lengths(count: int, mean: float) -> np.ndarray:
    """Log-normal, cut at the limit, with about this mean after that."""
    z = seeds.generator(0, "bench lengths").standard_normal(count)
    mu = np.log(mean)
    for _ in range(20):
        drawn = np.minimum(np.exp(mu + SIGMA * z), LIMIT * mean)
        mu += np.log(mean / drawn.mean())
    lengths: np.ndarray = np.maximum(1, np.round(drawn)).astype(int)
    return lengths


@contextmanager
def forced(of_seeds: dict[int, int]) -> Iterator[None]:
    """Every thought is as long as is said of its seed."""
    from lt_hpc.engines import vllm_engine

    given = vllm_engine.sampling

    def sampling(params: SamplingParams, seed: int) -> Any:
        made = given(params, seed)
        made.max_tokens = of_seeds[seed]
        return made

    vllm_engine.sampling = sampling
    try:
        yield
    finally:
        vllm_engine.sampling = given


@dataclass(frozen=True)
class Block:
    chunks: list[tuple[list[int], list[int]]]
    draws: list[list[int]]


def work(chunk: tuple[list[int], list[int]], draws: list[int], params: SamplingParams) -> Work[Found]:
    """As stages/estep.py does it, with the end of every thought given."""
    (prefix, suffix), joint = chunk, LAYOUT.joint_prompt(chunk[0])
    samples = yield Draw(LAYOUT.posterior_prompt(prefix, suffix), draws, params)
    scores = yield Score(joint, [[*one.ids.tolist(), LAYOUT.eol, *suffix] for one in samples])
    return Found([one.ids for one in samples], [one.logprobs for one in samples], scores)


def drained(engine: Any, blocks: list[Block], params: SamplingParams) -> Iterator[list[Found]]:
    for block in blocks:
        prompts = [LAYOUT.posterior_prompt(*chunk) for chunk in block.chunks]
        samples = engine.sample(prompts, block.draws, params)
        joints = [
            [[*one.ids.tolist(), LAYOUT.eol, *x] for one in many]
            for (_, x), many in zip(block.chunks, samples, strict=True)
        ]
        scores = engine.score([LAYOUT.joint_prompt(c) for c, _ in block.chunks], joints)
        yield [
            Found([one.ids for one in many], [one.logprobs for one in many], of_many)
            for many, of_many in zip(samples, scores, strict=True)
        ]


def in_flight(engine: Any, blocks: list[Block], params: SamplingParams) -> Iterator[list[Found]]:
    works = (
        (number, [work(chunk, own, params) for chunk, own in zip(block.chunks, block.draws, strict=True)])
        for number, block in enumerate(blocks)
    )
    found = dict(engine.complete(works))
    yield from (found[number] for number in range(len(blocks)))


def compare(engine: Any, blocks: list[Block], mean: float, slots: int, repeats: int) -> dict[str, Arm]:
    """Both ways over these blocks, with thoughts of so many tokens on average."""
    draws = [seed for block in blocks for many in block.draws for seed in many]
    drawn = lengths(len(draws), mean)
    params, steps = SamplingParams(int(drawn.max()), NO_STOP), Counted(engine)
    arms = {"drained": (drained, Arm()), "in flight": (in_flight, Arm())}
    print(f"thoughts of {drawn.mean():.0f} tokens ({drawn.min()} to {drawn.max()})", flush=True)
    with forced(dict(zip(draws, drawn.tolist(), strict=True))):
        for repeat in range(repeats):
            for run, arm in list(arms.values())[:: 1 if repeat % 2 == 0 else -1]:
                steps.running, started, cpu_started = [], time.monotonic(), time.process_time()
                arm.found = list(run(engine, blocks, params))
                arm.seconds.append(time.monotonic() - started)
                arm.cpu_seconds.append(time.process_time() - cpu_started)
                arm.running = steps.running
                full = (step + 1 for step, n in enumerate(arm.running) if n >= slots)
                arm.filled = max(full, default=len(arm.running))
                print(f"{run.__name__}: {arm.seconds[-1]:.1f} s, {len(arm.running)} steps", flush=True)
    return {name: arm for name, (_, arm) in arms.items()}


def differences(one: Arm, other: Arm) -> str:
    pairs = [
        pair for blocks in zip(one.found, other.found, strict=True) for pair in zip(*blocks, strict=True)
    ]
    tokens = sum(any(not np.array_equal(x, y) for x, y in zip(a.ids, b.ids, strict=True)) for a, b in pairs)
    same = [(a, b) for a, b in pairs if all(np.array_equal(x, y) for x, y in zip(a.ids, b.ids, strict=True))]
    log_q = sum(any(not np.array_equal(x, y) for x, y in zip(a.log_q, b.log_q, strict=True)) for a, b in same)
    moved = [float(np.abs(a.log_weights - b.log_weights).max()) for a, b in same]
    return (
        f"of {len(pairs)} chunks {tokens} differ in tokens; of the others {log_q} in the bytes of log q and "
        f"{sum(one > 0 for one in moved)} in log-weights, by at most {max(moved, default=0.0):.2g} nats"
    )


@dataclass
class Simulated:
    """A server whose requests are the steps that they take; `used`: slots by steps up to now."""

    ends: list[tuple[int, int]] = field(default_factory=list)
    steps: int = 0
    used: int = 0

    def add(self, number: int, request: int) -> None:
        heapq.heappush(self.ends, (self.steps + request, number))

    def step(self) -> Iterator[tuple[int, None]]:
        """Up to the next end of a request."""
        until = self.ends[0][0]
        self.used += len(self.ends) * (until - self.steps)
        self.steps = until
        while self.ends and self.ends[0][0] == until:
            yield heapq.heappop(self.ends)[1], None

    def drop(self, numbers: Collection[int]) -> None:
        self.ends = [one for one in self.ends if one[1] not in numbers]


def simulate(options: argparse.Namespace) -> None:
    shape = options.blocks, options.block_chunks, options.samples
    drawn = lengths(math.prod(shape), options.mean).reshape(shape).tolist()

    def chunk(thoughts: list[int]) -> Steps[None]:
        yield thoughts
        yield [1] * len(thoughts)

    def run(together: int) -> Simulated:
        server = Simulated()
        queue = Queue(server, options.slots)
        for first in range(0, options.blocks, together):
            some = ((None, map(chunk, block)) for block in drawn[first : first + together])
            list(queue.complete(some, lambda: False))
        return server

    one, all_ = run(1), run(options.blocks)
    used = [server.used / server.steps / options.slots for server in (one, all_)]
    print(
        f"{options.slots} slots, {options.blocks} blocks of {shape[1] * shape[2]} thoughts: slots used "
        f"{used[0]:.3f} drained, {used[1]:.3f} in flight; drained to in flight {one.steps / all_.steps:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--slots", type=int, default=64, help="sample.vllm.max_num_seqs")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--block-chunks", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--mean", type=float, default=430, help="tokens of a thought")
    parser.add_argument("--prefix-tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kv-cache-gb", type=float, default=4.0)
    parser.add_argument("--simulate", action="store_true")
    options = parser.parse_args()
    if options.simulate:
        simulate(options)
        return
    from transformers import AutoTokenizer

    from lt_hpc.engines import vllm_engine

    size, mean = options.block_chunks, options.mean
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    chunks = word_problems(tokenizer, size * options.blocks, options.prefix_tokens)
    draws = [[seeds.derive(0, "bench", i, k) for k in range(options.samples)] for i in range(len(chunks))]
    longest = max(len(c) + len(x) for c, x in chunks) + int(LIMIT * mean) + 8
    settings = VllmConfig(kv_cache_gb=options.kv_cache_gb, max_num_seqs=options.slots)
    engine = vllm_engine.VllmEngine(options.model, options.dtype, settings, longest)
    blocks = [Block(chunks[i : i + size], draws[i : i + size]) for i in range(0, len(chunks), size)]
    list(drained(engine, [Block(chunks[:1], [draws[0][:1]])], SamplingParams(4, NO_STOP)))  # warm
    print(
        f"{options.dtype}, {options.slots} slots, {options.blocks} blocks of {size} chunks, "
        f"K={options.samples}, ",
        end="",
    )
    arms = compare(engine, blocks, mean, options.slots, options.repeats)
    print("| blocks | s | CPU s | steps | slots used | while filled | drained to this: wall, CPU |")
    print("|---|---|---|---|---|---|---|")
    for name, arm in arms.items():
        whole, filled = arm.used(options.slots)
        print(
            f"| {name} | {spread(arm.seconds)} | {spread(arm.cpu_seconds)} | {len(arm.running)} "
            f"| {whole:.3f} | {filled:.3f} | {ratio(arms['drained'].seconds, arm.seconds)}, "
            f"{ratio(arms['drained'].cpu_seconds, arm.cpu_seconds)} |"
        )
    print(differences(arms["drained"], arms["in flight"]))


if __name__ == "__main__":
    main()
