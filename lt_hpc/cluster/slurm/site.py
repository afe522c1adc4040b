"""What a site's Slurm is like: its settings, partitions, nodes and limits of users, read from what
`scontrol show` and `sacctmgr show` print. Pure; client.py asks for the texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lt_hpc.config.machines import Where

_NO_LIMIT = {"", "UNLIMITED", "INFINITE", "NONE", "N/A", "NOT_SET", "(null)"}
_NOT_USABLE = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "ERROR", "INVAL", "MAINT", "UNKNOWN"}
_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class Partition:
    """A partition. None: no limit, or no default.

    Attributes:
        max_seconds: time limit of its jobs at most.
        grace_seconds: from the warning of a preemption to the end.
        preempt_mode: REQUEUE, CANCEL, SUSPEND or OFF; the cluster's where it has none of its own.
        tier: of two partitions that share nodes, jobs of the higher one preempt.
        cpu_memory, node_memory: MiB that a job gets per CPU or per node where it asks for none.
        max_node_memory: MiB of a node that a job may have at most.
        qos: whose limits hold for all its jobs; empty for none.
    """

    name: str
    default: bool
    state: str
    max_seconds: float | None
    max_nodes: int | None
    grace_seconds: int
    preempt_mode: str
    tier: int
    cpu_memory: int | None
    node_memory: int | None
    max_node_memory: int | None
    qos: str


@dataclass(frozen=True)
class Node:
    """A node; `memory` in MiB, `usable`: neither down nor drained."""

    name: str
    cpus: int
    memory: int
    gpus: int
    features: frozenset[str]
    partitions: frozenset[str]
    usable: bool


@dataclass(frozen=True)
class Quota:
    """Limits of a user by one association, or of all jobs in one QOS. None: no limit.

    Attributes:
        name: account of the association, or the QOS.
        max_jobs: that run at the same time.
        max_submit: in the queue, each array task counts.
        max_seconds: time limit of a job at most.
        default_qos: of an association.
        grace_seconds, preempt_mode, preempts: of a QOS; `preempts`: the QOS whose jobs it preempts.
    """

    name: str
    max_jobs: int | None
    max_submit: int | None
    max_seconds: float | None
    default_qos: str = ""
    grace_seconds: int = 0
    preempt_mode: str = ""
    preempts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Preemption:
    """How a job is preempted: REQUEUE, CANCEL, SUSPEND or OFF; its GraceTime and whose that is; the seconds
    that a job has then. Without a GraceTime the signal comes all the same, and KillWait is left."""

    mode: str
    grace_seconds: int = 0
    source: str = ""
    notice_seconds: int = 0


@dataclass(frozen=True)
class Site:
    """All of it. `associations` and `qos` are None where nothing depends on the site's accounting, or it does
    not answer."""

    settings: Mapping[str, str]
    partitions: tuple[Partition, ...]
    nodes: tuple[Node, ...] = ()
    associations: tuple[Quota, ...] | None = None
    qos: tuple[Quota, ...] | None = None

    def partition(self, wanted: str | None) -> Partition | None:
        """The partition with a name, for None the default one; None where there is no such."""
        return next(
            (one for one in self.partitions if one.name == wanted or (not wanted and one.default)), None
        )

    def number(self, setting: str, default: int) -> int:
        """A setting that is a number, maybe with a unit (`30 sec`)."""
        return _number(self.settings.get(setting, "").split(" ")[0], default) or 0

    @property
    def version(self) -> str:
        return self.settings.get("SLURM_VERSION", "?")

    @cached_property
    def sends_user_signal(self) -> bool:
        """Whether jobs get the signal that they asked for when they are preempted, in place of TERM."""
        words = f"{self.settings.get('PreemptParameters', '')},{self.settings.get('SlurmctldParameters', '')}"
        return bool({"send_user_signal", "preempt_send_user_signal"} & set(words.split(",")))

    @cached_property
    def enforces_limits(self) -> bool:
        """Whether limits of associations and QOS hold ("safe" includes them)."""
        enforced = self.settings.get("AccountingStorageEnforce", "").lower()
        return "limits" in enforced or "safe" in enforced or enforced == "all"

    def nodes_of(self, partition: str, constraint: str | None = None) -> list[Node]:
        """Its nodes that have the wanted features; a constraint that is more than names joined by & or | is
        not looked at."""
        alternatives = [set(part.split("&")) for part in (constraint or "").split("|")]
        simple = constraint is not None and re.fullmatch(r"[\w.&|-]+", constraint) is not None
        return [
            node
            for node in self.nodes
            if partition in node.partitions
            and (not simple or any(wanted <= node.features for wanted in alternatives))
        ]

    def quotas(self, where: Where) -> dict[str, Quota]:
        """What limits a job, by a name for people; nothing where the site enforces no limits."""
        if not self.enforces_limits or self.associations is None:
            return {}
        found = {f"account {one.name}": one for one in self.associations if where.account in (None, one.name)}
        partition = self.partition(where.partition)
        names = {self.qos_of(where), partition.qos if partition else ""}
        return found | {f"QOS {one.name}": one for one in self.qos or () if one.name in names}

    def qos_of(self, where: Where) -> str:
        """The QOS of a job that asks for this one, or for none."""
        defaults = [one.default_qos for one in self.associations or () if where.account in (None, one.name)]
        return where.qos or next((name for name in defaults if name), "normal")

    def submit_limit(self, where: Where) -> int | None:
        """How many jobs and array tasks this user may have in the queue; None for any number."""
        quotas = self.quotas(where).values()
        return min((one.max_submit for one in quotas if one.max_submit is not None), default=None)

    def preemption(self, where: Where) -> Preemption:
        """How jobs are preempted. A partition's own mode and GraceTime go before the cluster's; where it is
        QOS that preempt each other, those of the job's QOS count."""
        kind = self.settings.get("PreemptType", "preempt/partition_prio")
        if kind.endswith("none"):
            return Preemption("OFF")
        if kind.endswith("qos"):
            return self._preemption_of_qos(self.qos_of(where))
        partition = self.partition(where.partition)
        if partition is None or partition.preempt_mode == "OFF" or not self._has_higher(partition):
            return Preemption("OFF")
        return self._preemption(
            partition.preempt_mode, partition.grace_seconds, f"partition {partition.name}"
        )

    def _preemption_of_qos(self, name: str) -> Preemption:
        own = next((one for one in self.qos or () if one.name == name), None)
        if own is None or not any(name in one.preempts for one in self.qos or ()):
            return Preemption("OFF")
        mode = own.preempt_mode if own.preempt_mode not in ("", "CLUSTER") else ""
        mode = mode or _mode(self.settings.get("PreemptMode", "OFF"))
        return self._preemption(mode, own.grace_seconds, f"QOS {name}")

    def _preemption(self, mode: str, grace: int, owner: str) -> Preemption:
        source = f"GraceTime={grace} of {owner}"
        return Preemption(mode, grace, source, grace or self.number("KillWait", 30))

    def _has_higher(self, partition: Partition) -> bool:
        """Whether a partition of a higher tier shares nodes with it; any does where nodes were not read."""
        higher = {one.name for one in self.partitions if one.tier > partition.tier}
        shared = {name for node in self.nodes_of(partition.name) for name in node.partitions}
        return bool(higher & shared) if self.nodes else bool(higher)


