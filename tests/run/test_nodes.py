"""Which nodes are told to be bad, and which are not."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.run.events import Ended, Event, Lost, Started, Submit, Submitted
from lt_hpc.run.nodes import RECENT_TASKS, suspects

NODES = ["n1", "n2", "n3", "n4"]


def array(
    shards: int, stage: str = "sample-01", plan: str = "p", job: str = "7", nodes: int = 1
) -> list[Event]:
    """A job array with a task per shard, as it was submitted; for 0 shards a single job."""
    submit = Submit(
        submission=f"{job}-{stage}", stage=stage, fingerprint="f", plan=plan,
        shards=[[number] for number in range(shards)], nodes=nodes,
    )  # fmt: skip
    return [submit, Submitted(submission=submit.submission, jobs=[job])]


def end(node: str, code: int = 0, shard: int | None = 0, job: str = "7", **more: object) -> Ended:
    name = job if shard is None else f"{job}_{shard}"
    one = Ended(stage="sample-01", code=code, cause="CUDA error" if code else "", job=name, node=node)
    return dataclasses.replace(one, **more)  # type: ignore[arg-type]


def named(happened: Sequence[Event]) -> list[str]:
    return [one.node for one in suspects(happened)]


def test_a_node_on_which_tasks_fail_while_others_end_well_is_named_with_the_last_cause() -> None:
    happened = [*array(4), end("n1", 1, 0), end("n2", 0, 1), end("n1", 71, 2), end("n3", 0, 3)]
    (found,) = suspects(happened)
    assert found.node == "n1"
    assert "2 of its last 2 tasks failed" in found.evidence
    assert "sample-01" in found.evidence and "job 7_2 on n1, exit code 71: CUDA error" in found.evidence


@given(
    st.lists(
        st.tuples(st.sampled_from(NODES), st.sampled_from([0, 2, 3, 75]), st.integers(0, 3)), max_size=40
    )
)
def test_stops_and_errors_of_settings_or_inputs_never_count(ends: list[tuple[str, int, int]]) -> None:
    happened = array(4) + [end(node, code, shard) for node, code, shard in ends]
    happened += [Lost(stage="sample-01", fingerprint="f", job="7", state="PREEMPTED", again=True)]
    assert named(happened) == []


@given(st.lists(st.tuples(st.sampled_from(NODES), st.integers(0, 3)), max_size=40))
def test_where_everything_fails_no_node_is_to_blame(ends: list[tuple[str, int]]) -> None:
    assert named(array(4) + [end(node, 1, shard) for node, shard in ends]) == []


@given(st.randoms(use_true_random=False))
def test_work_that_fails_wherever_it_runs_is_not_held_against_nodes(order: random.Random) -> None:
    """Shard 0 has a passage that no node can do; its neighbours end well everywhere."""
    ends = [end(node, 0, 1 + number) for number, node in enumerate(NODES)]
    ends += [end(node, 1, 0) for node in NODES[:3]]
    order.shuffle(ends)
    assert named([*array(5), *ends]) == []


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_one_bad_node_is_found_whatever_the_order(order: random.Random, failures: int) -> None:
    ends = [end("n2", 1, shard) for shard in range(failures)]
    ends += [end(order.choice(["n1", "n3", "n4"]), 0, shard) for shard in range(6)]
    order.shuffle(ends)
    assert named([*array(6), *ends]) == ["n2"]


def test_a_single_job_counts_once_it_has_ended_well_elsewhere() -> None:
    failed = [*array(0), end("n1", 71, None)]
    assert named(failed) == [], "it may be the work"
    assert named([*failed, *array(0, job="8"), end("n1", 0, None, "8")]) == [], "it was not the node"
    assert named([*failed, *array(0, job="8"), end("n2", 0, None, "8")]) == ["n1"]


def test_ranks_on_several_nodes_fail_of_each_other() -> None:
    for nodes in (2, 0):
        failed = [*array(0, nodes=nodes), end("n2", 71, None, rank=3)]
        assert named([*failed, *array(0, job="8", nodes=nodes), end("n1", 0, None, "8")]) == []


def test_success_with_other_settings_says_nothing() -> None:
    """Somebody has lowered what did not fit into memory."""
    failed = [*array(0), end("n1", 1, None)]
    assert named([*failed, *array(0, plan="other", job="8"), end("n2", 0, None, "8")]) == []


def test_one_failure_among_many_tasks_that_went_well_is_forgiven() -> None:
    good = [end("n1", 0, shard) for shard in range(1, 8)]
    happened = [*array(20), end("n2", 0, 0), *good, end("n1", 1, 0)]
    assert named(happened) == []
    later = [end("n1", 1, shard) for shard in range(8, 8 + RECENT_TASKS)]
    assert named([*happened, *later, *(end("n3", 0, shard) for shard in range(8, 20))]) == ["n1"], (
        "it got bad"
    )


def test_tasks_of_unknown_jobs_and_nodes_are_passed_over() -> None:
    strange = [
        end("n1", 1, 0, job="99"),
        end("", 1, 0),
        end("n1", 1, 0, stage="train-01"),
        Started(task="sample-01.0", pid=1, stage="sample-01", job="7_0", node="n1"),
    ]
    assert named([*array(2), end("n2", 0, 1), *strange]) == []


def pace(node: str, seconds: float, blocks: int, shard: int) -> Ended:
    return end(node, 0, shard, setup=10.0, saved=10.0 + seconds * blocks, units=blocks)


def test_a_node_that_crawls_against_the_median_of_the_others_is_named() -> None:
    paces = {"n1": 20.0, "n2": 100.0, "n3": 22.0, "n4": 25.0}
    happened = array(4) + [pace(node, s, 5, shard) for shard, (node, s) in enumerate(paces.items())]
    (found,) = suspects(happened)
    assert found.node == "n2"
    assert "a block of sample-01 took 100 s on average, on 3 other nodes 22 s" in found.evidence


@given(st.lists(st.floats(20.0, 59.0), min_size=4, max_size=4), st.integers(1, 50))
def test_differences_that_are_usual_are_no_crawl(seconds: list[float], blocks: int) -> None:
    happened = array(4) + [pace(n, s, blocks, i) for i, (n, s) in enumerate(zip(NODES, seconds, strict=True))]
    assert named(happened) == []


def test_few_blocks_few_seconds_and_few_peers_say_nothing() -> None:
    def found(blocks: int, scale: float, peers: int) -> list[str]:
        others = [pace(node, 10.0 * scale, 5, shard) for shard, node in enumerate(NODES[1 : 1 + peers])]
        return named([*array(5), pace("n1", 100.0 * scale, blocks, 4), *others])

    assert found(5, 1.0, 3) == ["n1"]
    assert found(3, 1.0, 3) == [] and found(5, 0.01, 3) == [] and found(5, 1.0, 1) == []


def test_the_newest_stage_tells_whether_a_node_crawls() -> None:
    paces = {"n1": 100.0, "n2": 20.0, "n3": 20.0}
    first = array(3) + [pace(node, s, 5, shard) for shard, (node, s) in enumerate(paces.items())]
    second = array(3, "sample-02", job="8") + [
        dataclasses.replace(pace(node, 20.0, 5, shard), stage="sample-02", job=f"8_{shard}")
        for shard, node in enumerate(paces)
    ]
    assert named(first) == ["n1"] and named(first + second) == []


def test_those_that_fail_come_before_those_that_crawl() -> None:
    paces = {"n1": 100.0, "n2": 20.0, "n3": 20.0}
    happened = array(9) + [pace(node, s, 5, shard) for shard, (node, s) in enumerate(paces.items())]
    happened += [end("n4", 1, 3), end("n2", 0, 3)]
    assert named(happened) == ["n4", "n1"]
