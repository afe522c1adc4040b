"""Weights & Biases, offline: what `wandb sync` would send. Needs the extra `track`."""

from __future__ import annotations

import importlib
import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.report import columns, curves
from lt_hpc.run.build import build_plan
from lt_hpc.store.paths import RunPaths
from tests.report.pages import SOURCES, report

pytest.importorskip("wandb")
BLOCK, HEADER = 1 << 15, 7


def records(written: bytes) -> Iterator[bytes]:
    """Of a .wandb file, LevelDB's log behind seven bytes of W&B's: blocks of 32 KiB, records cut at their
    ends, each piece behind its checksum (4 bytes), length (2) and whether it is the last one (1 or 4)."""
    place, whole = 7, b""
    while place < len(written):
        if BLOCK - place % BLOCK < HEADER:  # too little is left for another one
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", written, place)
        whole += written[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):
            yield whole
            whole = b""


def recorded(file: Path) -> tuple[set[str], dict[str, dict[int, Any]]]:
    """The ids of the runs in a .wandb file, and its curves by step."""
    from wandb.proto import wandb_internal_pb2

    runs, shown = set(), defaultdict[str, dict[int, Any]](dict)
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            runs.add(record.run.run_id)
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            shown[name][record.history.step.num] = json.loads(item.value_json)
    return runs, shown


def test_after_each_evaluation_one_run_has_the_curves_of_all_iterations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    plan = build_plan(load_config(demo_file(), ["train.trackers=[wandb]"]), 1, SOURCES)
    made = report()
    for _ in range(2):  # launched or requeued again
        curves.send(plan, RunPaths(tmp_path), made, "0123456789")
    importlib.import_module("wandb").teardown()
    assert "warning" not in capsys.readouterr().err
    files = sorted(tmp_path.rglob("*.wandb"))
    assert len(files) == 2
    rows = {row.number: row for row in made.iterations}
    for file in files:
        runs, shown = recorded(file)
        assert runs == {"demo-iterations-01234567"}, "the service takes both for one run"
        for curve in ("accuracy", "bound"):
            expected = {n: columns.shown(row.held_out, curve).value for n, row in rows.items()}
            assert shown[f"heldout/{curve}"] == pytest.approx(expected)
        assert set(shown["estep/ess_mean"]) == {1}
        assert shown["tokens/sampled"] == {n: float(row.tokens["sampled"]) for n, row in rows.items()}
