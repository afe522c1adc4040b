"""A run that is there already: what another launch on it would do, before it does anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lt_hpc import launch
from lt_hpc.cluster import schedulers
from lt_hpc.config.load import config_to_yaml, demo_file, load_config
from lt_hpc.run import state
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import Cluster
from tests.runs.finished import finished

HERE = ("--cluster=local", "--iters=1")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A queue in memory in place of Slurm's."""
    found = Cluster()
    monkeypatch.setattr(schedulers, "choose", lambda _: ("slurm", "of the test"))
    monkeypatch.setattr(schedulers, "make", lambda *_: found)
    monkeypatch.setattr(schedulers, "jobs_of_run", lambda _: ([], []))
    return found


def configured(paths: RunPaths, *overrides: str) -> RunPaths:
    """A finished run of one iteration with these settings."""
    options = launch.parser().parse_args(["--iters=1", f"--run-dir={paths.root}", *overrides])
    config, _, _ = launch.configured(options)
    finished(paths.root, launch.make_plan(config, 1, paths))
    paths.config.write_text(config_to_yaml(config))
    return paths


def test_it_goes_on_with_its_own_settings_and_overrides_come_on_top(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = load_config(run / "config.yaml")
    assert launch.main(["--run-dir", str(run), *HERE, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "goes on with its own configuration" in said and "0 of 7 stages to do" in said
    assert launch.main(["--run-dir", str(run), *HERE]) == 0
    assert load_config(run / "config.yaml") == before and not (run / "superseded").exists()
    assert launch.main(["--run-dir", str(run), *HERE, "--dry-run", "evaluate.num_samples=3"]) == 0
    said = capsys.readouterr().out
    assert "to be made again:\n  evaluate-00, evaluate-01: evaluate.num_samples 8 -> 3\n" in said
    assert "2 of 7 stages to do" in said


def test_the_next_iteration_is_that_of_its_own_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an allocation (em_iter.sh) asks that was given the run folder alone."""
    paths = configured(RunPaths(tmp_path / "run"), "sample.num_samples=5")
    assert launch.main(["--run-dir", str(paths.root), "--cluster=local", "--iters=next", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 of 11 stages to do" in said and "E-steps: K=5" in said and "redo" not in said.split("\n\n")[1]


def test_another_configuration_is_compared_with_that_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = configured(RunPaths(tmp_path / "run"), "corpus.num_documents=7", "local.processes=1")
    command = ["--run-dir", str(paths.root), "--config", str(demo_file()), *HERE, "--dry-run"]
    assert launch.main(command) == 0
    said = capsys.readouterr().out
    assert "other settings than at the last launch: corpus.num_documents 7 -> 1500\n" in said
    assert "change no result: local.processes 1 -> 2\n" in said
    assert "prepare: corpus.num_documents 7 -> 1500" in said
    assert state.last_plan(paths).config.corpus.num_documents == 7, "a dry run changes nothing"


def test_jobs_of_other_settings_are_named_before_they_are_cancelled(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--run-dir", str(tmp_path / "run"), "--iters=1"]
    assert launch.main(command) == 0
    queued = cluster.queue()
    assert launch.main([*command, "merge.method=argmax", "--dry-run"]) == 0
    said = capsys.readouterr().out
    jobs = sorted(job for key in ("merge-01", "train-01", "evaluate-01") for job in cluster.jobs(key))
    assert f"jobs of other settings, to be cancelled: {', '.join(jobs)}\n" in said
    assert cluster.queue() == queued
    rows = {line.split()[0]: line for line in said.splitlines() if line}
    assert "queued" in rows["sample-01"] and "to do" in rows["merge-01"]


def test_a_launch_says_which_setting_has_what_moved(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = configured(RunPaths(tmp_path / "run"))
    assert launch.main(["--run-dir", str(paths.root), "--iters=1", "merge.method=argmax"]) == 0
    said = capsys.readouterr().out
    before, after = said.split("moved: iter-01/selected -> superseded/")
    assert "merge-01: merge.method multinomial -> argmax" in before
    assert "(merge-01: merge.method multinomial -> argmax)" in after.splitlines()[0]
    assert set(cluster.stages.values()) == {"sample-01", "merge-01", "train-01", "evaluate-01"} - {
        "sample-01"
    }


def test_evaluations_are_shared_out_to_more_tasks_and_those_that_are_done_stay(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = configured(RunPaths(tmp_path / "run"))
    command, shards = ["--run-dir", str(paths.root), "--iters=2"], "evaluate.num_shards=3"
    assert launch.main([*command[:2], "--iters=1", shards, "--dry-run"]) == 0
    assert "0 of 9 stages to do" in capsys.readouterr().out
    assert launch.main([*command, "evaluate.num_shards=1"]) == 0
    assert len(cluster.jobs("evaluate-02")) == 1
    assert launch.main([*command, shards]) == 0
    assert not cluster.jobs("evaluate-02"), "by itself it would measure everything"
    (array,), (last,) = cluster.jobs("measure-02"), cluster.jobs("aggregate-02")
    assert sum(task.job == array for task in cluster.queue()) == 3
    assert array in cluster.waits[last] and cluster.jobs("train-02")[0] in cluster.waits[array]
    assert launch.main([*command, "evaluate.num_shards=1"]) == 0
    assert cluster.jobs("evaluate-02") and not cluster.jobs("measure-02") + cluster.jobs("aggregate-02")
    assert not (paths.root / "superseded").exists()


def test_a_config_edited_by_hand_is_taken_when_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = configured(RunPaths(tmp_path / "run"))
    text = paths.config.read_text()
    paths.config.write_text(text.replace("method: multinomial", "method: argmax"))
    command = ["--run-dir", str(paths.root), *HERE, "--dry-run"]
    assert launch.main(command) == 2
    assert f"--config {paths.config} takes it" in capsys.readouterr().err
    assert launch.main([*command, "--config", str(paths.config)]) == 0
    assert "merge.method multinomial -> argmax" in capsys.readouterr().out
