"""Slurm's client commands: the only file that spells squeue, scontrol, scancel and sacctmgr.

Parsing is pure and works on recorded text; each command is one thin function.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lt_hpc.errors import StageError

TIMEOUT_SECONDS = 60
RETRY_SECONDS = (2.0, 10.0, 30.0)
"""Waits before a command is tried again that a busy or restarting controller did not answer."""
_TRANSIENT = re.compile(
    r"timed out|unable to contact|unable to connect|connection (refused|reset)|temporarily", re.IGNORECASE
)
_QUEUE_FORMAT = "%i|%j|%T|%r"
_HOPELESS = {
    *("DependencyNeverSatisfied", "JobHeldAdmin", "JobHoldMaxRequeue"),
    *("launch failed requeued held", "BadConstraints"),
}
_INHERITED = (
    *("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SCONTROL_"),
    *("PMI", "SUBMITIT_"),
)


@dataclass(frozen=True)
class Queued:
    """One job or array task in the queue. `hopeless` ones will never run as they are."""

    job: str  # id that dependencies name: of the whole array for array tasks
    index: int | None  # array index
    name: str
    state: str
    reason: str

    @property
    def hopeless(self) -> bool:
        return self.state == "PENDING" and self.reason in _HOPELESS

    @property
    def ending(self) -> bool:
        """On its way out of the queue, or back into it: a requeued job shows the same for a while."""
        return self.state == "COMPLETING"


def parse_queue(text: str) -> list[Queued]:
    """The lines of `squeue -h -r -o '%i|%j|%T|%r'`; jobs that have ended are left out."""
    queued = []
    for line in text.splitlines():
        identity, *words, state, reason = line.split("|")  # a name may hold a bar
        if state in ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT"):
            continue
        job, _, index = identity.partition("_")
        queued.append(Queued(job, int(index) if index else None, "|".join(words), state, reason))
    return queued


def parse_settings(text: str) -> dict[str, str]:
    """`scontrol show config` as a dictionary."""
    return dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", text, flags=re.MULTILINE))


def parse_notice(text: str, wanted: str | None) -> tuple[str, int] | None:
    """A partition (`wanted`, else the default one) and the seconds of notice that preemption gives
    there, from `scontrol show partition -o`; None where it does not preempt."""
    for line in text.splitlines():
        fields = dict(field.partition("=")[::2] for field in line.split())
        name = fields.get("PartitionName", "")
        if name == wanted or (wanted is None and fields.get("Default") == "YES"):
            preempts = fields.get("PreemptMode", "OFF") != "OFF"
            return (name, int(fields.get("GraceTime", 0))) if preempts else None
    return None


def parse_limits(text: str, wanted: str | None) -> int | None:
    """The least limit in lines of `name|limit` from sacctmgr, of one name or, for None, of all."""
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    limits = [int(limit) for name, limit in rows if limit.isdigit() and wanted in (None, name)]
    return min(limits, default=None)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what a surrounding job put there: an inherited SLURM_CPU_BIND or
    SBATCH_ARRAY_INX would change what is submitted. SLURM_CONF names the cluster and stays. Outside of
    a job all stays: SBATCH_ACCOUNT and the like are the user's own."""
    if "SLURM_JOB_ID" not in environment:
        return dict(environment)
    return {
        key: value
        for key, value in environment.items()
        if key == "SLURM_CONF" or not key.startswith(_INHERITED)
    }


def is_transient(message: str) -> bool:
    """Whether this is the complaint of a client whose controller is busy or restarting."""
    return bool(_TRANSIENT.search(message))


def _run(command: list[str]) -> str:
    for wait in RETRY_SECONDS:
        try:
            return _run_once(command)
        except StageError as error:
            if not is_transient(str(error)):
                raise
        time.sleep(wait)
    return _run_once(command)


def _run_once(command: list[str]) -> str:
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=clean_environment(os.environ),
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise StageError(f"{command[0]}: {error}") from error
    if result.returncode != 0:
        raise StageError(f"{' '.join(command)}: {result.stderr.strip() or f'exit code {result.returncode}'}")
    return result.stdout


