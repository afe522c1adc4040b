"""Trackers get an iteration's figures when its evaluation is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs.small_run import finish, launch


def test_launched_again_a_run_has_one_set_of_curves_with_the_report_s_figures(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for _ in range(2):
        finish(launch(run, "train.trackers=[tensorboard]"))
    (folder,) = (run / "trackers" / "tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    shown = {tag: {one.step: one.value for one in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    rows = json.loads((run / "report.json").read_text())["iterations"]
    assert shown["heldout/accuracy"] == pytest.approx({n: rows[n]["accuracy"] for n in (0, 1)})
    for number, end in enumerate(("low", "high")):
        expected = {n: rows[n]["intervals"]["bound"][number] for n in (0, 1)}
        assert shown[f"heldout/bound_{end}"] == pytest.approx(expected)
    assert shown["heldout/nll"] == pytest.approx({n: -rows[n]["nll"] for n in (0, 1)})
    assert shown["estep/ess_mean"] == pytest.approx({1: rows[1]["selection"]["ess_mean"]})
    assert shown["tokens/sampled"] == pytest.approx({0: 0, 1: rows[1]["tokens"]["sampled"]})
