"""Slurm's client commands: the only file that spells squeue, scontrol, scancel, sacct and sacctmgr.

Parsing is pure and works on recorded text (of the site in site.py); each command is one thin function.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from lt_hpc.cluster.scheduler import Gone, Notice, Queued
from lt_hpc.cluster.slurm.environment import clean_environment
from lt_hpc.cluster.slurm.site import (
    Site,
    parse_associations,
    parse_nodes,
    parse_partitions,
    parse_qos,
    parse_settings,
)
from lt_hpc.config.machines import Where
from lt_hpc.errors import StageError

T = TypeVar("T")

TIMEOUT_SECONDS = 60
ACCOUNTING_SECONDS = 15
"""Of a question that can go without an answer; a database may take minutes."""
RETRY_SECONDS = (2.0, 10.0, 30.0)
"""Waits before a command is tried again that a busy or restarting controller did not answer."""
_TRANSIENT = re.compile(
    r"timed out|unable to contact|unable to connect|connection (refused|reset)|temporarily|exit code -15$",
    re.IGNORECASE,
)
"""The last is of a command whose job was told to end: Slurm signals all of a job's processes."""
_QUEUE_FORMAT = "%i|%j|%T|%r"
_ASSOCIATION = "account,defaultqos,maxjobs,maxsubmitjobs,maxwall"
_QOS = "name,gracetime,preempt,preemptmode,maxwall,maxjobsperuser,maxsubmitjobsperuser"
_HOPELESS = {
    *("DependencyNeverSatisfied", "JobHeldAdmin", "JobHoldMaxRequeue", "BadConstraints"),
    *("launch failed requeued held", "job requeued in held state"),
}
_USUAL = {"None", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit", "Cleaning"}
"""Reasons of pending jobs that pass by themselves."""
_WAITING = {
    "PENDING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
    "CONFIGURING",
}
_HELD = {"REQUEUE_HOLD", "SPECIAL_EXIT"}
"""Of them, those that only a person brings back."""
_ENDED = {
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED"),
    *("BOOT_FAIL", "DEADLINE", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"),
}
"""Any other state counts as at work: such a job is waited for, and never made a second time."""
_TAKEN_AWAY = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"}
"""By the cluster."""


def parse_queue(text: str) -> list[Queued]:
    """The lines of `squeue -h -r -o '%i|%j|%T|%r'`; jobs that have ended are left out."""
    queued = []
    for line in text.splitlines():
        identity, *words, state, reason = line.split("|")  # a name may hold a bar
        if state in _ENDED:
            continue
        job, _, index = identity.partition("_")
        waiting = state in _WAITING
        unusual = waiting and reason not in _USUAL
        queued.append(
            Queued(
                job,
                int(index) if index else None,
                "|".join(words),
                f"{state} ({reason})" if unusual else state,
                waiting=waiting,
                hopeless=state in _HELD or (waiting and reason in _HOPELESS),
                ending=state == "COMPLETING",  # a requeued job shows the same for a while
            )
        )
    return queued


def parse_gone(text: str) -> list[Gone]:
    """Of the lines of `squeue -h -r -t all -o '%i|%j|%T|%r'`, or those of `sacct` in the same form, the jobs
    that were taken away or cancelled."""
    found = []
    for line in text.splitlines():
        identity, *words, state, _ = line.split("|")
        state = state.partition(" ")[0]  # sacct says by whom a job was CANCELLED
        if state in _TAKEN_AWAY or state == "CANCELLED":
            job, _, index = identity.partition("_")
            found.append(
                Gone(
                    job,
                    int(index) if index.isdigit() else None,
                    "|".join(words),
                    state,
                    by_person=state == "CANCELLED",
                    again=state == "PREEMPTED",
                )
            )
    return found


def is_transient(message: str) -> bool:
    """Whether this is the complaint of a client whose controller is busy or restarting."""
    return bool(_TRANSIENT.search(message))


def retried(call: Callable[[], T], between: Callable[[], None] = lambda: None) -> T:
    """What `call` returns, asked again while the controller is busy or restarting, with `between`
    before each new attempt.

    Raises:
        StageError: that of the last attempt, or a refusal at once.
    """
    for wait in RETRY_SECONDS:
        try:
            return call()
        except StageError as error:
            if not is_transient(str(error)):
                raise
        time.sleep(wait)
        between()
    return call()


def _run(command: list[str]) -> str:
    return retried(lambda: _run_once(command))


def _run_once(command: list[str], timeout: float = TIMEOUT_SECONDS) -> str:
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
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
        return False, f"no controller answers ({str(error).splitlines()[-1]})"
    return (True, "a controller answers") if "UP" in answer else (False, "the controller is down")


def queue() -> list[Queued]:
    """This user's jobs, each array task by itself: one call, whatever their number."""
    return parse_queue(_run(["squeue", "--me", "--all", "-h", "-r", "-o", _QUEUE_FORMAT]))


def gone(jobs: Collection[str]) -> list[Gone]:
    """This user's jobs that were taken away or cancelled, as long as the controller remembers them
    (MinJobAge, 300 s unless the site says otherwise), and those of `jobs` that the site's accounting
    remembers."""
    said = _run(["squeue", "--me", "--all", "-h", "-r", "-t", "all", "-o", _QUEUE_FORMAT])
    remembered = {line.partition("|")[0] for line in said.splitlines()}  # array tasks each by itself
    return [
        *parse_gone(said),
        *(one for one in _accounted(jobs, remembered) if one.identity not in remembered),
    ]


def _accounted(jobs: Collection[str], remembered: Collection[str]) -> list[Gone]:
    """What accounting says of the last start of each of some jobs; nothing where a site has none, or it does
    not answer."""
    forgotten = sorted({*jobs} - {*remembered}, key=int)
    if not forgotten:
        return []
    show = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State,Reason"]
    try:
        return parse_gone(_run_once([*show, f"--jobs={','.join(forgotten)}"], ACCOUNTING_SECONDS))
    except StageError:
        return []


def with_name(name: str) -> list[str]:
    """Ids of this user's jobs with this name."""
    return sorted({task.job for task in queue() if task.name == name})


def site(nodes: bool = True) -> Site:
    """What the site's Slurm is like, without its nodes where they are not asked for. Its accounting is only
    asked where something depends on it."""
    show = ["scontrol", "--all", "--oneliner", "show"]
    settings = parse_settings(_run(["scontrol", "show", "config"]))
    found = Site(
        settings,
        parse_partitions(_run([*show, "partition"])),
        parse_nodes(_run([*show, "node"])) if nodes else (),
    )
    if not found.enforces_limits and not settings.get("PreemptType", "").endswith("qos"):
        return found
    show = ["sacctmgr", "--parsable2", "show"]
    own = [f"user={getpass.getuser()}", f"cluster={settings.get('ClusterName', '')}"]
    try:
        return dataclasses.replace(
            found,
            associations=parse_associations(_run([*show, "assoc", *own, f"format={_ASSOCIATION}"])),
            qos=parse_qos(_run([*show, "qos", f"format={_QOS}"])),
        )
    except StageError:  # the database does not answer; sbatch itself says when a job is too much
        return found


def notice(where: Where, seconds: float, source: str) -> Notice:
    """What jobs get: `seconds`, decided by `source`, or what a preemption leaves where that is less."""
    try:
        found = site(nodes=False)
    except StageError:  # no reason not to run
        return Notice(seconds, source)
    return notice_at(found, where, seconds, source)


def notice_at(found: Site, where: Where, seconds: float, source: str) -> Notice:
    """The same on a known site. Pure."""
    given = found.preemption(where)
    preempted = given.mode in ("REQUEUE", "CANCEL") and given.notice_seconds < seconds
    return Notice(given.notice_seconds, given.source) if preempted else Notice(seconds, source)


def dependency(jobs: Iterable[str]) -> str:
    """After all of these jobs, however they end: the next stage looks at manifests itself."""
    return "afterany:" + ":".join(sorted(set(jobs), key=int))


def set_dependency(job: str, after: Iterable[str]) -> None:
    """Have a pending job wait for other jobs."""
    _run(["scontrol", "update", f"JobId={job}", f"Dependency={dependency(after)}"])


def set_excluded(jobs: Iterable[str], nodes: Iterable[str]) -> None:
    """Have pending jobs, or what is pending of an array, start on none of some nodes."""
    names = ",".join(sorted(set(jobs), key=int))
    _run(["scontrol", "update", f"JobId={names}", f"ExcNodeList={','.join(nodes)}"])


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; ones that are gone are no error."""
    ids = sorted(set(jobs))
    if ids:
        _run(["scancel", "--quiet", *ids])


def warn(jobs: Iterable[str], signal: str) -> None:
    """Send the processes of running jobs a signal, as `USR2`, as Slurm does before it takes them away; ones
    that are gone are no error."""
    ids = sorted(set(jobs))
    if ids:
        try:
            _run(["scancel", "--quiet", f"--signal={signal}", *ids])
        except StageError as error:
            if is_transient(str(error)):
                raise


def requeue(job: str) -> bool:
    """Put a running job back into the queue. Explicit, and while it still runs: an exit during
    the grace time is not requeued everywhere, and dependents of a failed job would be lost.

    False, and nothing is done, for a job that was cancelled (it gets the same signal as a preempted
    one) or is already requeued.

    Raises:
        StageError: where the site does not allow it.
    """
    state, reason = standing(job)
    if not may_requeue(state, reason):
        return False
    _run(["scontrol", "requeue", job])
    return True


def start_now(jobs: Iterable[str]) -> None:
    """Have requeued jobs start as soon as there are nodes, without the wait that Slurm adds to a requeue; no
    error for ones that have started."""
    for job in sorted(set(jobs)):
        try:
            _run(["scontrol", "update", f"JobId={job}", "StartTime=now"])
        except StageError as error:
            if is_transient(str(error)):
                raise


def standing(job: str) -> tuple[str, str]:
    """State of a job in the queue and why it waits, in Slurm's words; empty for one that it has forgotten.

    Raises:
        StageError: when the controller says nothing, or that it does not know the job.
    """
    state, _, reason = _run(["squeue", "--all", "-h", "-j", job, "-o", "%T|%r"]).strip().partition("|")
    return state, reason


def keeps_requeue(job: str) -> bool:
    """Whether a submitted job may be requeued: a plugin of the site may have taken its --requeue away."""
    return "Requeue=1" in _run(["scontrol", "--oneliner", "show", "job", job]).split()


def may_requeue(state: str, reason: str) -> bool:
    """Whether a job in this state was stopped by the cluster and not by a person."""
    return state in ("RUNNING", "SIGNALING", "STOPPED", "SUSPENDED") or (
        state == "COMPLETING" and reason == "TimeLimit"
    )


def taken_away(job: str, where: Where) -> bool:
    """Whether a job that is ending was preempted and will not come back by itself. Its state says the same as
    after scancel, and only the time of its preemption tells them apart."""
    shown = _run(["scontrol", "show", "job", "--oneliner", job])
    ending = re.search(r"\bJobState=(COMPLETING|PREEMPTED)\b", shown)
    if not ending or not re.search(r"\bPreemptTime=\d", shown):
        return False
    return site(nodes=False).preemption(where).mode == "CANCEL"


def node_address(node: str) -> str | None:
    """The address Slurm itself uses for a node, whose name may not resolve."""
    found = re.search(r"\bNodeAddr=(\S+)", _run(["scontrol", "show", "node", node]))
    return found.group(1) if found else None
