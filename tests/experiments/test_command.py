"""An experiment by its command: killed, going on, and shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from lt_hpc.errors import StageError
from lt_hpc.experiment import main
from lt_hpc.store.paths import RunPaths
from tests.experiments.toy import arguments, command, write
from tests.runs.small_run import TIMEOUT_SECONDS, wait_until


def tree(folder: Path) -> dict[str, int]:
    """Path -> when it was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def start(path: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command(path, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for it; its output. The exit code must be 0."""
    try:
        output, _ = process.communicate(timeout=4 * TIMEOUT_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def test_two_arms_with_two_seeds_are_killed_and_go_on_and_serve_another_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    folder = out / "toy-toy"
    first = RunPaths(folder / "seed-0" / "few")
    killed = start(path, out)
    wait_until((first.model(0) / "manifest.json").exists, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    model = (first.model(0) / "manifest.json").stat()

    output = finish(start(path, out))
    assert (first.model(0) / "manifest.json").stat().st_ino == model.st_ino
    for seed in (0, 1):
        assert f"seed {seed}, more: shares base, corpus, warm, heldout" in output
        assert (folder / f"seed-{seed}" / "more" / "report.json").exists()
    table = output[output.index("## A toy (toy, toy)") :]
    assert "| more – few | " in table
    assert "one seed" not in table
    found = json.loads((folder / "results.json").read_text())
    assert [list(arm["rows"]) for arm in found["arms"].values()] == [["0", "1"], ["0", "1"]]
    assert list(found["pairs"][0]["by_seed"]) == ["0", "1"]
    assert (folder / "results.svg").stat().st_size > 0

    results = {name: (folder / name).read_bytes() for name in ("results.json", "results.svg")}
    runs = tree(folder / "seed-0") | tree(folder / "seed-1")
    assert main(arguments(path, out, "--show")) == 0
    assert tree(folder / "seed-0") | tree(folder / "seed-1") == runs
    assert {name: (folder / name).read_bytes() for name in results} == results
    assert capsys.readouterr().out == table

    again = path.rename(tmp_path / "again.yaml")
    assert main(arguments(again, out, "--seeds", "0", "--arms", "few")) == 0
    assert "seed 0, few: shares base, corpus, warm, heldout, iter-00/model" in capsys.readouterr().out
    copied = RunPaths(out / "again-toy" / "seed-0" / "few").model(0) / "manifest.json"
    assert copied.stat().st_ino == model.st_ino


def test_show_starts_nothing_and_names_what_is_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(arguments(write(tmp_path), out, "--show", "--seeds", "4")) == 0
    assert "not done: seed 4, few; seed 4, more" in capsys.readouterr().out
    assert not out.exists()


def test_a_run_that_fails_is_named_with_its_log_and_the_others_are_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files stand where the runs keep what was asked."""
    folder = tmp_path / "out" / "toy-toy" / "seed-0"
    for arm in ("few", "more"):
        (folder / arm).mkdir(parents=True)
        (folder / arm / "plans").write_text("")
    assert main(arguments(write(tmp_path), tmp_path / "out", "--seeds", "0")) == StageError.exit_code
    said = capsys.readouterr()
    assert "2 of 2 runs failed, first: seed 0, few" in said.err
    assert f"({folder / 'few.log'}); the same command goes on" in said.err
    assert f"exit code 74: error: {folder / 'more' / 'plans'}" in said.out
    assert "not done: seed 0, few; seed 0, more" in said.out
