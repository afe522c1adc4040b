"""What status says of a stage."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.run import events, state
from lt_hpc.run.build import build_plan
from lt_hpc.run.events import Ended
from lt_hpc.status import describe
from lt_hpc.store import manifest, shards
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths, shard_folder
from lt_hpc.store.shards import ShardMap


def test_a_stage_that_was_stopped_or_failed_says_why_unless_it_is_in_the_queue_again(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    plan = build_plan(load_config(demo_file()), 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    stage = plan.stage("train-01")
    for code, cause, said in ((75, "cancelled", "stopped: "), (1, "no memory", "FAILED: ")):
        events.record(paths, Ended(stage=stage.key, code=code, cause=cause, job="7", node="n1"))
        end = events.unfinished_ends(events.read(paths))[stage.key]
        line = describe(paths, stage, state.standing(paths, stage), Counter(), end)
        assert said in line and f"job 7 on n1, exit code {code}: {cause}" in line
        assert said not in describe(paths, stage, state.standing(paths, stage), Counter(PENDING=1), end)


def test_shards_are_done_running_or_missing(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    plan = build_plan(load_config(demo_file()), 1, {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"})
    stage = plan.stage("sample-01")
    pinned = shards.pin(paths.samples(1), ShardMap(stage.fingerprint, 100, 5, 6))
    done = shard_folder(paths.samples(1), 0)
    done.mkdir(parents=True)
    manifest.write(done, Manifest("samples", pinned.fingerprint(0), True, ()))
    paths.progress("sample-01.0").parent.mkdir()
    hour_ago = time.time() - 3600
    # At its end, at work twice, and killed an hour ago.
    for task, blocks, written in ((0, 4, None), (1, 3, None), (2, 0, None), (3, 2, hour_ago)):
        file = paths.progress(f"sample-01.{task}")
        file.write_text(json.dumps({"done": blocks, "total": 4, "unit": "blocks", "note": ""}))
        os.utime(file, written and (written, written))
    standing = state.standing(paths, stage)
    assert "shards: 1 done, 2 running, 3 missing" in describe(paths, stage, standing, Counter())
    queued = describe(paths, stage, standing, Counter(RUNNING=3, PENDING=2))
    assert "shards: 1 done, 3 running, 2 missing   jobs: 2 pending, 3 running" in queued
    assert "shards: 1 done, 5 running, 0 missing" in describe(paths, stage, standing, Counter(RUNNING=9))
    only_waiting = describe(paths, stage, standing, Counter(PENDING=5))
    assert "shards: 1 done, 0 running, 5 missing" in only_waiting, "progress files of an earlier start"
