"""An experiment by its command: killed, going on, shown, and with the bytes of runs that share nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lt_hpc.config.load import demo_file
from lt_hpc.experiment import main
from lt_hpc.store.paths import RunPaths
from tests.experiments.toy import OVERRIDES, arguments, command, write
from tests.runs.small_run import TIMEOUT_SECONDS, outputs, wait_until


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


def test_two_arms_with_two_seeds_are_killed_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    folder = out / "toy-toy"
    first = RunPaths(folder / "seed-0" / "short")
    killed = start(path, out)
    wait_until((first.model(0) / "manifest.json").exists, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    model = (first.model(0) / "manifest.json").stat()

    output = finish(start(path, out))
    assert (first.model(0) / "manifest.json").stat().st_ino == model.st_ino
    for seed in (0, 1):
        assert f"seed {seed}, longer: shares base, corpus, warm, heldout" in output
        assert (folder / f"seed-{seed}" / "longer" / "report.json").exists()
    table = output[output.index("## A toy (toy, toy)") :]
    assert "| longer – short | " in table
    assert "one seed" not in table
    found = json.loads((folder / "results.json").read_text())
    assert [list(arm["rows"]) for arm in found["arms"].values()] == [["0", "1"], ["0", "1"]]
    assert list(found["pairs"][0]["by_seed"]) == ["0", "1"]
    assert (folder / "results.svg").stat().st_size > 0

    alone = tmp_path / "alone"
    seeds = ["seed=1", "corpus.seed=101", "warm.seed=201", "heldout.seed=301"]
    launch = [sys.executable, "-m", "lt_hpc.launch", "--config", str(demo_file()), "--cluster", "local"]
    launch += ["--iters", "0", "--run-dir", str(alone), *OVERRIDES, *seeds, "warm_start.steps=3"]
    subprocess.run(launch, check=True, capture_output=True)
    assert outputs(folder / "seed-1" / "longer") == outputs(alone)

    results = {name: (folder / name).read_bytes() for name in ("results.json", "results.svg")}
    runs = tree(folder / "seed-0") | tree(folder / "seed-1")
    assert main(arguments(path, out, "--show")) == 0
    assert tree(folder / "seed-0") | tree(folder / "seed-1") == runs
    assert {name: (folder / name).read_bytes() for name in results} == results
    assert capsys.readouterr().out == table


def test_show_starts_nothing_and_names_what_is_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(arguments(write(tmp_path), out, "--show", "--seeds", "4")) == 0
    assert "not done: seed 4, short; seed 4, longer" in capsys.readouterr().out
    assert not out.exists()


def test_a_run_that_fails_is_named_with_its_log_and_the_others_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of one arm's labelled documents has a row that can't be read after the first ones."""
    rows = [json.dumps({"question": "2 <ADD> 3", "answer": "5", "thought": "5"})] * 150
    (tmp_path / "bad.jsonl").write_text("\n".join([*rows, '{"question": 3}']))
    columns = ", ".join(f"warm.{name}_column={name}" for name in ("question", "answer", "thought"))
    bad = f"[warm.source={tmp_path / 'bad.jsonl'}, warm.num_documents=null, {columns}]"
    path = write(tmp_path, "[warm_start.steps=3]", bad)
    assert main(arguments(path, tmp_path / "out", "--seeds", "0")) == 4
    error = capsys.readouterr().err
    assert "1 of 2 runs failed, first: seed 0, longer" in error
    assert str(tmp_path / "out" / "toy-toy" / "seed-0" / "longer.log") in error
    found = json.loads((tmp_path / "out" / "toy-toy" / "results.json").read_text())
    assert (list(found["arms"]), found["missing"]) == (["short"], ["seed 0, longer"])
