"""A site's answers, as they were recorded, and what is read from them."""

from __future__ import annotations

import pytest

from lt_hpc.cluster.slurm.site import Preemption, parse_gpus, parse_memory, parse_settings, parse_time
from lt_hpc.config.machines import Where
from tests.cluster.recorded import site


def test_settings_are_read_from_the_controllers_answer() -> None:
    text = "Configuration data as of 2026\nMaxArraySize            = 1001\nAuthInfo                = a=b,c\n"
    assert parse_settings(text) == {"MaxArraySize": "1001", "AuthInfo": "a=b,c"}
    found = site("requeue").settings
    assert (found["PowerPlugin"], found["PreemptMode"]) == ("", "REQUEUE"), "an empty one takes no other"


@pytest.mark.parametrize(
    ("name", "where", "mode", "grace"),
    [
        ("requeue", Where(), "REQUEUE", 120),
        ("requeue", Where(partition="preempt"), "REQUEUE", 120),
        ("requeue", Where(partition="high"), "OFF", 0),
        ("requeue", Where(partition="elsewhere"), "OFF", 0),
        ("cancel", Where(), "CANCEL", 0),
        ("suspend", Where(), "SUSPEND", 0),
        ("none", Where(), "OFF", 0),
        ("tiny", Where(), "REQUEUE", 10),
        ("qos", Where(), "OFF", 0),
        ("qos", Where(qos="spot"), "REQUEUE", 60),
        ("qos", Where(qos="urgent"), "OFF", 0),
    ],
)
def test_how_a_job_is_preempted(name: str, where: Where, mode: str, grace: int) -> None:
    found = site(name).preemption(where)
    assert (found.mode, found.grace_seconds) == (mode, grace)
    assert found.notice_seconds == (0 if mode == "OFF" else grace or 30), "KillWait is left without a grace"


def test_a_partition_of_the_highest_tier_is_not_preempted_whatever_its_mode() -> None:
    raised = site("requeue", ("PriorityTier=1 ", "PriorityTier=10 "))
    assert raised.preemption(Where()) == Preemption("OFF")
    apart = site("requeue", ("Partitions=preempt,high", "Partitions=preempt"))
    assert apart.preemption(Where()) == Preemption("OFF"), "they share no node"


@pytest.mark.parametrize(
    ("name", "signal"),
    [("requeue", True), ("cancel", False), ("none", False), ("qos", True)],
)
def test_whether_preempted_jobs_get_the_signal_they_asked_for(name: str, signal: bool) -> None:
    assert site(name).sends_user_signal is signal


def test_limits_of_a_user_are_those_of_account_qos_and_partition() -> None:
    found = site("qos")
    assert set(found.quotas(Where(account="myproject"))) == {"account myproject", "QOS normal"}
    assert found.submit_limit(Where(account="myproject")) == 100
    assert found.submit_limit(Where(account="root")) == 200
    assert found.submit_limit(Where(account="root", partition="short")) == 10
    assert found.submit_limit(Where(account="root", qos="urgent")) is None
    wall = {
        name: one.max_seconds for name, one in found.quotas(Where(account="myproject", qos="spot")).items()
    }
    assert wall == {"account myproject": 86400, "QOS spot": 43200}


def test_a_site_that_enforces_no_limits_has_none() -> None:
    lax = site("qos", ("associations,limits", "associations"))
    assert lax.submit_limit(Where(account="myproject")) is None
    assert site("requeue").submit_limit(Where()) is None


def test_nodes_are_known_with_their_gpus_features_and_whether_they_work() -> None:
    found = site("qos")
    assert [(node.name, node.cpus, node.memory, node.gpus, node.usable) for node in found.nodes] == [
        ("g1", 64, 1031000, 8, True),
        ("g2", 64, 1031000, 8, False),
    ]
    assert [node.name for node in found.nodes_of("gpu", "h100&ib")] == ["g1"]
    assert [node.name for node in found.nodes_of("gpu", "ib|h100")] == ["g1", "g2"]
    assert found.nodes_of("gpu", "a100") == []
    assert len(found.nodes_of("gpu", "[rack1*2&rack2*4]")) == 2, "not looked at"
    assert [node.name for node in found.nodes_of("short")] == ["g2"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:05:00", 300), ("2-00:00:00", 172800), ("05:00", 300), ("5", 300), ("1-12", 129600),
        ("UNLIMITED", None), ("", None), ("NONE", None),
    ],
)  # fmt: skip
def test_times_are_read_as_slurm_writes_them(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [
        ("64GB", 65536),
        ("200G", 204800),
        ("1024", 1024),
        ("2t", 2097152),
        ("512K", 0.5),
        ("0", 0),
        ("x", None),
    ],
)
def test_memory_is_read_as_sbatch_does(text: str, mebibytes: float | None) -> None:
    assert parse_memory(text) == mebibytes


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:4", 4), ("gpu:h100:8(S:0-1)", 8), ("gpu:a100_1g.5gb:7,nvme:1", 7), ("(null)", 0), ("gpu", 1),
        ("gpu:a100:4(S:0),gpu:v100:2(S:1)", 6), ("mygpu:3", 0), ("", 0),
    ],
)  # fmt: skip
def test_gpus_are_counted(gres: str, gpus: int) -> None:
    assert parse_gpus(gres) == gpus
