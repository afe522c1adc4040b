"""A sharded stage in any mixture of states: what is submitted, and what status says of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lt_hpc.cluster import names, reconcile
from lt_hpc.cluster.slurm import client
from lt_hpc.run import events
from lt_hpc.run.events import Submit
from lt_hpc.run.overview import Row, rows
from lt_hpc.run.plan import Plan
from lt_hpc.store import manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths, block_part, shard_folder
from lt_hpc.store.shards import ShardMap
from tests.cluster.memory_queue import Cluster, make_plan

ON_DISK = ("done", "absent", "empty", "no files yet", "damaged", "cut off", "file lost", "of other settings")
IN_QUEUE = ("", "PENDING|JobArrayTaskLimit", "RUNNING|None", "PENDING|JobHeldAdmin", "COMPLETED|None")
LIVE = IN_QUEUE[1:3]


def write(paths: RunPaths, shard_map: ShardMap, shard: int, state: str) -> None:
    """A shard's folder, as `state` says."""
    folder = shard_folder(paths.samples(1), shard)
    if state == "absent":
        return
    folder.mkdir(parents=True)
    if state == "empty":
        return
    (part,) = (folder / block_part(block) for block in shard_map.blocks(shard))
    part.write_text("thoughts")
    made_for = "0" * 16 if state == "of other settings" else shard_map.fingerprint(shard)
    files = (manifest.describe(part, {"chunks": 1}),)
    manifest.write(folder, Manifest("shard", made_for, state != "no files yet", files))
    if state == "damaged":
        (folder / manifest.NAME).write_text((folder / manifest.NAME).read_text().replace("shard", "shart"))
    if state == "cut off":
        part.write_text("thought")
    if state == "file lost":
        part.unlink()


def look(shard_states: list[tuple[str, str]], array: int) -> tuple[list[int], Row, Counter[str]]:
    """A launch has submitted every shard; then each is on disk and in the queue as its two states say. The
    shards that the next launch submits, and what status says before."""
    with tempfile.TemporaryDirectory() as folder:
        paths, cluster = RunPaths(Path(folder) / "run"), Cluster()
        count = len(shard_states)
        plan = make_plan(f"sample.num_shards={count}", f"slurm.max_array_size={array}")
        cluster.reconcile(plan, paths)
        fingerprint = plan.stage("sample-01").fingerprint
        shard_map = shards.pin(paths.samples(1), ShardMap(fingerprint, count, 1, count))
        lines = []
        for name, job, index, shard in tasks(cluster, plan, paths):
            on_disk, queued = shard_states[shard]
            write(paths, shard_map, shard, on_disk)
            if queued:
                lines.append(f"{job}{'' if index is None else f'_{index}'}|{name}|{queued}\n")
        others = [one for one in cluster.jobs_in_queue if cluster.stages[one.job] != "sample-01"]
        cluster.jobs_in_queue = [*others, *client.parse_queue("".join(lines))]
        happened = events.read(paths)
        states = reconcile.states(names.run_id(paths), cluster.jobs_in_queue, happened)
        (row,) = (one for one in rows(paths, plan, states, happened) if one.stage == "sample-01")
        before = len(events.of_kind(paths, Submit))
        cluster.reconcile(plan, paths)
        new = events.of_kind(paths, Submit)[before:]
        assert {one.stage for one in new} <= {"sample-01"}, "nothing else was lost"
        return (
            [shard for one in new for task in one.shards for shard in task],
            row,
            states.get("sample-01", Counter()),
        )


def tasks(cluster: Cluster, plan: Plan, paths: RunPaths) -> list[tuple[str, str, int | None, int]]:
    """Name, job and index of each task of the E-step in the queue, and its shard."""
    made = {names.identity(names.run_id(paths), one.submission): one for one in events.of_kind(paths, Submit)}
    return [
        (one.name, one.job, one.index, made[names.identity_in(one.name)].shards[one.index or 0][0])
        for one in cluster.jobs_in_queue
        if cluster.stages[one.job] == "sample-01"
    ]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ON_DISK), st.sampled_from(IN_QUEUE)), min_size=1, max_size=12),
       st.integers(1, 5))  # fmt: skip
def test_what_is_neither_done_nor_in_the_queue_is_submitted_once(
    shard_states: list[tuple[str, str]], array: int
) -> None:
    submitted, row, states = look(shard_states, array)
    missing = [shard for shard, (on_disk, _) in enumerate(shard_states) if on_disk != "done"]
    assert submitted == [shard for shard in missing if shard_states[shard][1] not in LIVE]
    assert row.done is not bool(missing)
    assert row.shards is not None
    assert row.shards.done == len(shard_states) - len(missing)
    assert row.shards.running + row.shards.missing == len(missing)
    assert row.shards.running == min(len(missing), sum(told == LIVE[1] for _, told in shard_states))
    if missing:
        assert f"{len(missing)} of {len(shard_states)} shards missing" in str(row.problem)
        assert str(shard_folder(Path("samples"), missing[0])) in str(row.problem), "the first is named"
    held, ended = "PENDING (JobHeldAdmin)", "COMPLETED"
    expected = Counter(told.partition("|")[0] for _, told in shard_states if told in LIVE)
    expected[held] = sum(told == IN_QUEUE[3] for _, told in shard_states)
    assert states == +expected and ended not in states
