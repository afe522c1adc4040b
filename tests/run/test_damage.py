"""A finished run with a damaged file is looked at without a traceback, and told from a whole one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lt_hpc import launch, status
from lt_hpc.report import __main__ as report
from lt_hpc.report import output
from lt_hpc.run import state
from lt_hpc.store.paths import RunPaths
from tests.runs.small_run import SMALL_RUN

FILES = [
    "config.yaml", "last_plan.json", "plans/*.json", "jobs.jsonl", "run_id.json", "base/manifest.json",
    "base/layout.json", "base/model.safetensors", "base/tokenizer.json", "corpus/manifest.json",
    "corpus/documents-00000.parquet", "iter-00/model/manifest.json", "iter-00/model/model.safetensors",
    "iter-01/samples/shards.json", "iter-01/samples/shard-00000/manifest.json",
    "iter-01/samples/shard-00000/part-00000.parquet", "iter-01/selected/manifest.json",
    "iter-01/selected/shard-00000.parquet", "iter-01/eval/metrics.json", "iter-01/eval/manifest.json",
    "logs/train-01-*.jsonl", "progress/*.json", "report.json",
]  # fmt: skip


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[]"),
    "another object": lambda path: path.write_text('{"a": 1}\n{"event": 3}\n'),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "gone": lambda path: path.unlink(),
}


DAMAGED = [(name, damage) for name in FILES for damage in DAMAGES]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(name, damage, marks=[] if number % 8 == 0 else pytest.mark.slow)
        for number, (name, damage) in enumerate(DAMAGED)
    ],
)
def test_commands_look_at_a_damaged_run_without_a_traceback(
    undisturbed: Path, tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    damaged = sorted(run.glob(name))[0]
    DAMAGES[damage](damaged)
    looked = [status.main([str(run)]), report.main([str(run)])]
    looked.append(launch.main(["--run-dir", str(run), "--dry-run", *SMALL_RUN]))
    assert set(looked) <= {0, 1, 2, 3}, capsys.readouterr().err
    if name.startswith(("iter-00/model", "iter-01/eval")) and damaged.suffix == ".json":
        assert looked[0] == 1, "what is damaged is not done"
    verified, again = status.main([str(run), "--verify"]), status.main([str(run), "--verify"])
    if damaged.suffix in (".parquet", ".safetensors") and damage != "gone":
        assert verified == 3 and again < 3, "once found, it is done no more"


def test_a_plan_that_is_not_what_its_name_says_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    (file,) = (run / "plans").glob("*.json")
    plan = json.loads(file.read_text())
    plan["config"]["seed"] += 1
    file.write_text(json.dumps(plan))
    assert status.main([str(run)]) == 2


def test_a_model_is_moved_away_never_deleted_because_its_manifest_is_bad(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    paths = RunPaths(run)
    (run / "iter-01/model/manifest.json").write_text("{")
    weights = (run / "iter-01/model/model.safetensors").read_bytes()
    moved = state.move_superseded(paths, state.pending(paths, state.last_plan(paths)))
    assert len(moved) == 1
    (kept,) = run.glob("superseded/*/model.safetensors")
    assert kept.read_bytes() == weights


@contextmanager
def as_somebody_else(folder: Path) -> Iterator[None]:
    """Root changes to a user of no rights, any other user takes the rights from its own folder."""
    root = os.geteuid() == 0
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in folder.parents:
        if parent.owner() == folder.owner() and str(parent).startswith(str(folder.parents[1])):
            parent.chmod(0o755)
    if root:
        os.seteuid(65534)
    else:
        folder.chmod(0o555)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        else:
            folder.chmod(0o755)


def test_a_run_of_somebody_else_can_be_looked_at(
    undisturbed: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path_factory.mktemp("foreign") / "run"
    shutil.copytree(undisturbed, run)
    for parent in run.parents[:3]:
        parent.chmod(0o755)
    with as_somebody_else(run):
        codes = [status.main([str(run)]), launch.main(["--run-dir", str(run), *SMALL_RUN])]
        shown = capsys.readouterr()
        codes.append(report.main([str(run)]))
        refused = launch.main(["--run-dir", str(run), *SMALL_RUN, "seed=1"])
    assert codes == [0, 0, 74], shown.err
    assert "nothing to do, and nothing can be written there" in shown.out
    assert refused == 74
    error = capsys.readouterr().err
    assert "Traceback" not in error and "another user's, or its mode forbids it" in error


def test_forgotten_settings_are_named_before_anything_is_made_again(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--run-dir", str(undisturbed), "--dry-run", *SMALL_RUN]
    assert launch.main(same) == 0
    assert "other settings" not in capsys.readouterr().out
    assert launch.main([*same, "merge.method=argmax", "local.processes=1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "other settings than at the last launch: merge.method uniform -> argmax" in said
    assert "change no result: local.processes 2 -> 1" in said
    assert (
        "to be made again: merge-01: merge.method uniform -> argmax made from these: "
        "train-01 (from merge-01), evaluate-01 (from train-01)" in said
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_report_is_drawn_ends_the_launch_after_it(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {one: signal.getsignal(one) for one in numbers}
    write = output.write

    def written(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        return write(*arguments)

    monkeypatch.setattr(output, "write", written)
    try:
        assert launch.main(["--run-dir", str(run), *SMALL_RUN]) == 130
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert (run / "report.html").stat().st_size > 1000


def test_lines_of_jobs_of_another_shape_are_passed_over(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    with (run / "jobs.jsonl").open("a") as stream:
        for kind in ("submit", "ended", "heal", "submitted"):
            stream.write(
                json.dumps({"event": kind, "stage": [], "code": 1, "submission": {}, "shards": 3}) + "\n"
            )
    assert status.main([str(run)]) == 0
