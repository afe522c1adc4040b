"""What a file system can do, and what is said where it can't."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
from pathlib import Path

import pytest

from lt_hpc.doctor import files


def test_a_look_at_a_folder_leaves_nothing_there(tmp_path: Path) -> None:
    found = files.look(tmp_path)
    assert found.failed == {} and abs(found.skew) < 2 and found.free > 0
    assert list(tmp_path.iterdir()) == []
    assert {row.verdict for row in files.rows(found, 1.0)} == {"ok"}


def test_the_folder_that_exists_above_is_looked_at(tmp_path: Path) -> None:
    assert files.existing(tmp_path / "a" / "b") == tmp_path


@pytest.mark.parametrize(
    ("module", "function", "what", "verdict"),
    [
        (fcntl, "flock", "flock", "refused"),
        (os, "link", "hard links", "warning"),
        (os, "fsync", "fsync", "refused"),
    ],
)
def test_what_the_file_system_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, function: str, what: str, verdict: str
) -> None:
    def lacking(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(module, function, lacking)
    rows = {row.what: row for row in files.rows(files.look(tmp_path), None)}
    assert rows[what].verdict == verdict and rows[what].change.startswith("--run-dir")
    assert what not in rows["operations"].found.split(" work")[0].split(", ")


def test_too_little_space_and_a_clock_of_its_own_are_told(tmp_path: Path) -> None:
    found = dataclasses.replace(files.look(tmp_path), free=10**9, skew=-90.0)
    rows = {row.what: row for row in files.rows(found, 2e9)}
    assert rows["space"].verdict == "refused" and "takes 2 GB" in rows["space"].plan
    assert rows["clock"].verdict == "warning" and "-90.0 s" in rows["clock"].found
