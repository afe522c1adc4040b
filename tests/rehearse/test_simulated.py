"""What a rehearsal says a preemption is, on sites as they answered."""

from __future__ import annotations

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.rehearse.machines import simulated_at
from tests.cluster.recorded import site


@pytest.mark.parametrize(
    ("name", "signal", "said"),
    [
        ("requeue", "USR2", "(slurm.signal_seconds), as Slurm does it there"),
        ("cancel", "TERM", "Not rehearsed: there Slurm cancels what has not left"),
        ("suspend", "USR2", "itself preempts nothing that way (SUSPEND)"),
        ("none", "TERM", "120 s (slurm.signal_seconds). partition preempt itself preempts nothing"),
    ],
)
def test_what_a_preemption_is_and_what_it_is_not_is_said(name: str, signal: str, said: str) -> None:
    config = load_config(demo_file(), ["slurm.partition=preempt"])
    (line,) = simulated_at(site(name), config)
    assert f": {signal}, and scontrol requeue" in line and said in line


def test_stages_on_other_partitions_are_spoken_of_by_themselves() -> None:
    config = load_config(demo_file(), ["slurm.partition=preempt", "slurm.merge.partition=high"])
    assert len(simulated_at(site("requeue"), config)) == 2


def test_the_notice_is_that_of_the_partition_where_it_is_shorter() -> None:
    config = load_config(demo_file(), ["slurm.partition=preempt", "slurm.signal_seconds=200"])
    (line,) = simulated_at(site("requeue"), config)
    assert "(GraceTime=120 of partition preempt), as Slurm does it there" in line
