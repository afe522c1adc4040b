"""A real language model in the benchmark command, against the harness's own engine."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.benchmark_run import answers, assert_same, items, launched, under_the_harness
from tests.runs.small_run import finish

TASKS = ["lt_chain_sum", "lt_chain_choice"]
LIMIT = 8
LENGTH = 384


def test_a_real_model_scores_as_under_the_harness_s_own_engine(smollm2: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [
        f"benchmark.tasks=[{','.join(TASKS)}]",
        f"benchmark.limit={LIMIT}",
        "benchmark.thoughts=false",
    ]
    printed = finish(launched(run, smollm2, *settings, f"model.context_length={LENGTH}"))
    assert all(name in printed for name in TASKS) and "report.html" in printed
    records = items(run)
    assert [(row["task"], row["document"]) for row in records] == [
        (t, n) for t in TASKS for n in range(LIMIT)
    ]
    for name in TASKS:
        assert len({tuple(row["answers"]) for row in records if row["task"] == name}) > 2, "it reads them"
    assert all(row["lost_tokens"] == 0 for row in answers(run))
    assert_same(run, under_the_harness(smollm2, TASKS, LIMIT, LENGTH), tolerance=1e-3)
