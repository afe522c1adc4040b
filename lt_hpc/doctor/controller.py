"""What the settings of a site's controller mean for a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lt_hpc.cluster.reconcile import SETTLE_SECONDS
from lt_hpc.cluster.slurm.site import Site
from lt_hpc.doctor.rows import Row

GROUP = "Slurm"


def rows(site: Site) -> Iterator[Row]:
    """One for each setting that lt_hpc depends on."""
    settings = site.settings
    yield Row(GROUP, "version", f"{site.version}, {len(site.nodes)} nodes")
    kind = settings.get("PreemptType", "?")
    yield Row(GROUP, "preemption", f"{kind}, PreemptMode={settings.get('PreemptMode', '?')}")
    if site.sends_user_signal:
        yield Row(GROUP, "signal", "preempted jobs get the signal they ask for", "jobs ask for USR2")
    else:
        found = "send_user_signal is not set: preempted jobs get TERM"
        yield Row(GROUP, "signal", found, "tasks take it as they do USR2")
    wait = site.number("KillWait", 30)
    slow = wait > SETTLE_SECONDS
    yield Row(
        GROUP,
        "KillWait",
        f"{wait} s from TERM to KILL",
        f"launch waits {SETTLE_SECONDS} s for jobs on their way out" + (": too short" if slow else ""),
        "warning" if slow else "ok",
        "launch again when squeue shows none of the run's jobs COMPLETING" if slow else "",
    )
    yield _requeue(site)
    yield Row(
        GROUP,
        "limits",
        f"MaxArraySize={settings.get('MaxArraySize', '?')}, MaxJobCount={settings.get('MaxJobCount', '?')}, "
        f"MinJobAge={site.number('MinJobAge', 300)} s",
        "what is queued is asked of squeue, what is done of the run folder",
    )
    yield _accounting(site)


def _requeue(site: Site) -> Row:
    if site.settings.get("JobRequeue", "1") != "0":
        return Row(GROUP, "JobRequeue", "1", "jobs ask for --requeue")
    return Row(
        GROUP,
        "JobRequeue",
        "0",
        "jobs ask for --requeue, which goes before it; where a plugin of the site takes that away, a stopped "
        "job ends with exit code 75 and waits for a launch",
        "warning",
        "lt-hpc doctor --probe says whether jobs keep --requeue",
    )


def _accounting(site: Site) -> Row:
    kind = site.settings.get("AccountingStorageType", "accounting_storage/none")
    if kind.endswith("none"):
        return Row(GROUP, "accounting", "none", "not needed: how jobs ended stands in RUN/jobs.jsonl")
    if not site.enforces_limits:
        return Row(GROUP, "accounting", kind, "limits of users are not enforced")
    if site.associations is None:
        return Row(
            GROUP,
            "accounting",
            f"{kind} enforces limits and does not answer",
            "launch can't know how many jobs it may submit",
            "warning",
            "slurm.max_array_tasks=16, or ask again when sacctmgr answers",
        )
    accounts = ", ".join(one.name for one in site.associations) or "no account"
    return Row(GROUP, "accounting", f"{kind} enforces limits; accounts of this user: {accounts}")