def available() -> tuple[bool, str]:
    """Whether a Slurm controller answers, and a few words on why."""
    if shutil.which("scontrol") is None or shutil.which("sbatch") is None:
        return False, "no Slurm commands on this machine"
    try:
        answer = _run_once(["scontrol", "ping"])
    except StageError as error:
        return False, f"no controller answers ({error})"
    return (True, "a controller answers") if "UP" in answer else (False, "the controller is down")


def queue() -> list[Queued]:
    """This user's jobs, each array task by itself: one call, whatever their number."""
    return parse_queue(_run(["squeue", "--me", "--all", "-h", "-r", "-o", _QUEUE_FORMAT]))


def named(name: str) -> list[str]:
    """Ids of this user's jobs with a name."""
    return sorted({task.job for task in queue() if task.name == name})


def settings() -> dict[str, str]:
    """The controller's configuration."""
    return parse_settings(_run(["scontrol", "show", "config"]))


def submit_limit(accounting: Mapping[str, str], account: str | None, qos: str | None) -> int | None:
    """How many jobs and array tasks this user may have in the queue, by association and QOS; None
    where the site's `settings` enforce no such limits."""
    if "limits" not in accounting.get("AccountingStorageEnforce", ""):
        return None
    show = ["sacctmgr", "-n", "-P", "show"]
    user, cluster = getpass.getuser(), accounting.get("ClusterName", "")
    own = ["assoc", f"user={user}", f"cluster={cluster}"]
    default = _run([*show, *own, "format=defaultqos"]).split()
    limits = (
        parse_limits(_run([*show, *own, "format=account,maxsubmitjobs"]), account),
        parse_limits(
            _run([*show, "qos", "format=name,maxsubmitjobsperuser"]), qos or (default or ["normal"])[0]
        ),
    )
    return min((limit for limit in limits if limit is not None), default=None)


def preemption_notice(partition: str | None) -> tuple[str, int] | None:
    """See `parse_notice`."""
    return parse_notice(_run(["scontrol", "show", "partition", "-o"]), partition)


def dependency(jobs: Iterable[str]) -> str:
    """After all of these jobs, however they end: the next stage looks at manifests itself."""
    return "afterany:" + ":".join(sorted(set(jobs), key=int))


def set_dependency(job: str, after: Iterable[str]) -> None:
    """Have a pending job wait for other jobs."""
    _run(["scontrol", "update", f"JobId={job}", f"Dependency={dependency(after)}"])


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; ones that are gone are no error."""
    ids = sorted(set(jobs))
    if ids:
        _run(["scancel", "--quiet", *ids])


def own_id(environment: Mapping[str, str]) -> str:
    """The id of the job this process runs in, with its array index if it has one."""
    array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else environment["SLURM_JOB_ID"]


def requeue(job: str) -> bool:
    """Put a running job back into the queue. Explicit, and while it still runs: an exit during
    the grace time is not requeued everywhere, and dependents of a failed job would be lost.

    False, and nothing is done, for a job that was cancelled (its signal is that of a preemption) or
    is back in the queue already.

    Raises:
        StageError: where the site does not allow it.
    """
    state, _, reason = _run(["squeue", "--all", "-h", "-j", job, "-o", "%T|%r"]).strip().partition("|")
    if not may_requeue(state, reason):
        return False
    _run(["scontrol", "requeue", job])
    return True


def may_requeue(state: str, reason: str) -> bool:
    """Whether a job in this state was stopped by the cluster and not by a person."""
    return state in ("RUNNING", "STOPPED", "SUSPENDED") or (state == "COMPLETING" and reason == "TimeLimit")


def node_address(node: str) -> str | None:
    """The address Slurm itself uses for a node, whose name may not resolve."""
    found = re.search(r"\bNodeAddr=(\S+)", _run(["scontrol", "show", "node", node]))
    return found.group(1) if found else None
