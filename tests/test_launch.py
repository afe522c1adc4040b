"""The command as a user types it: mistakes are named before any work, a dry run creates nothing."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lt_hpc.data import base_model
from tests.runs.small_run import SMALL_RUN


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lt_hpc.launch", "--run-dir", str(folder / "run"), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


def test_a_dry_run_prints_every_stage_and_creates_nothing(tmp_path: Path) -> None:
    result = launch(tmp_path, "--iters", "2", "--dry-run")
    assert result.returncode == 0, result.stderr
    for stage in ("prepare", "train-00", "sample-01", "merge-01", "sample-02", "evaluate-02"):
        assert stage in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sample.kk=3"], ["sample.kk", "num_samples"]),
        (["sample.num_samples=0"], ["sample.num_samples=0", "at least 1"]),
        (["sample.num_samples=many"], ["sample.num_samples", "many"]),
        (["sample.num_shards=0"], ["sample.num_shards=0"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (
            ["corpus.source=nowhere.jsonl", "corpus.question_column=q", "corpus.answer_column=a"],
            ["corpus.source", "nowhere.jsonl"],
        ),
        (["corpus.source=nowhere.jsonl"], ["corpus.question_column", "chunking.mode=given"]),
        (["model.path=nowhere"], ["model.path", "nowhere", "builtin:demo_base"]),
        (["chunking.mode=sentences", "corpus.source=texts.jsonl"], ["corpus.text_column", "body"]),
        (["model.context_length=4096", "chunking.max_chunk_tokens=16"], ["model.context_length"]),
        (["sample.max_thought_tokens=120"], ["chunking.max_chunk_tokens", "sample.max_thought_tokens"]),
        (["model.resize_embeddings=false"], ["model.resize_embeddings", "free embedding rows"]),
        (["sample.engine=tgi"], ["sample.engine", "torch, vllm"]),
        (["sample.engine=vllm", "sample.temperature=0.001"], ["sample.temperature", "0.01"]),
        (
            ["sample.engine=vllm", "sample.vllm.tensor_parallel_size=2", "slurm.sample.gpus_per_node=1"],
            ["slurm.sample.gpus_per_node=1", "sample.vllm.tensor_parallel_size=2"],
        ),
        (["sample.vllm.kv_cache_gb=0"], ["sample.vllm.kv_cache_gb=0", "greater than 0"]),
        (["slurm.merge.nodes=2"], ["slurm.merge.nodes=2", "must be 1"]),
        (["slurm.train.options={clusters: gpu}"], ["slurm.train.options.clusters"]),
        (["seed"], ["key=value"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field_and_exit_code_2(
    tmp_path: Path, arguments: list[str], named: list[str]
) -> None:
    (tmp_path / "texts.jsonl").write_text(json.dumps({"body": "A text."}) + "\n")
    result = launch(tmp_path, *arguments)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in named:
        assert word in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["-1", "-2", "abc"])
def test_iterations_are_a_number_from_0_on_or_next(tmp_path: Path, given: str) -> None:
    result = launch(tmp_path, "--dry-run", f"--iters={given}")
    assert result.returncode == 2
    assert given in result.stderr and "'next'" in result.stderr


def test_a_second_launch_on_the_same_run_is_refused(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "launch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("host other, process 1\n")
        lock.flush()
        result = launch(tmp_path)
    assert result.returncode == 2
    assert "another launch is running (host other, process 1)" in result.stderr


def test_the_shipped_base_is_an_ordinary_model_without_the_markers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = base_model.BUILTIN["builtin:demo_base"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() < 1_000_000
    assert "<SOL>" not in tokenizer.get_vocab()


def test_an_engine_that_is_not_installed_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lt_hpc.launch import main

    monkeypatch.setitem(sys.modules, "vllm", None)
    assert main(["--run-dir", str(tmp_path / "run"), "sample.engine=vllm"]) == 2
    assert "sample.engine=vllm" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_submitted_is_not_done_here_because_no_controller_answers(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "jobs.jsonl").write_text(
        '{"event": "submit", "submission": "1", "stage": "prepare", "fingerprint": "f", "plan": "p", '
        '"shards": []}\n'
    )
    (tmp_path / "bin").mkdir()
    for name in ("scontrol", "sbatch"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'Slurmctld(primary) at head is DOWN'\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-m", "lt_hpc.launch", "--run-dir", str(tmp_path / "run")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert result.returncode == 2
    assert "it was submitted to Slurm, and no controller answers now" in result.stderr
    assert not (tmp_path / "run" / "plans").exists()


def test_a_run_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Jobs run what lies in it."""
    small = ["--iters", "0", "--dry-run"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    assert launch(tmp_path, *small).returncode == 0, "looking creates nothing"
    result = launch(tmp_path, "--iters", "0")
    assert result.returncode == 2 and "everybody can write into" in result.stderr
    assert "chmod -R go-w" in result.stderr and list((tmp_path / "run").iterdir()) == []


def test_what_a_launch_creates_only_its_owner_can_write(undisturbed: Path) -> None:
    modes = {path: path.stat().st_mode for path in (undisturbed, *undisturbed.rglob("*"))}
    assert not [path for path, mode in modes.items() if mode & 0o022]
    assert {mode & 0o777 for path, mode in modes.items() if path.suffix in (".safetensors", ".jsonl")} == {
        0o644
    }


def test_a_failure_is_said_by_status_and_by_the_next_launch(tmp_path: Path) -> None:
    blank = tmp_path / "blank.jsonl"
    blank.write_text('{"question": " ", "answer": " "}\n')
    wrong = ["--iters", "0", f"heldout.source={blank}", "heldout.question_column=question",
             "heldout.answer_column=answer", "heldout.num_documents=null", "corpus.num_documents=4",
             "warm.num_documents=4", "warm_start.steps=1", "local.train_ranks=1"]  # fmt: skip
    first = launch(tmp_path, *wrong)
    assert first.returncode == 2 and "no usable document (1 empty" in first.stderr.splitlines()[-1]
    status = subprocess.run(
        [sys.executable, "-m", "lt_hpc.status", str(tmp_path / "run")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert status.returncode == 1
    (line,) = (line for line in status.stdout.splitlines() if "FAILED" in line)
    assert line.startswith("prepare") and "exit code 2: heldout.source=" in line
    again = launch(tmp_path, *wrong)
    assert "prepare: failed the last time:" in again.stdout and "no usable document" in again.stdout
    other = launch(tmp_path, *wrong, "seed=3", "--dry-run")
    assert "other settings than at the last launch: seed 0 -> 3" in other.stdout
    assert "to be made again" not in other.stdout, "nothing is done yet"


@pytest.mark.parametrize(
    "size", ["1200k", *(pytest.param(s, marks=pytest.mark.slow) for s in ("250k", "600k"))]
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path: Path, size: str) -> None:
    command = [*SMALL_RUN, "--iters", "0", "local.train_ranks=1", "--run-dir", str(tmp_path / "run")]
    small = [sys.executable, "-m", "lt_hpc.launch", *command]
    script = f"""
    mount -t tmpfs -o size={size} none {tmp_path} && mkdir {tmp_path}/run && {shlex.join(small)} 2>&1; code=$?
    mount -o remount,size=64m {tmp_path}
    {shlex.join(small)} > {tmp_path}/second 2>&1 || cat {tmp_path}/second
    exit $code"""
    result = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode in (4, 74), said
    assert "Traceback" not in said and "No space left on device; make room" in said
    assert "error" not in said.partition("make room")[2].partition("it goes on")[2], "the second launch"
