"""The only file that imports submitit: stages as Slurm jobs and job arrays."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import submitit

from lt_hpc.cluster.scheduler import Tasks
from lt_hpc.cluster.signals import STOP_SIGNALS
from lt_hpc.cluster.slurm import client
from lt_hpc.cluster.slurm.environment import clean_environment
from lt_hpc.cluster.slurm.steps import srun_options
from lt_hpc.errors import StageError
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths

LEFT_OPEN = {"account", "partition", "qos", "constraint"}
"""Options that a site's shell may set (SBATCH_ACCOUNT) where the plan leaves them open."""


def submit(
    plan: Plan,
    stage: Stage,
    paths: RunPaths,
    run: Callable[[list[str]], None],
    name: str,
    tasks: Tasks,
    after: Collection[str],
    without: Sequence[str] = (),
) -> list[str]:
    """Submit a stage of a pinned plan, once; see `scheduler.Scheduler.submit`.

    Raises:
        StageError: with what sbatch said.
    """
    paths.slurm.mkdir(parents=True, exist_ok=True)
    paths.slurm.chmod(0o700)  # jobs unpickle what lies there
    executor = submitit.SlurmExecutor(paths.slurm, python=python_command())
    asked = parameters(plan, stage, name, after, without)
    arguments = [str(paths.root.resolve()), plan.fingerprint, stage.key]
    if stage.kind.ranked:
        asked["setup"].append(watched(arguments))
    executor.update_parameters(**asked)
    try:
        with _environment(clean_environment(os.environ, LEFT_OPEN - asked.keys())):
            if stage.kind.sharded:
                commands = [
                    [*arguments, "--name", str(shards[0]), "--shards", ",".join(map(str, shards))]
                    for shards in tasks
                ]
                jobs = executor.map_array(run, commands)
            else:
                jobs = [executor.submit(run, arguments)]
    except submitit.core.utils.FailedJobError as error:
        raise StageError(f"{stage.key}: sbatch refused it: {error}") from error
    return sorted({job.job_id.partition("_")[0] for job in jobs})


def parameters(
    plan: Plan, stage: Stage, name: str, after: Collection[str], without: Sequence[str] = ()
) -> dict[str, Any]:
    """What submitit is asked for: the stage's own settings before those of all stages. Pure."""
    settings, job = plan.config.slurm, plan.config.slurm.job(stage.name)
    options = {**settings.options, **job.options}
    # An option without a value (exclusive: true) is a word in a typed configuration.
    flags = {name: True for name, value in options.items() if value.lower() == "true"}
    additional: dict[str, Any] = {"requeue": True, **options, **flags}
    if after:
        additional["dependency"] = client.dependency(after)
    if without:
        additional["exclude"] = ",".join(without)
    optional = {
        **dataclasses.asdict(settings.where(stage.name)),
        "mem": job.memory,
        "gpus_per_node": job.gpus_per_node or None,
    }
    return {
        "job_name": name,
        "time": job.minutes,
        "nodes": job.nodes,
        "ntasks_per_node": job.tasks_per_node,
        "cpus_per_task": job.cpus_per_task,
        "array_parallelism": settings.array_parallelism,
        "signal_delay_s": settings.signal_seconds,
        "stderr_to_stdout": True,
        "setup": [f"export OMP_NUM_THREADS={job.cpus_per_task}", *map(checked, settings.setup)],
        "srun_args": [*srun_options(stage.kind, job.cpus_per_task), *settings.srun_options],
        "additional_parameters": additional,
        **{key: value for key, value in optional.items() if value is not None},
    }


def checked(line: str) -> str:
    """A line of slurm.setup that ends the job where it fails, and says which it was."""
    text = shlex.quote(line)
    told = f"printf 'slurm.setup failed with exit code %s: %s\\n' $code {text}"
    return f"eval {text} || {{ code=$?; {told}; exit $code; }}"


def watched(arguments: list[str]) -> str:
    """The line after which the end of a job's ranks is looked at by lt_hpc/crash.py, with these arguments:
    a rank that aborts can't ask for anything itself."""
    call = shlex.join([sys.executable, "-m", "lt_hpc.crash", *arguments])
    return f"trap {shlex.quote(f'code=$?; [ $code = 0 ] || {call} $code; exit $code')} EXIT"


def python_command() -> str:
    """The interpreter as the job's shell starts it. Until a task can handle signals it ignores them:
    the warning of a preemption in its first moments would kill it, and nobody would requeue it.
    The TERM at the end of the grace time comes in any case."""
    names = " ".join(number.name.removeprefix("SIG") for number in STOP_SIGNALS)
    script = shlex.quote(f'trap \'\' {names}; exec "$0" "$@"')
    return f"/bin/sh -c {script} {shlex.quote(sys.executable)}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Have submitit call sbatch with these variables, which jobs inherit."""
    saved = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
