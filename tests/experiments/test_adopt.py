"""What another run has made is taken over whole and verified, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_hpc.cluster.place import Place
from lt_hpc.run import state
from lt_hpc.run.adopt import adopt
from lt_hpc.run.plan import Plan
from lt_hpc.run.progress import Progress
from lt_hpc.stages import merge, sample
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, shards
from lt_hpc.store.atomic import TEMPORARY_PREFIX
from lt_hpc.store.paths import RunPaths
from tests.runs.tiny_run import prepare_untrained, tasks

ALL = ["base", "corpus", "warm", "heldout", "iter-00/model", "iter-01/samples"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, RunPaths]:
    """A run with its thoughts sampled and selected, before its M-step."""
    task = tasks(tmp_path_factory.mktemp("made"))
    prepare_untrained(task)
    sample.run(task("sample-01"))
    merge.run(task("merge-01"))
    shutil.rmtree(task("merge-01").paths.evaluation(0), ignore_errors=True)
    return task("prepare").plan, task("prepare").paths


@pytest.fixture
def source(made: tuple[Plan, RunPaths], tmp_path: Path) -> RunPaths:
    """A copy of it, without its selection, that a test may damage."""
    shutil.copytree(made[1].root, tmp_path / "source", ignore=shutil.ignore_patterns("selected"))
    return RunPaths(tmp_path / "source")


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    (tmp_path / "run").mkdir()
    return RunPaths(tmp_path / "run")


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def leftovers(paths: RunPaths) -> list[Path]:
    return list(paths.root.rglob(f"{TEMPORARY_PREFIX}*"))


def test_the_rest_of_a_run_comes_out_as_if_it_had_made_all_itself(
    made: tuple[Plan, RunPaths], source: RunPaths, paths: RunPaths
) -> None:
    plan, original = made
    assert adopt(paths, plan, [source]) == ALL
    assert state.problem(paths, plan.stage("prepare")) is None
    assert state.problem(paths, plan.stage("sample-01")) is None
    for name in ALL[:-1]:
        manifest.verified(paths.root / name, plan.output(name))
    stage = plan.stage("merge-01")
    merge.run(Task(plan, stage, paths, Place(), (0, 1), Progress(paths.progress("merge")), lambda: False))
    assert files(paths.selected(1)).keys() == files(original.selected(1)).keys()
    for name, content in files(original.selected(1)).items():
        if name != manifest.NAME:
            assert (paths.selected(1) / name).read_bytes() == content


def test_space_is_needed_once_and_what_becomes_of_one_run_leaves_the_other(
    made: tuple[Plan, RunPaths], source: RunPaths, paths: RunPaths
) -> None:
    plan, _ = made
    adopt(paths, plan, [source])
    weights = "iter-00/model/model.safetensors"
    assert (paths.root / weights).samefile(source.root / weights)
    before = files(source.root)
    manifest.reopen(paths.samples(1) / "shard-00000")
    shutil.rmtree(paths.model(0))
    state.move_superseded(paths, [plan.stage("prepare")])
    assert files(source.root) == before


def test_where_there_are_no_hard_links_files_are_copied(
    made: tuple[Plan, RunPaths], source: RunPaths, paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    plan, _ = made
    assert adopt(paths, plan, [source]) == ALL
    assert files(paths.samples(1)) == files(source.samples(1))
    assert not (paths.base / "config.json").samefile(source.base / "config.json")


def flip(path: Path) -> None:
    """Other bytes, as many."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("what", "lacks"),
    [
        (lambda of: flip(next(of.samples(1).glob("shard-*/part-*"))), "iter-01/samples"),
        (lambda of: (of.samples(1) / "shard-00001" / "manifest.json").unlink(), "iter-01/samples"),
        (lambda of: manifest.reopen(of.samples(1) / "shard-00000"), "iter-01/samples"),
        (lambda of: flip(of.samples(1) / "shards.json"), "iter-01/samples"),
        (lambda of: flip(of.model(0) / "model.safetensors"), "iter-00/model"),
        (lambda of: manifest.reopen(of.documents("corpus")), "corpus"),
    ],
)
def test_what_is_damaged_or_not_finished_is_not_taken(
    what: Callable[[RunPaths], object],
    lacks: str,
    made: tuple[Plan, RunPaths],
    source: RunPaths,
    paths: RunPaths,
) -> None:
    what(source)
    assert adopt(paths, made[0], [source]) == [name for name in ALL if name != lacks]
    assert not (paths.root / lacks).exists()
    assert leftovers(paths) == []


def test_another_run_that_has_it_whole_is_taken_then(
    made: tuple[Plan, RunPaths], source: RunPaths, paths: RunPaths, tmp_path: Path
) -> None:
    shutil.copytree(source.root, tmp_path / "damaged")
    flip(tmp_path / "damaged" / "iter-00" / "model" / "model.safetensors")
    assert adopt(paths, made[0], [RunPaths(tmp_path / "damaged"), source]) == ALL


def test_the_own_work_of_a_run_is_not_replaced(
    made: tuple[Plan, RunPaths], source: RunPaths, paths: RunPaths
) -> None:
    plan, _ = made
    shutil.copytree(source.samples(1) / "shard-00001", paths.samples(1) / "shard-00001")
    assert adopt(paths, plan, [source]) == ALL[:-1]
    assert shards.read(paths.samples(1)) is None


@pytest.mark.parametrize("count", [2, 9, 14])
def test_a_kill_in_the_middle_leaves_nothing_that_counts_as_done(
    count: int, made: tuple[Plan, RunPaths], source: RunPaths, paths: RunPaths
) -> None:
    """The process dies of kill -9 when it is about to link its file number `count`."""
    plan, link, links = made[0], os.link, iter(range(1000))

    def deadly(*arguments: Path) -> None:
        if next(links) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        link(*arguments)

    child = os.fork()
    if child == 0:
        os.link = deadly  # type: ignore[assignment]
        adopt(paths, plan, [source])
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(leftovers(paths)) == 1
    there = [name for name in ALL if (paths.root / name).exists()]
    assert there == ALL[: len(there)] != ALL
    assert state.problem(paths, plan.stage("sample-01")) is not None
    for name in there:  # whole, as it was renamed at its end
        manifest.verified(paths.root / name, plan.output(name))
    assert adopt(paths, plan, [source]) == ALL[len(there) :]
    assert leftovers(paths) == []
