"""How a process learns where it stands."""

from __future__ import annotations

from lt_hpc.cluster.place import Place
from lt_hpc.cluster.schedulers import here

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_ARRAY_JOB_ID": "9",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_STEP_ID": "0",
    "SLURM_RESTART_COUNT": "2",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURMD_NODENAME": "node1",
}


def test_a_step_of_slurm_tells_rank_node_job_and_restart() -> None:
    assert here(STEP) == Place(5, 8, 1, "12-2-0", 2, "9_3", "node1")


def test_what_a_launcher_gave_goes_before_what_surrounds_it() -> None:
    """A local launch from inside of a job's shell."""
    given = Place(rank=1, count=2, local_rank=1, attempt="abc", parent=7)
    assert here({**STEP, **given.to_environment()}) == given


def test_a_process_that_nobody_placed_is_alone() -> None:
    assert here({}) == Place()
    assert here({"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "batch", "SLURM_PROCID": "0"}) == Place()
