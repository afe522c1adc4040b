"""The demo's E-step and evaluation with vLLM in the place of torch, through the launch command."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from lt_hpc.data import chain_task
from lt_hpc.store import manifest
from tests.runs.small_run import wait_until

NUM_DOCUMENTS = 96
NUM_SAMPLES = 4


@dataclass
class Outcome:
    """What an E-step and the evaluation of its model came to."""

    selected_right: float
    cut: float
    finite_weights: bool
    metrics: dict[str, float]
    statistics: dict[str, float]


def run(folder: Path, engine: str) -> Outcome:
    command = [
        sys.executable, "-m", "lt_hpc.launch", "--iters=1", "--cluster=local", f"--run-dir={folder}",
        f"sample.engine={engine}", f"corpus.num_documents={NUM_DOCUMENTS}", "heldout.num_documents=8",
        f"sample.num_samples={NUM_SAMPLES}", "sample.num_shards=1", "sample.block_chunks=48",
        "evaluate.num_samples=2", "evaluate.estimate_samples=8",
        "sample.vllm.kv_cache_gb=0.2", "local.train_ranks=1",
    ]  # fmt: skip
    log = folder.with_suffix(".log")
    with log.open("w") as stream:
        launched = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, text=True)
    made = (folder / "iter-00" / "eval", folder / "iter-01" / "selected")
    wait_until(lambda: all((found := manifest.read(one)) and found.complete for one in made), launched)
    assert all(manifest.read(one) for one in made), log.read_text()
    launched.terminate()  # the next model is of no interest here
    launched.wait()
    rows = read(folder / "iter-01/selected")
    samples = read(folder / "iter-01/samples/shard-00000")
    problems = chain_task.problems(seed=1, count=NUM_DOCUMENTS)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    texts = [tokenizer.decode(row["thoughts"][0]) for row in rows]
    right = sum(text == problem.thought for text, problem in zip(texts, problems, strict=True))
    drawn = list(itertools.chain.from_iterable(row["cut"] for row in samples))
    return Outcome(
        right / NUM_DOCUMENTS,
        sum(drawn) / len(drawn),
        all(w == w for row in rows for w in row["log_weights"]),
        json.loads((folder / "iter-00/eval/metrics.json").read_text()),
        json.loads((folder / "iter-01/samples/shard-00000/manifest.json").read_text())["statistics"],
    )


def read(folder: Path) -> list[dict[str, list[float]]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """With torch, then with vLLM from the same warm start; until thoughts are selected."""
    folder = tmp_path_factory.mktemp("engines")
    by_torch = run(folder / "torch", "torch")
    without = shutil.ignore_patterns("iter-01", "eval", "progress")
    shutil.copytree(folder / "torch", folder / "vllm", ignore=without)
    return by_torch, run(folder / "vllm", "vllm")


def test_the_thoughts_are_as_good_as_those_of_torch(outcomes: tuple[Outcome, Outcome]) -> None:
    by_torch, by_vllm = outcomes
    assert by_torch.selected_right > 0.2, "the warm start must be good enough to tell engines apart"
    for name, count in (("selected_right", NUM_DOCUMENTS), ("cut", NUM_DOCUMENTS * NUM_SAMPLES)):
        one, other = getattr(by_torch, name), getattr(by_vllm, name)
        share = (one + other) / 2
        assert abs(one - other) <= 4 * (2 * share * (1 - share) / count) ** 0.5 + 1 / count, name
    assert by_vllm.finite_weights


def test_the_warm_start_measures_the_same_with_both(outcomes: tuple[Outcome, Outcome]) -> None:
    """What is scored and what is generated greedily does not depend on the engine."""
    by_torch, by_vllm = outcomes
    for name in ("nll", "nll_marked", "accuracy", "accuracy_direct"):
        assert by_vllm.metrics[name] == pytest.approx(by_torch.metrics[name], rel=1e-4), name


def test_a_shard_says_what_it_took(outcomes: tuple[Outcome, Outcome]) -> None:
    for outcome in outcomes:
        found = outcome.statistics
        assert 0 < found["load_share"] < 1
        assert min(found["sampled_tokens_per_second"], found["scored_tokens_per_second"]) > 0
        total = sum(found[f"seconds_{part}"] for part in ("load", "sample", "score"))
        assert found["load_share"] == pytest.approx(found["seconds_load"] / total)
