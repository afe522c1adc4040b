"""The only file that imports submitit: stages as Slurm jobs and job arrays."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Collection
from typing import Any

import submitit

from lt_hpc import job
from lt_hpc.cluster.reconcile import Tasks
from lt_hpc.cluster.signals import STOP_SIGNALS
from lt_hpc.cluster.slurm import client
from lt_hpc.config.schema import JobConfig
from lt_hpc.errors import StageError
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store.paths import RunPaths


class Submitter:
    """Submits the stages of one pinned plan."""

    def __init__(self, plan: Plan, paths: RunPaths) -> None:
        self.plan, self.paths = plan, paths

    def submit(self, stage: Stage, name: str, tasks: Tasks, after: Collection[str]) -> list[str]:
        """One job, or one array whose tasks handle these shards; returns the job ids dependencies can name.

        Raises:
            StageError: with what sbatch said, when trying again makes no sense.
        """
        for wait in client.RETRY_SECONDS:
            try:
                return self._submit(stage, name, tasks, after)
            except StageError as error:
                if not client.is_transient(str(error)):
                    raise
            time.sleep(wait)
            # The controller may have taken the job and answered too late: submitit did not put its
            # files in place, so it could only fail.
            client.cancel(client.named(name))
        return self._submit(stage, name, tasks, after)

    def _submit(self, stage: Stage, name: str, tasks: Tasks, after: Collection[str]) -> list[str]:
        executor = submitit.SlurmExecutor(self.paths.slurm, python=python_command())
        executor.update_parameters(**self._parameters(stage, name, after))
        arguments = [str(self.paths.root.resolve()), self.plan.fingerprint, stage.key]
        try:
            with _clean_environment():
                if stage.name == "sample":
                    commands = [
                        [*arguments, "--name", str(shards[0]), "--shards", ",".join(map(str, shards))]
                        for shards in tasks
                    ]
                    jobs = executor.map_array(job.run, commands)
                else:
                    jobs = [executor.submit(job.run, arguments)]
        except submitit.core.utils.FailedJobError as error:
            raise StageError(f"{stage.key}: sbatch refused it: {error}") from error
        return sorted({job.job_id.partition("_")[0] for job in jobs})

    def _parameters(self, stage: Stage, name: str, after: Collection[str]) -> dict[str, Any]:
        settings = self.plan.config.slurm
        job: JobConfig = getattr(settings, stage.name)
        options = {**settings.options, **job.options}
        # An option without a value (exclusive: true) is a word in a typed configuration.
        flags = {name: True for name, value in options.items() if value.lower() == "true"}
        additional: dict[str, Any] = {"requeue": True, **options, **flags}
        if after:
            additional["dependency"] = client.dependency(after)
        optional = {
            "partition": job.partition or settings.partition,
            "account": job.account or settings.account,
            "qos": job.qos or settings.qos,
            "constraint": job.constraint or settings.constraint,
            "mem": job.memory,
            "gpus_per_node": job.gpus_per_node or None,
        }
        # A literal --cpus-per-task: since Slurm 22.05 srun does not inherit it from the job.
        # Ranks can't go on without each other; tasks of an E-step can, and none waits for the others.
        together = int(stage.name != "sample")
        srun = [f"--kill-on-bad-exit={together}", "--wait=0", f"--cpus-per-task={job.cpus_per_task}"]
        return {
            "job_name": name,
            "time": job.minutes,
            "nodes": job.nodes,
            "ntasks_per_node": job.tasks_per_node,
            "cpus_per_task": job.cpus_per_task,
            "array_parallelism": settings.array_parallelism,
            "signal_delay_s": settings.signal_seconds,
            "stderr_to_stdout": True,
            "setup": [f"export OMP_NUM_THREADS={job.cpus_per_task}", *settings.setup],
            "srun_args": [*srun, *settings.srun_options],
            "additional_parameters": additional,
            **{key: value for key, value in optional.items() if value is not None},
        }


def python_command() -> str:
    """The interpreter as the job's shell starts it. Until a task can handle signals it ignores them:
    the warning of a preemption in its first moments would kill it, and nobody would requeue it.
    The TERM at the end of the grace time comes in any case."""
    names = " ".join(number.name.removeprefix("SIG") for number in STOP_SIGNALS)
    script = shlex.quote(f'trap \'\' {names}; exec "$0" "$@"')
    return f"/bin/sh -c {script} {shlex.quote(sys.executable)}"


class _clean_environment:
    """Submit as from a login node, also from inside a job."""

    def __enter__(self) -> None:
        self._saved = dict(os.environ)
        cleaned = client.clean_environment(os.environ)
        os.environ.clear()
        os.environ.update(cleaned)

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self._saved)
