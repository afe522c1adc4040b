"""Commands in odd places and with odd readers end with one line and the exit code that errors.py promises."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lt_hpc import errors, launch, status
from lt_hpc.report import __main__ as report
from lt_hpc.store.atomic import create_json, read_lines

FINISHED = Path(__file__).parent / "run" / "run_of_f8de9d8.tar.xz"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run in a folder whose name is markup to rich."""
    folder = tmp_path / "a[red]b[/i]"
    folder.mkdir(parents=True)
    with tarfile.open(FINISHED) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("**/plans")).parent


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, which is one line."""
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1, said
    return said


def one_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file"


def lock_is_a_folder(folder: Path) -> Path:
    (folder / "run" / "launch.lock").mkdir(parents=True)
    return folder / "run"


PLACES = {
    "a file": one_file,
    "below a file": lambda folder: one_file(folder) / "run",
    "a device": lambda folder: Path("/dev/null"),
    "the kernel's": lambda folder: Path("/proc/1/run"),
    "too long": lambda folder: folder / ("x" * 300),
    "lock is a folder": lock_is_a_folder,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_folder_that_can_be_none_is_refused_in_one_line(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = PLACES[place](tmp_path)
    code = launch.main(["--cluster=local", "--iters=0", "--run-dir", str(folder)])
    assert code in (2, errors.FILE_ERROR)
    assert str(folder)[:200] in only_line(capsys)


def test_names_that_are_markup_are_shown_as_they_are(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.main([str(run_folder)]) == 0
    assert report.main([str(run_folder)]) == 0
    said = capsys.readouterr()
    assert "a[red]b[/i]" in said.out.replace("\n", "") and not said.err


@pytest.mark.parametrize(
    "command", ["status", "report", "launch --dry-run model.path=builtin:demo_base --run-dir"]
)
def test_a_reader_that_has_gone_is_no_fault(command: str, run_folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", *f"lt_hpc.{command}".split(), str(run_folder)],
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert ended.returncode == errors.READER_GONE == 128 + 13
    assert ended.stderr == ""


def test_a_fault_of_the_project_itself_has_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def faulty(arguments: list[str] | None) -> int:
        raise ZeroDivisionError

    assert errors.guarded(faulty)([]) == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and said.splitlines()[-1].startswith("error: a fault of lt_hpc itself")


def test_a_file_system_without_locks_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(descriptor: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    assert launch.main(["--cluster=local", "--iters=0", "--run-dir", str(tmp_path / "run")]) == 2
    assert "no flock" in only_line(capsys)
    assert read_lines(tmp_path / "run" / "jobs.jsonl") == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_hard_links_will_do(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(source: object, target: Path) -> None:
        raise OSError(errno.EEXIST if target.exists() else number, "")

    monkeypatch.setattr(os, "link", none)
    assert [create_json(tmp_path / "file", {"a": value}) for value in (1, 2)] == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == '{\n "a": 1\n}\n'