def parse_settings(text: str) -> dict[str, str]:
    """`scontrol show config` as a dictionary."""
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, flags=re.MULTILINE))


def parse_partitions(text: str) -> tuple[Partition, ...]:
    """The lines of `scontrol show partition -o`."""
    return tuple(
        Partition(
            name=fields["PartitionName"],
            default=fields.get("Default") == "YES",
            state=fields.get("State", "UP"),
            max_seconds=parse_time(fields.get("MaxTime", "")),
            max_nodes=_number(fields.get("MaxNodes", "")),
            grace_seconds=_number(fields.get("GraceTime", "")) or 0,
            preempt_mode=_mode(fields.get("PreemptMode", "OFF")),
            tier=_number(fields.get("PriorityTier", "")) or 1,
            cpu_memory=_number(fields.get("DefMemPerCPU", "")),
            node_memory=_number(fields.get("DefMemPerNode", "")),
            max_node_memory=_number(fields.get("MaxMemPerNode", "")),
            qos="" if fields.get("QoS", "") in _NO_LIMIT else fields["QoS"],
        )
        for fields in map(_fields, text.splitlines())
        if "PartitionName" in fields
    )


def parse_nodes(text: str) -> tuple[Node, ...]:
    """The lines of `scontrol show node -o`."""
    return tuple(
        Node(
            name=fields["NodeName"],
            cpus=_number(fields.get("CPUEfctv") or fields.get("CPUTot", "")) or 0,
            memory=_number(fields.get("RealMemory", "")) or 0,
            gpus=parse_gpus(fields.get("Gres", "")),
            features=frozenset(fields.get("AvailableFeatures", "").split(",")),
            partitions=frozenset(fields.get("Partitions", "").split(",")),
            usable=not _NOT_USABLE & set(re.split(r"[+*~#!%$@^-]", fields.get("State", "")))
            and "*" not in fields.get("State", ""),
        )
        for fields in map(_fields, text.splitlines())
        if "NodeName" in fields
    )


