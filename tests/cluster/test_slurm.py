"""Parsing of Slurm's answers, on recorded text."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc import status
from lt_hpc.cluster import names
from lt_hpc.cluster.slurm import client, submit
from lt_hpc.cluster.slurm.environment import clean_environment, own_job
from lt_hpc.cluster.slurm.scheduler import Slurm
from lt_hpc.errors import ConfigError, StageError
from lt_hpc.run import events
from lt_hpc.run.events import Submit, Submitted
from lt_hpc.run.state import pin_plan
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import make_plan

QUEUE = """\
55394355_2|lt-95dca6aa-1b2c3d4e|PENDING|JobArrayTaskLimit
55394356|lt-95dca6aa-5f6a7b8c|PENDING|Dependency
55394357|lt-95dca6aa-99aabbcc|PENDING|DependencyNeverSatisfied
55394358|someone's job|with a bar|RUNNING|None
55394359|lt-95dca6aa-00000000|COMPLETING|None
"""

ACCOUNTED = """\
7|lt-1-a|with a bar|PREEMPTED|None
9_0|lt-1-c|NODE_FAIL|None
9_1|lt-1-c|NODE_FAIL|None
9_2|lt-1-c|CANCELLED by 1000|None
9_3|lt-1-c|COMPLETED|None
9_4|lt-1-c|FAILED|NonZeroExitCode
"""


def test_the_queue_is_read_task_by_task() -> None:
    queued = client.parse_queue(QUEUE)
    assert [(q.job, q.index) for q in queued] == [
        ("55394355", 2),
        ("55394356", None),
        ("55394357", None),
        ("55394358", None),
        ("55394359", None),
    ]
    assert [q.hopeless for q in queued] == [False, False, True, False, False]
    assert [q.ending for q in queued] == [False, False, False, False, True]
    assert queued[3].name == "someone's job|with a bar"


def test_jobs_that_the_cluster_took_away_are_told_from_cancelled_ones_and_from_others() -> None:
    lines = [
        "7_2|lt-1-a|PREEMPTED|None",
        "8|lt-1-b|CANCELLED|None",
        "9|lt-1-c|OUT_OF_MEMORY|OutOfMemory",
        "10|lt-1-d|FAILED|NonZeroExitCode",
        "11|lt-1-e|COMPLETED|None",
        "12_[0-3]|lt-1-f|PENDING|Dependency",
        "13|lt-1-g|NODE_FAIL|NodeDown",
    ]
    gone = client.parse_gone("\n".join(lines))
    assert [(one.job, one.index, one.by_person, one.again) for one in gone] == [
        ("7", 2, False, True),
        ("8", None, True, False),
        ("9", None, False, False),
        ("13", None, False, False),
    ]


@pytest.mark.parametrize(
    ("state", "reason", "hopeless"),
    [
        ("PENDING", "DependencyNeverSatisfied", True),
        ("PENDING", "JobHeldAdmin", True),
        ("PENDING", "JobHoldMaxRequeue", True),
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "BadConstraints", True),
        ("PENDING", "JobHeldUser", False),  # whoever holds it will release it
        ("PENDING", "BeginTime", False),
        ("PENDING", "Resources", False),
        ("RUNNING", "launch failed requeued held", False),
    ],
)
def test_a_job_that_will_never_start_by_itself_is_told_from_one_that_waits(
    state: str, reason: str, hopeless: bool
) -> None:
    (queued,) = client.parse_queue(f"7|lt-1|{state}|{reason}\n")
    assert queued.hopeless is hopeless


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("RUNNING", "None", True),  # preempted, or warned of its time limit
        ("COMPLETING", "TimeLimit", True),  # saving took longer than the warning
        ("COMPLETING", "None", False),  # scancel
        ("PENDING", "BeginTime", False),  # requeued by somebody else
        ("", "", False),
    ],
)
def test_a_cancelled_job_is_not_requeued(state: str, reason: str, expected: bool) -> None:
    assert client.may_requeue(state, reason) is expected


def test_neither_a_shell_nor_a_surrounding_job_talks_to_slurms_commands() -> None:
    shell = {
        "SQUEUE_STATES": "RUNNING",
        "SQUEUE_PARTITION": "high",
        "SCANCEL_STATE": "PENDING",
        "SBATCH_TIMELIMIT": "3",
        "SBATCH_JOB_NAME": "lab",
        "SBATCH_ARRAY_INX": "0-3",
        "SBATCH_PARTITION": "low",
        "SLURM_CLUSTERS": "other",
        "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
        "SRUN_DEBUG": "3",
        "PMI_RANK": "0",
    }
    kept = {"SLURM_CONF": "/etc/client.conf", "SLURM_JWT": "token", "PATH": "/bin"}
    assert clean_environment(shell | kept) == kept
    assert clean_environment(shell | kept | {"SLURM_JOB_ID": "7"}) == kept


def test_a_shell_decides_what_the_plan_leaves_open() -> None:
    shell = {"SBATCH_ACCOUNT": "physics", "SBATCH_PARTITION": "low", "SBATCH_TIMELIMIT": "3"}
    assert clean_environment(shell, {"account"}) == {"SBATCH_ACCOUNT": "physics"}


@pytest.mark.parametrize(
    "state", ["OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED"]
)
def test_jobs_that_have_ended_are_not_in_the_queue(state: str) -> None:
    assert client.parse_queue(f"7|lt-x|{state}|None") == []


@pytest.mark.parametrize(
    "line",
    [
        "7|lt-x|PENDING|job requeued in held state",
        "7|lt-x|PENDING|launch failed requeued held",
        "7|lt-x|SPECIAL_EXIT|None",
        "7|lt-x|REQUEUE_HOLD|None",
    ],
)
def test_a_job_that_only_a_person_brings_back_is_hopeless(line: str) -> None:
    (job,) = client.parse_queue(line)
    assert job.waiting and job.hopeless


def test_why_a_job_waits_is_said_unless_it_passes_by_itself() -> None:
    lines = (
        "7|a|PENDING|PartitionTimeLimit",
        "8|a|PENDING|Priority",
        "9|a|PENDING|JobHeldUser",
        "10|a|RUNNING|None",
    )
    jobs = client.parse_queue("\n".join(lines))
    assert [job.state for job in jobs] == [
        "PENDING (PartitionTimeLimit)", "PENDING", "PENDING (JobHeldUser)", "RUNNING",
    ]  # fmt: skip
    assert not any(job.hopeless for job in jobs)


@pytest.mark.parametrize("name", ["a%u b", "e%%f", "g\\h"])
def test_a_run_folder_whose_path_slurm_would_expand_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use another name"):
        Slurm(RunPaths(tmp_path / name), lambda arguments: None)
    Slurm(RunPaths(tmp_path / "a name with spaces"), lambda arguments: None)


def test_the_id_to_requeue_is_that_of_the_array_task() -> None:
    array = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "1"}
    assert own_job(array) == "10_1"
    assert own_job({"SLURM_JOB_ID": "12"}) == "12"


@given(st.lists(st.integers(1, 10**9).map(str), min_size=1))
def test_a_dependency_names_each_job_once(jobs: list[str]) -> None:
    kind, *named = client.dependency(jobs).split(":")
    assert kind == "afterany"
    assert sorted(named) == sorted(set(jobs))


def test_a_controller_that_is_busy_is_asked_again_and_a_refusal_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(client, "RETRY_SECONDS", (0.0, 0.0))

    def answer(first: str) -> None:
        squeue.write_text(
            f"#!/bin/sh\n[ -e {tmp_path}/asked ] && echo '7|lt-1|RUNNING|None' && exit 0\n"
            f"touch {tmp_path}/asked; echo '{first}' >&2; exit 1\n"
        )
        squeue.chmod(0o755)

    answer("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    assert [task.job for task in client.queue()] == ["7"]
    (tmp_path / "asked").unlink()
    answer("squeue: unrecognized option")
    with pytest.raises(StageError, match="unrecognized option"):
        client.queue()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script in the place of one of Slurm's commands; gives the file in which it notes what
    it is asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        asked = tmp_path / f"{name}.asked"
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{asked}\n{script}\n')
        (tmp_path / name).chmod(0o755)
        return asked

    return put


def test_what_became_of_a_job_that_the_controller_has_forgotten_is_asked_of_accounting(
    commands: Callable[[str, str], Path],
) -> None:
    commands("squeue", "echo '8|lt-1-b|CANCELLED|None'; echo '9_1|lt-1-c|RUNNING|None'")
    asked = commands("sacct", f"cat <<'TEXT'\n{ACCOUNTED}TEXT")
    found = {one.identity: one for one in client.gone(["7", "8", "9"])}
    assert "--jobs=7,9" in asked.read_text().splitlines(), "the controller knows of 8"
    assert {name: (one.state, one.by_person, one.again) for name, one in found.items()} == {
        "7": ("PREEMPTED", False, True),
        "8": ("CANCELLED", True, False),
        "9_0": ("NODE_FAIL", False, False),
        "9_2": ("CANCELLED", True, False),
    }
    assert found["7"].name == "lt-1-a|with a bar"


@pytest.mark.parametrize(
    "answer", ["echo 'Slurm accounting storage is disabled' >&2; exit 1", "exec sleep 9"]
)
def test_without_accounting_the_controller_alone_is_believed(
    commands: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(client, "ACCOUNTING_SECONDS", 0.2)
    commands("squeue", "echo '8|lt-1-b|PREEMPTED|None'")
    commands("sacct", answer)
    assert [one.job for one in client.gone(["7", "8"])] == ["8"]


def test_accounting_is_not_asked_for_what_the_controller_knows(commands: Callable[[str, str], Path]) -> None:
    commands("squeue", "echo '8|lt-1-b|PREEMPTED|None'")
    asked = commands("sacct", "echo '7|lt-1-a|PREEMPTED|None'")
    assert [one.job for one in client.gone(["8"])] == ["8"]
    assert not asked.exists()


def test_status_names_jobs_that_only_accounting_remembers(
    commands: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, plan = RunPaths(tmp_path / "run"), make_plan()
    pin_plan(paths, plan)
    stage = plan.stage("evaluate-00")
    made = Submit(submission="5ab", stage=stage.key, fingerprint=stage.fingerprint, plan="p", shards=[])
    for event in (made, Submitted(submission="5ab", jobs=["7"])):
        events.record(paths, event)
    name = names.job_name(stage.key, "run", names.identity(names.run_id(paths), "5ab"))
    for command, said in {"sbatch": "", "scontrol": "Slurmctld is UP", "squeue": ""}.items():
        commands(command, f"echo '{said}'" if said else "")
    commands("sacct", f"echo '{name}' | sed 's/.*/7|&|PREEMPTED|None/'")
    assert status.main([str(paths.root)]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "gone" in line)
    assert line.startswith("evaluate-00") and line.endswith("gone: job 7 PREEMPTED")


def test_a_signal_before_a_task_can_handle_it_does_not_kill_it() -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')"
    command = f"{submit.python_command()} -c {shlex.quote(program)}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "alive")
