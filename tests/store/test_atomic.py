"""A file is there whole or not at all, whoever else writes and whenever a writer dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lt_hpc.store import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    atomic.write_text(target, "old")
    with pytest.raises(RuntimeError), atomic.atomic_file(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    atomic.write_text(target, "old")
    with atomic.atomic_file(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent, "a rename between file systems is not atomic"
    assert target.read_text() == "new"
    assert names(target.parent) == ["file.txt"]


def test_a_killed_writer_leaves_the_old_file_and_does_not_stop_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    atomic.write_text(target, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from lt_hpc.store.atomic import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 2
    atomic.write_text(target, "new")
    atomic.clean_temporaries(tmp_path)
    assert target.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


def test_cleaning_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp-part.host-1-abc").write_text("half")
    (tmp_path / ".tmp-model.host-1-abc").mkdir()
    (tmp_path / ".tmp-model.host-1-abc" / "weights").write_text("half")
    (tmp_path / "part").write_text("whole")
    (tmp_path / "tmp-notes").mkdir()
    atomic.clean_temporaries(tmp_path)
    assert names(tmp_path) == ["part", "tmp-notes"]
    atomic.clean_temporaries(tmp_path / "not there")


def test_a_folder_that_fails_leaves_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("old")
    with pytest.raises(RuntimeError), atomic.atomic_folder(target) as temporary:
        (temporary / "weights").write_text("half")
        raise RuntimeError
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_new_folder_takes_the_place_of_the_old_one_entirely(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    for name in ("old", "new"):
        with atomic.atomic_folder(target) as temporary:
            (temporary / "shards").mkdir()
            (temporary / "shards" / name).write_text(name)
    assert names(target / "shards") == ["new"]
    assert names(target.parent) == ["model"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"key": object()}, {1, 2}])
def test_what_is_not_json_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    target = tmp_path / "value.json"
    atomic.write_json(target, {"old": [1, 2.5, None]})
    with pytest.raises((ValueError, TypeError)):
        atomic.write_json(target, value)
    with pytest.raises((ValueError, TypeError)):
        atomic.create_json(tmp_path / "other.json", value)
    assert json.loads(target.read_text()) == {"old": [1, 2.5, None]}
    assert names(tmp_path) == ["value.json"]


def test_creating_never_replaces(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "map.json"
    assert atomic.create_json(target, {"first": 1})
    assert not atomic.create_json(target, {"second": 2})
    assert json.loads(target.read_text()) == {"first": 1}
    assert names(target.parent) == ["map.json"]


def _create(arguments: tuple[Path, int]) -> bool:
    return atomic.create_json(arguments[0], arguments[1])


def _append(arguments: tuple[Path, int]) -> None:
    path, writer = arguments
    for number in range(50):
        atomic.append_line(path, {"writer": writer, "number": number, "text": "x" * 5000})


def test_of_several_processes_one_creates_the_file_and_none_loses_a_line(tmp_path: Path) -> None:
    target, log = tmp_path / "map.json", tmp_path / "logs" / "jobs.jsonl"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.map(_create, [(target, number) for number in range(8)], chunksize=1)
        pool.map(_append, [(log, writer) for writer in range(4)], chunksize=1)
    assert sum(won) == 1
    assert json.loads(target.read_text()) == won.index(True)
    assert names(tmp_path) == ["logs", "map.json"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for writer in range(4):
        assert [line["number"] for line in lines if line["writer"] == writer] == list(range(50))


def test_an_appended_line_is_refused_whole_when_it_is_not_json(tmp_path: Path) -> None:
    log = tmp_path / "jobs.jsonl"
    atomic.append_line(log, {"a": 1})
    with pytest.raises(ValueError):
        atomic.append_line(log, {"loss": float("nan")})
    assert log.read_text() == '{"a": 1}\n'


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert atomic.read_lines(log) == []
    atomic.append_line(log, {"number": 1})
    with log.open("ab") as stream:
        stream.write(b'{"number": 2, "te')
    for number in (3, 4):
        atomic.append_line(log, {"number": number})
    assert [line["number"] for line in atomic.read_lines(log)] == [1, 3, 4]


def test_only_leftovers_that_nobody_can_be_at_are_removed_beside_others(tmp_path: Path) -> None:
    host, dead = socket.gethostname(), 2**22 + 1  # above the largest process id
    kept = [f".tmp-base.{host}-{os.getpid()}-ab12", f".tmp-base.other-host-{dead}-ab12", ".tmp-odd"]
    for name in [*kept, f".tmp-base.{host}-{dead}-ab12", ".tmp-old"]:
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".tmp-old", (1e9, 1e9))
    atomic.clean_temporaries(tmp_path, alone=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    atomic.clean_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_was_killed_and_not_yet_reaped_is_at_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie
        leftover = tmp_path / f".tmp-shards.json.{socket.gethostname()}-{ended.pid}-ab12"
        leftover.write_text("half")
        atomic.clean_temporaries(tmp_path, alone=False)
        assert not leftover.exists()
