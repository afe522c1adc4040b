"""Scores thoughts of a finished E-step again with full forwards of plain transformers, one
sequence at a time, without cache, batch or padding, and compares the log-probabilities.

    python tools/verify_weights.py runs/demo --iteration 1 --thoughts 200

Exit code 1 when a log-probability is off by more than --tolerance nats per token.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from lt_hpc.data.corpus import View, read_corpus
from lt_hpc.engines.proposal import log_proposal
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.latent.weights import prior_count
from lt_hpc.run.plan import Plan
from lt_hpc.run.state import last_plan
from lt_hpc.stages.task import read_vocabulary
from lt_hpc.store import shards, tables
from lt_hpc.store.paths import RunPaths, block_part, shard_folder

NAMES = ("log_q", "log_prior", "log_likelihood", "log_proposal")


def thoughts(
    plan: Plan, paths: RunPaths, iteration: int
) -> Iterator[tuple[list[int], list[int], list[int], bool, float | None, list[float]]]:
    """(prefix, suffix, thought, whether it was cut, share of its chunk's thoughts from the prior, recorded
    sums in nats) of every thought. The share is None where some thoughts are of earlier iterations."""
    config = plan.config
    view = View(
        config.chunking.prefix_chunks,
        config.model.context_length,
        config.sample.max_thought_tokens,
        read_vocabulary(paths.base).bos,
        config.chunking.prefix_stride,
    )
    folder = paths.samples(iteration)
    documents = plan.producer(str(folder.relative_to(paths.root))).inputs["corpus"]
    corpus = read_corpus(paths.root / documents, plan.output(documents), view)
    chunks = {chunk.chunk_id: chunk for chunk in corpus.chunks()}
    shard_map = shards.read(folder)
    if shard_map is None:
        sys.exit(f"{folder}: no samples here")
    for shard in range(shard_map.num_shards):
        for block in shard_map.blocks(shard):
            table = tables.read(shard_folder(folder, shard) / block_part(block), tables.POOLED)
            for row in table.to_pylist():
                chunk = chunks[row["chunk"]]
                for k, thought in enumerate(row["thoughts"]):
                    recorded = [row[name][k] for name in NAMES]
                    count, pooled = len(row["thoughts"]), row.get("drawn") is not None
                    share = None if pooled else prior_count(count, config.sample.prior_share) / count
                    yield chunk.prefix, chunk.suffix, thought, row["cut"][k], share, recorded


@torch.inference_mode()  # type: ignore[untyped-decorator]
def score(
    model: torch.nn.Module, prompt: list[int], ids: list[int], params: SamplingParams | None
) -> np.ndarray:
    """log p of each of `ids` after `prompt` [T], float64 nats; under `params` where given."""
    logits = model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    table = log_proposal(logits, params) if params else logits.log_softmax(-1)
    found: np.ndarray = table[torch.arange(len(ids)), torch.tensor(ids)].double().numpy()
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--iteration", type=int, default=1)
    parser.add_argument("--thoughts", type=int, default=200)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="nats per token")
    options = parser.parse_args()
    paths = RunPaths(options.run_dir)
    plan = last_plan(paths)
    layout = read_vocabulary(paths.base).layout
    settings = plan.config.sample
    params = SamplingParams(
        settings.max_thought_tokens, layout.eol, settings.temperature, settings.top_p, settings.top_k
    )
    model = AutoModelForCausalLM.from_pretrained(
        paths.model(options.iteration - 1), dtype=torch.float32
    ).eval()
    every = list(thoughts(plan, paths, options.iteration))
    chosen = np.random.default_rng(0).permutation(len(every))[: options.thoughts]
    deviations = []
    for index in chosen:
        prefix, suffix, thought, cut, share, recorded = every[index]
        free = thought[:-1] if cut else thought  # nothing drew the <EOL> of a thought that was cut
        log_q = score(model, layout.posterior_prompt(prefix, suffix), free, params).sum()
        joint = score(model, layout.joint_prompt(prefix), [*thought, *suffix], None)
        drawn = recorded[-1]  # of a mixture of several models: not compared
        if share is not None:
            drawn = np.log((1 - share) * np.exp(log_q) + share * np.exp(joint[: len(free)].sum()))
        found = np.array([log_q, joint[: len(thought)].sum(), joint[len(thought) :].sum(), drawn])
        with np.errstate(invalid="ignore"):  # of thoughts that q never draws
            difference = np.where(found == recorded, 0.0, np.abs(found - recorded))
        deviations.append(difference / [len(thought), len(thought), len(suffix), len(thought)])
    table = np.array(deviations)
    print(f"{len(table)} thoughts of iteration {options.iteration}; deviation in nats per token")
    for name, column in zip(NAMES, table.T, strict=True):
        print(f"{name:15} median {np.median(column):.2e}, largest {column.max():.2e}")
    return int(not table.max() <= options.tolerance)


if __name__ == "__main__":
    sys.exit(main())
