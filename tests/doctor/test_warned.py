"""What a site does to stages that is no reason not to start, and is said."""

from __future__ import annotations

import json

import pytest

from lt_hpc.doctor.rows import data, text
from tests.doctor.judged import find, judged


@pytest.mark.parametrize(
    ("site", "asked", "kind", "verdict", "said", "change"),
    [
        ("requeue", ["slurm.signal_seconds=60"], "train", "ok", "save and go back", ""),
        ("requeue", ["slurm.signal_seconds=300"], "train", "ok", "preempted jobs have 120 s", ""),
        ("requeue", ["slurm.partition=high"], "train", "ok", "slurm.signal_seconds=120 before", ""),
        ("none", [], "train", "ok", "slurm.signal_seconds=120 before the time limit", ""),
        ("cancel", [], "train", "warning", "the chain submits it again", "slurm.train.partition=high"),
        ("cancel", [], "sample", "warning", "it keeps blocks", "slurm.sample.partition=high"),
        ("suspend", [], "train", "warning", "keeps its memory, on GPUs too", "slurm.train.partition=high"),
        ("qos", ["slurm.qos=spot"], "train", "ok", "preempted jobs have 60 s", ""),
    ],
)  # fmt: skip
def test_what_a_preemption_does(
    site: str, asked: list[str], kind: str, verdict: str, said: str, change: str
) -> None:
    row = find(judged(site, *asked), kind, "preemption")
    assert (row.verdict, row.change) == (verdict, change) and said in row.plan


def test_where_jobs_are_cancelled_a_signal_within_the_grace_saves_them() -> None:
    grace = (
        "GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED",
        "GraceTime=60 Hidden=NO MaxTime=UNLIMITED",
    )
    row = find(judged("cancel", change=grace), "train", "preemption")
    assert (row.verdict, row.change) == ("warning", "slurm.signal_seconds=60")
    assert find(judged("cancel", row.change, change=grace), "train", "preemption").verdict == "ok"


def test_without_grace_what_was_not_saved_is_lost() -> None:
    rows = judged("requeue", change=("GraceTime=120", "GraceTime=0"), costs=(40.0, 10.0))
    row = find(rows, "train", "preemption")
    assert (
        row.verdict == "warning" and "KillWait=30 s" in row.plan and "train.checkpoint_seconds=" in row.change
    )
    saving = find(rows, "plan", "checkpoints of train-01")
    assert saving.verdict == "warning" and "30 s of notice do not suffice" in saving.plan


@pytest.mark.parametrize(
    ("site", "what", "verdict", "said"),
    [
        ("cancel", "JobRequeue", "warning", "goes before it"),
        ("requeue", "JobRequeue", "ok", "--requeue"),
        ("none", "accounting", "ok", "not needed"),
        ("qos", "accounting", "ok", ""),
        ("requeue", "signal", "ok", "USR2"),
        ("cancel", "signal", "ok", "as they do USR2"),
    ],
)
def test_what_the_controllers_settings_mean(site: str, what: str, verdict: str, said: str) -> None:
    row = find(judged(site), "Slurm", what)
    assert row.verdict == verdict and said in row.plan


def test_nodes_that_are_drained_are_counted_and_a_job_that_needs_them_is_warned() -> None:
    row = find(judged("qos", "slurm.train.nodes=2"), "train", "nodes")
    assert row.verdict == "warning" and "1 of them neither down nor drained" in row.found
    assert find(judged("qos", "slurm.train.nodes=1"), "train", "nodes").verdict == "ok"


def test_memory_that_is_not_asked_for_is_that_of_the_partition() -> None:
    row = find(judged("qos", host_bytes=2e10), "train", "memory")
    assert row.verdict == "warning" and "4000 MiB by default" in row.found
    assert find(judged("qos", row.change, host_bytes=2e10), "train", "memory").verdict == "ok"
    uncounted = find(judged("requeue", host_bytes=2e10), "train", "memory")
    assert uncounted.verdict == "ok" and "does not count" in uncounted.found


def test_ranks_without_work_are_told() -> None:
    asked = ["slurm.train.nodes=4", "slurm.train.tasks_per_node=4", "slurm.train.cpus_per_task=1"]
    row = find(judged("requeue", *asked), "plan", "ranks of train-01")
    assert row.verdict == "warning" and "4 ranks would compute nothing" in row.plan


def test_every_row_is_printed_with_its_verdict_and_change_and_is_json() -> None:
    rows = judged("tiny")
    lines = list(text(rows))
    assert "  REFUSED time: MaxTime of partition preempt is 5 min" in "\n".join(lines)
    assert "            change: slurm.train.minutes=5" in lines
    assert lines[-1].startswith("5 refused, ")
    assert len(json.loads(json.dumps(data(rows)))) == len(rows)
