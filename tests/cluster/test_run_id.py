"""The name that jobs in the queue know a run folder by is never another one unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_hpc.cluster.names import run_id
from lt_hpc.errors import ConfigError
from lt_hpc.run import events
from lt_hpc.run.events import Submit
from lt_hpc.store.paths import RunPaths

DAMAGES: dict[str, Callable[[str], str]] = {
    "another digit": lambda text: text.replace('"run": "', '"run": "0')[:-1],
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "another object": lambda text: '{"a": 1}',
    "a list": lambda text: "[]",
}


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_name_is_refused_while_jobs_may_be_known_by_it(damage: str, paths: RunPaths) -> None:
    before = run_id(paths)
    assert run_id(paths) == before
    events.record(paths, Submit(submission="s", stage="prepare", fingerprint="f", plan="p", shards=[]))
    paths.run_id.write_text(DAMAGES[damage](paths.run_id.read_text()))
    with pytest.raises(ConfigError, match=r"run_id.json: damaged.*remove this file"):
        run_id(paths)
    paths.run_id.unlink()
    assert run_id(paths) != before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_that_was_never_in_a_queue_takes_a_new_name(damage: str, paths: RunPaths) -> None:
    run_id(paths)
    paths.run_id.write_text(DAMAGES[damage](paths.run_id.read_text()))
    again = run_id(paths)
    assert run_id(paths) == again


def test_names_of_earlier_releases_stay(paths: RunPaths) -> None:
    paths.root.mkdir()
    paths.run_id.write_text(json.dumps("0123456789abcdef" * 2))
    before = run_id(paths)
    events.record(paths, Submit(submission="s", stage="prepare", fingerprint="f", plan="p", shards=[]))
    assert run_id(paths) == before


def test_a_copy_has_another_name_and_a_renamed_folder_the_same(paths: RunPaths, tmp_path: Path) -> None:
    before = run_id(paths)
    shutil.copytree(paths.root, tmp_path / "copy")
    paths.root.rename(tmp_path / "renamed")
    assert run_id(RunPaths(tmp_path / "renamed")) == before != run_id(RunPaths(tmp_path / "copy"))
