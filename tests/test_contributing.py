"""The how-tos of CONTRIBUTING.md, followed to the letter on a copy of lt_hpc, and what a user then sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lt_hpc.errors import IncompleteError
from lt_hpc.store import manifest
from lt_hpc.store.paths import LAYOUT

ROOT = Path(__file__).parents[1]
FILES = {
    "Add an engine": 2,
    "Add a selection rule": 1,
    "A stage of one task": 3,
    "A stage in shards": 3,
    "Add a measure": 3,
    "Add a plot": 2,
}
"""How-to -> files of lt_hpc that it may touch."""
TOP = ("merge.method=top", "merge.num_selected=2")


def diffs(title: str) -> list[str]:
    """The diffs below a title of CONTRIBUTING.md, up to the next title."""
    sections = re.split(r"(?m)^##+ ", (ROOT / "CONTRIBUTING.md").read_text())
    (section,) = [one for one in sections if one.startswith(f"{title}\n")]
    return re.findall(r"(?ms)^```diff\n(.*?)^```$", section)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lt_hpc as it is after all how-tos."""
    folder = tmp_path_factory.mktemp("changed")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("lt_hpc", "tests/latent", "tests/test_structure.py", "docs/design.md", "pyproject.toml"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    for title in FILES:
        for diff in diffs(title):
            command = ["git", "apply", "--recount", "--verbose", "-"]
            result = subprocess.run(command, cwd=folder, input=diff, text=True, capture_output=True)
            assert result.returncode == 0, f"{title}: {result.stderr}"
    return folder


def checked(folder: Path, cwd: Path, *command: str) -> str:
    """The output of a Python module that must succeed, with `folder` before all others on the path."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("title", FILES)
def test_a_how_to_touches_no_more_files_than_it_says(title: str) -> None:
    found = {path for diff in diffs(title) for path in re.findall(r"(?m)^\+\+\+ b/(.*)$", diff)}
    assert all(path.startswith("lt_hpc/") for path in found)
    assert len(found) == FILES[title]


def test_the_changed_code_passes_the_checks_of_the_project(changed: Path) -> None:
    for command in (("ruff", "check", "lt_hpc"), ("ruff", "format", "--check", "lt_hpc"), ("mypy", "lt_hpc")):
        checked(changed, changed, *command)
    unchanged_tests = ("tests/test_structure.py", "tests/latent/test_resampling.py")
    checked(changed, changed, "pytest", "-q", "-p", "no:cacheprovider", *unchanged_tests)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run: a tiny model, the demo's documents, one iteration."""
    with tarfile.open(ROOT / "tests" / "run" / "run_of_f8de9d8.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def launch(folder: Path, run: Path, *overrides: str) -> str:
    """Launch a run again with the lt_hpc in `folder`, to its end; what it printed."""
    options = ("--iters", "1", "--cluster", "local", "--config", "run/config.yaml", "--run-dir", "run")
    small = ("local.train_ranks=1", "train.steps=2")
    printed = checked(folder, run.parent, "lt_hpc.launch", *options, *small, *overrides)
    lines = [line for line in checked(folder, run.parent, "lt_hpc.status", "run").splitlines() if line]
    assert all(" done" in line and "to do" not in line for line in lines), lines
    return printed


def rows(folder: Path) -> list[dict[str, Any]]:
    """Of all Parquet files in a folder, in order."""
    return [row for path in sorted(folder.rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_new_stages_a_rule_and_a_plot_serve_a_finished_run(changed: Path, finished: Path) -> None:
    printed = launch(changed, finished, *TOP)
    first, second = finished / "iter-00", finished / "iter-01"
    assert not {"prepare", "train-00"} & {line.partition(":")[0] for line in printed.splitlines()}, (
        "what was done is kept"
    )
    selected = rows(second / "selected")
    weighed = [row for row in selected if row["samples"] != [-1, -1]]  # else all of its thoughts were cut
    assert weighed
    for row in weighed:
        order = sorted(range(4), key=lambda k: (-row["log_weights"][k], k))
        assert row["samples"] == order[:2]
    tokens = sum(len(thought) for row in selected for thought in row["thoughts"])
    assert json.loads((second / "count" / "count.json").read_text()) == {"tokens": tokens}
    documents = rows(finished / "corpus")
    expected = [
        {"chunk": n, "prefix": len(row["context"]), "suffix": len(row["tokens"])}
        for n, row in enumerate(documents)
    ]
    assert rows(second / "lengths") == expected
    report = json.loads((finished / "report.json").read_text())["iterations"]
    for row, folder in zip(report, (first, second), strict=True):
        measured = json.loads((folder / "likelihood" / "likelihood.json").read_text())
        assert measured["nll"] == pytest.approx(row["nll_marked"], rel=1e-5)
    assert "<!-- cut thoughts -->" in (finished / "report.html").read_text()
    check_that_damage_is_found_and_mended(changed, finished)


def check_that_damage_is_found_and_mended(changed: Path, run: Path) -> None:
    """Files of new stages are verified as those of any other are."""
    path = run / "iter-01" / "count" / "count.json"
    record = manifest.read(path.parent)
    assert record is not None
    manifest.verified(path.parent, record.fingerprint)
    (part,) = (run / "iter-01" / "lengths" / "shard-00001").glob("*-00002.parquet")
    before = path.read_bytes(), part.read_bytes()
    path.write_bytes(before[0] + b" ")
    part.unlink()
    with pytest.raises(IncompleteError, match=r"count\.json"):
        manifest.verified(path.parent, record.fingerprint)
    assert "2 to do" in launch(changed, run, *TOP)
    assert (path.read_bytes(), part.read_bytes()) == before


def test_a_new_engine_samples_and_scores_a_run(changed: Path, finished: Path) -> None:
    launch(changed, finished, "sample.engine=echo")
    layout = json.loads((finished / "base" / LAYOUT).read_text())
    questions = [row["context"] for row in rows(finished / "corpus")]
    samples = rows(finished / "iter-01" / "samples")
    assert len(samples) == len(questions)
    for question, row in zip(questions, samples, strict=True):
        assert row["thoughts"] == [[*question[:3], layout["eol"]]] * 4
        assert row["log_q"] == [0.0] * 4 and row["cut"] == [False] * 4
