"""Plans that can't end on a site are refused with a change, and with the change they are not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.doctor.judged import find, judged

MINUTES = [f"slurm.{kind}.minutes=5" for kind in ("prepare", "sample", "merge", "train", "evaluate")]
PACE = ["hardware.sampled_tokens_per_second=10", "hardware.scored_tokens_per_second=100"]


@dataclass(frozen=True)
class Case:
    """A site, what is asked of it, the row that is refused, and the change that it names."""

    site: str
    asked: list[str]
    group: str
    what: str
    change: str
    more: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("tiny", [], "train", "time", "slurm.train.minutes=5"),
    Case("tiny", ["slurm.signal_seconds=30"], "sample", "time", "slurm.sample.minutes=5"),
    Case("none", ["slurm.train.minutes=2881"], "train", "time", "slurm.train.minutes=2880"),
    Case(
        "qos", ["slurm.account=myproject", "slurm.train.minutes=1500"],
        "train", "time", "slurm.train.minutes=1440",
    ),
    Case(
        "qos", ["slurm.account=myproject", "slurm.qos=spot", "slurm.train.minutes=800"],
        "train", "time", "slurm.train.minutes=720",
    ),
    Case(
        "qos", ["slurm.sample.partition=short", "slurm.sample.minutes=61"],
        "sample", "time", "slurm.sample.minutes=60",
    ),
    Case("requeue", ["slurm.signal_seconds=3600"], "train", "warning", "slurm.signal_seconds=900"),
    Case("requeue", ["slurm.partition=gpu"], "train", "partition", "slurm.train.partition=preempt"),
    Case("qos", ["slurm.partition=maintenance"], "train", "state", "slurm.train.partition=gpu"),
    Case("requeue", ["slurm.train.gpus_per_node=8"], "train", "GPUs", "slurm.train.gpus_per_node=4"),
    Case(
        "requeue", ["slurm.train.gpus_per_node=8", "slurm.train.tasks_per_node=8"],
        "train", "GPUs", "slurm.train.gpus_per_node=4 slurm.train.tasks_per_node=4",
    ),
    Case(
        "requeue", ["slurm.train.tasks_per_node=2", "slurm.train.cpus_per_task=4"],
        "train", "CPUs", "slurm.train.cpus_per_task=2",
    ),
    Case("requeue", ["slurm.train.tasks_per_node=8"], "train", "CPUs", "slurm.train.tasks_per_node=4"),
    Case("requeue", ["slurm.merge.memory=64GB"], "merge", "memory of a node", "slurm.merge.memory=4000M"),
    Case(
        "tiny", [*MINUTES, "slurm.merge.memory=850M"],
        "merge", "memory of a node", "slurm.merge.memory=800M",
    ),
    Case("requeue", ["slurm.train.nodes=5"], "train", "nodes", "slurm.train.nodes=4"),
    Case("tiny", [*MINUTES, "slurm.train.nodes=2"], "train", "nodes", "slurm.train.nodes=1"),
    Case("qos", ["slurm.train.constraint=a100"], "train", "nodes", "slurm.train.constraint=h100"),
    Case(
        "requeue", ["slurm.train.minutes=5", "train.checkpoint_seconds=600"],
        "plan", "checkpoints of train-01", "train.checkpoint_seconds=75 slurm.signal_seconds=195",
        {"costs": (100.0, 30.0)},
    ),
    Case(
        "requeue", ["slurm.train.minutes=5", "train.checkpoint_steps=100"],
        "plan", "checkpoints of train-01", "train.checkpoint_steps=2 slurm.signal_seconds=195",
        {"costs": (100.0, 30.0)},
    ),
    Case(
        "requeue", ["slurm.train.minutes=5"],
        "plan", "checkpoints of train-01", "slurm.train.minutes=30", {"costs": (500.0, 100.0)},
    ),
    Case(
        "requeue", [*PACE, "slurm.sample.minutes=10", "slurm.evaluate.minutes=600"],
        "plan", "a block of sample", "slurm.sample.minutes=192, or sample.block_chunks=6",
    ),
    Case(
        "requeue", ["sample.engine=vllm", "sample.vllm.tensor_parallel_size=3"],
        "plan", "tensor parallelism", "sample.vllm.tensor_parallel_size=2",
    ),
    Case(
        "requeue", ["slurm.sample.gpus_per_node=2", "slurm.sample.tasks_per_node=4"],
        "plan", "engines of sample", "slurm.sample.tasks_per_node=2",
    ),
    Case(
        "tiny", ["sample.num_shards=30"],
        "plan", "number of jobs", "slurm.max_array_tasks=15",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.site}: {case.what}, {case.change}"[:70])
def test_what_can_not_end_is_refused_and_with_the_change_it_is_not(case: Case) -> None:
    row = find(judged(case.site, *case.asked, **case.more), case.group, case.what)
    assert (row.verdict, row.change) == ("refused", case.change), row
    first = case.change.partition(", or ")[0].split()
    changed = judged(case.site, *case.asked, *first, **case.more)
    same = [row for row in changed if row.group.startswith(case.group) and row.what == case.what]
    assert all(row.verdict != "refused" for row in same), same


def test_the_other_change_that_is_named_for_a_block_will_do_as_well() -> None:
    asked = [*PACE, "slurm.sample.minutes=10", "slurm.evaluate.minutes=600", "sample.block_chunks=6"]
    assert find(judged("requeue", *asked), "plan", "a block of sample").verdict == "ok"


def test_an_evaluation_in_shards_is_judged_by_the_jobs_that_measure() -> None:
    asked = [*PACE, "evaluate.num_shards=3", "slurm.sample.minutes=600", "slurm.evaluate.minutes=5"]
    block = find(judged("requeue", *asked, "slurm.measure.minutes=10"), "plan", "a block of measure")
    assert block.verdict == "refused" and block.change.startswith("slurm.measure.minutes=")
    rows = judged("requeue", *asked, block.change.partition(",")[0])
    assert find(rows, "plan", "a block of measure").verdict != "refused"
    assert "a block of evaluate" not in {row.what for row in rows}
    shared = ("slurm.measure.gpus_per_node=2", "slurm.measure.tasks_per_node=4")
    assert find(judged("requeue", *asked, *shared), "plan", "engines of measure").verdict == "refused"


def test_where_no_fewer_tasks_suffice_fewer_iterations_are_named() -> None:
    asked = ["slurm.account=myproject", "sample.num_shards=300"]
    row = find(judged("qos", *asked, queued=90), "plan", "number of jobs")
    assert (row.verdict, row.change.partition(",")[0]) == ("refused", "--iters 1 slurm.max_array_tasks=1")
    fewer = judged("qos", *asked, "slurm.max_array_tasks=1", queued=90, iterations=1)
    assert find(fewer, "plan", "number of jobs").verdict == "ok"


def test_a_change_that_the_site_does_not_allow_is_not_named() -> None:
    slow = ["hardware.sampled_tokens_per_second=1", "hardware.scored_tokens_per_second=1"]
    row = find(judged("none", *slow), "plan", "a block of sample")
    assert (row.verdict, row.change.partition("=")[0]) == ("refused", "sample.block_chunks")
    assert find(judged("none", *slow, row.change), "plan", "a block of sample").verdict == "ok"


def test_a_site_without_arrays_is_refused() -> None:
    row = find(judged("requeue", change=("= 1001", "= 0")), "plan", "job arrays")
    assert row.verdict == "refused" and "em_iter.sh" in row.change


def test_nothing_is_refused_on_a_site_that_fits() -> None:
    for name in ("requeue", "cancel", "suspend", "none", "qos"):
        refused = [row for row in judged(name) if row.verdict == "refused"]
        assert refused == [], name


def test_where_launch_spreads_the_shards_itself_nothing_is_refused() -> None:
    asked = ["slurm.account=myproject", "sample.num_shards=300"]
    row = find(judged("qos", *asked), "plan", "number of jobs")
    assert row.verdict == "ok" and "leaves 100" in row.found
    arrays = find(judged("tiny", "sample.num_shards=10", *MINUTES), "plan", "job arrays")
    assert arrays.plan.startswith("sample-01: 3 of at most 4 tasks")


def test_rows_are_data() -> None:
    assert dataclasses.asdict(judged("none")[0])["verdict"] == "ok"
