"""Training stopped at a random step goes on: on the same ranks to the same bytes, on others along
the same curve."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.small_run import finish, kill_all, launch, outputs, progress, wait_until

SEED = random.SystemRandom().randrange(2**32)


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


def steps(run: Path) -> list[dict[str, float]]:
    """The lines of the last training's log, one a step that was made, in the order they were."""
    (path,) = run.glob("logs/train-01-*.jsonl")
    return [value for value in map(json.loads, path.read_text().splitlines()) if "step" in value]


@pytest.mark.parametrize("how", ["TERM", "KILL"])
def test_stopped_at_a_random_step_it_ends_with_the_same_bytes(
    undisturbed: Path, tmp_path: Path, how: str
) -> None:
    run = tmp_path / "run"
    before_training(undisturbed, run)
    target = random.Random(SEED).randint(1, 5)
    process = launch(run)
    wait_until(lambda: progress(run, "train-01.0") >= target, process)
    if how == "KILL":
        kill_all(process, run)
    else:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode == 75, output
    finish(launch(run))
    assert losses(run) == losses(undisturbed), f"seed {SEED}, stopped after step {target}"
    assert outputs(run) == outputs(undisturbed), f"seed {SEED}, stopped after step {target}"


def test_killed_on_two_ranks_it_goes_on_on_one_and_under_another_zero_stage(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    before_training(undisturbed, run)
    process = launch(run)
    wait_until(lambda: progress(run, "train-01.0") >= 4, process)
    kill_all(process, run)
    made = len(steps(run))
    finish(launch(run, "local.train_ranks=1", "train.zero_stage=3"))
    assert losses(run) == pytest.approx(losses(undisturbed), abs=1e-4)
    again = steps(run)[made:]
    assert again[0]["step"] in (2, 4), "it went on from a checkpoint"
    (path,) = undisturbed.glob("logs/train-01-*.jsonl")
    tokens = {value["step"]: value["tokens"] for value in steps(undisturbed)}
    assert path.is_file() and all(value["tokens"] == tokens[value["step"]] for value in again)


def test_what_checkpoints_cost_is_recorded(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "iter-01/model/manifest.json").read_text())["statistics"]
    # Twelve bytes a parameter (master weight and two moments), over both ranks.
    assert record["checkpoint"]["bytes"] == pytest.approx(12 * 337_344, rel=0.02)
    assert 0 <= record["checkpoint"]["blocked_seconds"] <= record["checkpoint"]["seconds"]
    assert record["longest_step_seconds"] > 0
    assert not list((undisturbed / "iter-01").glob("checkpoints/*"))
