"""Training stopped at a random step goes on: on the same ranks to the same bytes, on others along
the same curve."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.small_run import finish, kill_all, launch, outputs, steps, wait_until


def before_training(undisturbed: Path, run: Path) -> None:
    """A copy of the run in which the last training has yet to be done."""
    shutil.copytree(undisturbed, run)
    for folder in ("model", "eval"):
        shutil.rmtree(run / "iter-01" / folder)
    shutil.rmtree(run / "logs")
    shutil.rmtree(run / "progress")


def losses(run: Path) -> list[float]:
    found: list[float] = json.loads((run / "iter-01/model/manifest.json").read_text())["statistics"]["losses"]
    return found


@pytest.mark.parametrize("how", [pytest.param("TERM", marks=pytest.mark.slow), "KILL"])  # TERM: as on Slurm
def test_stopped_at_a_random_step_it_ends_with_the_same_bytes(
    undisturbed: Path, tmp_path: Path, rng: random.Random, how: str
) -> None:
    run = tmp_path / "run"
    before_training(undisturbed, run)
    target = rng.randint(1, 5)
    process = launch(run)
    wait_until(lambda: len(steps(run, "train-01")) >= target, process)
    if how == "KILL":
        kill_all(process, run)
    else:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode == 75, output
    finish(launch(run))
    assert losses(run) == losses(undisturbed), f"stopped after step {target}"
    assert outputs(run) == outputs(undisturbed), f"stopped after step {target}"


def test_killed_on_two_ranks_it_goes_on_on_one_and_under_another_zero_stage(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before_training(undisturbed, run)
    process = launch(run)
    wait_until(lambda: any(run.glob("iter-01/checkpoints/*/step-*/manifest.json")), process)
    kill_all(process, run)
    made = len(steps(run, "train-01"))
    finish(launch(run, "local.train_ranks=1", "train.zero_stage=3"))
    assert losses(run) == pytest.approx(losses(undisturbed), abs=1e-4)
    again = steps(run, "train-01")[made:]
    assert again[0]["step"] in (2, 4), "it went on from a checkpoint"
    (path,) = undisturbed.glob("logs/train-01-*.jsonl")
    tokens = {value["step"]: value["tokens"] for value in steps(undisturbed, "train-01")}
    assert path.is_file() and all(value["tokens"] == tokens[value["step"]] for value in again)


def test_what_checkpoints_cost_is_recorded(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "iter-01/model/manifest.json").read_text())["statistics"]
    # Twelve bytes a parameter (master weight and two moments), over both ranks.
    assert record["checkpoint"]["bytes"] == pytest.approx(12 * 337_344, rel=0.02)
    assert 0 <= record["checkpoint"]["blocked_seconds"] <= record["checkpoint"]["seconds"]
    assert record["longest_step_seconds"] > 0
    assert not list((undisturbed / "iter-01").glob("checkpoints/*"))


def test_killed_just_before_it_removes_its_checkpoints_they_are_removed_later(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    fingerprint = json.loads((run / "iter-01/model/manifest.json").read_text())["fingerprint"]
    (plan,) = run.glob("plans/*.json")
    task = [sys.executable, "-m", "lt_hpc.stages", str(run), plan.stem, "train-01"]
    for again in (lambda: subprocess.check_call(task), lambda: finish(launch(run))):
        (run / f"iter-01/checkpoints/{fingerprint}/step-00000004-gone").mkdir(parents=True)
        again()
        assert not list(run.glob("iter-01/checkpoints/*"))
    assert outputs(run) == outputs(undisturbed)
