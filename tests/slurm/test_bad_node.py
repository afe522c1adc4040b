"""A node whose tasks fail, on a real Slurm: what is submitted or waits goes elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.runs.small_run import events
from tests.slurm.conftest import Cluster, begun


def test_a_node_on_which_tasks_fail_is_left_out_of_what_is_submitted_next(
    cluster: Cluster, local_run: Path, tmp_path: Path
) -> None:
    """On n1 tasks of the E-step, which take a node each, get a torch that says what a lost card does."""
    run, broken = tmp_path / "run", tmp_path / "broken"
    begun(local_run, run)
    broken.mkdir()
    (broken / "torch.py").write_text("raise RuntimeError('CUDA error: uncorrectable ECC error')\n")
    lost = f"export PYTHONPATH={broken}:$PYTHONPATH"
    setup = f"case $SLURMD_NODENAME-$SLURM_JOB_NAME in n1-sample*) {lost};; esac"
    options = [f'slurm.setup=["{setup}"]', "slurm.sample.cpus_per_task=4"]
    cluster.launch(run, "--iters", "1", *options)

    def since(event: str) -> list[dict[str, object]]:
        """What happened after a node was excluded."""
        found = events(run)
        places = [place for place, one in enumerate(found) if one["event"] == "excluded"]
        return [one for one in found[places[0] :] if one["event"] == event] if places else []

    cluster.wait(lambda: bool(since("started")), "the start of tasks that leave a node out")
    (excluded,) = since("excluded")
    assert excluded["node"] == "n1" and "uncorrectable ECC error" in str(excluded["evidence"])
    assert "n1" not in {one["node"] for one in since("started")}
    waiting = [job for job, name, _, _ in cluster.queue() if name.startswith("train-01")]
    shown = cluster.run("scontrol", "--oneliner", "show", "job", *waiting)
    assert "ExcNodeList=n1 " in shown, "it was in the queue before"
    said = cluster.run(sys.executable, "-m", "lt_hpc.status", str(run), check=False)
    assert f"jobs leave out n1 since {excluded['time']}: " in said
    cluster.run("scancel", "--me")
    cluster.wait_idle()