def parse_gpus(gres: str) -> int:
    """GPUs in a list of generic resources, as `gpu:h100:8(S:0-1),nvme:1`."""
    found = re.findall(r"(?:^|,)gpu(?::[A-Za-z][\w.-]*)?(?::(\d+))?(?=[(,]|$)", gres)
    return sum(int(count or 1) for count in found)


def parse_associations(text: str) -> tuple[Quota, ...]:
    """`sacctmgr -P show assoc`, with its line of names."""
    return tuple(
        Quota(
            name=row["Account"],
            max_jobs=_number(row["MaxJobs"]),
            max_submit=_number(row["MaxSubmit"]),
            max_seconds=parse_time(row["MaxWall"]),
            default_qos=row["Def QOS"],
        )
        for row in _table(text)
    )


def parse_qos(text: str) -> tuple[Quota, ...]:
    """`sacctmgr -P show qos`, with its line of names."""
    return tuple(
        Quota(
            name=row["Name"],
            max_jobs=_number(row["MaxJobsPU"]),
            max_submit=_number(row["MaxSubmitPU"]),
            max_seconds=parse_time(row["MaxWall"]),
            grace_seconds=int(parse_time(row["GraceTime"]) or 0),
            preempt_mode=_mode(row["PreemptMode"]),
            preempts=frozenset(row["Preempt"].split(",")) - {""},
        )
        for row in _table(text)
    )


def parse_time(text: str) -> float | None:
    """Seconds of `1-12:00:00`, `12:00:00` or `05:00`; None for no limit."""
    if text in _NO_LIMIT or not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes, seconds = (*parts, 0, 0)[:3] if days or len(parts) == 3 else (0, *parts, 0)[:3]
    return 86400.0 * int(days or 0) + 3600.0 * hours + 60.0 * minutes + seconds


def parse_memory(text: str) -> float | None:
    """MiB of `200GB`, `64G`, `1024`, as sbatch takes them; None for what is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    return float(found[1]) * _UNITS[found[2] or "M"] if found else None


def _fields(line: str) -> dict[str, str]:
    """`A=1 B=2`; of two with one name the first counts: the reason of a node is free text at the end."""
    found: dict[str, str] = {}
    for word in line.split():
        name, equals, value = word.partition("=")
        if equals:
            found.setdefault(name, value)
    return found


def _table(text: str) -> list[dict[str, str]]:
    lines = [line.split("|") for line in text.splitlines() if "|" in line]
    return [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]


def _number(text: str, default: int | None = None) -> int | None:
    return int(text) if text.isdigit() else default


def _mode(text: str) -> str:
    """`GANG,SUSPEND` is SUSPEND."""
    return next((word for word in text.upper().split(",") if word != "GANG"), "OFF")
