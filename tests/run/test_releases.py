"""A release redoes nothing but what it computes otherwise: other fingerprints stay, and a run of an earlier
one goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lt_hpc.config.load import load_config
from lt_hpc.errors import ConfigError
from lt_hpc.run import events, state
from lt_hpc.run.build import build_plan
from lt_hpc.store.paths import RunPaths
from tests.runs.small_run import outputs

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"
SOURCES = {
    "model": {"hub": "m", "revision": None},
    "corpus": {"source": "corpus"},
    "warm": {"source": "warm"},
    "heldout": {"source": "heldout"},
}
GOLDEN: dict[str, dict[str, str]] = json.loads((HERE / "golden_fingerprints.json").read_text())
"""File and overrides -> folder -> fingerprint. Those of bases, documents and warm starts are as commit
f8de9d8 worked them out; since then thoughts that are cut have a weight, evaluation measures more, and the raw
control trains on whole documents."""


@pytest.mark.parametrize("case", GOLDEN)
def test_the_shipped_configurations_have_the_fingerprints_of_earlier_releases(case: str) -> None:
    file, *overrides = case.split()
    config = load_config(CONFIGS / file, overrides)
    plan = build_plan(config, 2 if config.objective == "em" else 1, SOURCES)
    assert {f: value for stage in plan.stages for f, value in stage.outputs.items()} == GOLDEN[case]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of f8de9d8: the demo, small, on a tiny model in the folder beside it."""
    with tarfile.open(HERE / "run_of_f8de9d8.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[1]))
    return tmp_path / "run"


def command(module: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", f"lt_hpc.{module}", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_run_of_the_first_release_is_read_reported_and_continued(old: Path) -> None:
    before = outputs(old)
    printed = command("report", str(old))
    assert "-4.969" in printed, "figures of the older release"
    plan = state.last_plan(RunPaths(old))
    assert plan.stage("sample-01").inputs["model"] == "iter-00/model"
    config = str(old / "config.yaml")
    printed = command("launch", "--cluster=local", "--iters=1", "--config", config, "--run-dir", "run")
    assert "2 stages done, 5 to do" in printed
    after = outputs(old)
    kept = [
        name for name in before if name.startswith(("base", "corpus", "warm", "heldout", "iter-00/model"))
    ]
    assert kept and {name: after[name] for name in kept} == {name: before[name] for name in kept}
    redone = [name for name in before if name.endswith(".parquet") and name not in kept]
    assert len(list((old / "superseded").rglob("*.parquet"))) == len(redone), "none is lost"
    submitted = {one.stage for one in events.read(RunPaths(old)) if isinstance(one, events.Submit)}
    again = {f"{name}-01" for name in ("sample", "merge", "train", "evaluate")}
    assert submitted == again | {"evaluate-00"}


def test_the_last_plan_is_recorded_whatever_the_times_of_files_say(old: Path) -> None:
    paths = RunPaths(old)
    first = state.last_plan(paths)
    config = load_config(old / "config.yaml", ["train.steps=21"])
    second = build_plan(config, 1, SOURCES)
    state.pin_plan(paths, second)
    paths.plan(first.fingerprint).touch()
    assert state.last_plan(paths) == second


@pytest.mark.parametrize("text", ["", "{}", '{"plan": "of-no-file"}'])
def test_a_damaged_record_of_the_last_plan_is_named(old: Path, text: str) -> None:
    RunPaths(old).last_plan.write_text(text)
    with pytest.raises(ConfigError, match=r"(last_plan|of-no-file)\.json: .*launch again"):
        state.last_plan(RunPaths(old))
