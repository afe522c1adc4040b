"""Sampling in a low precision says how far off its weights are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.latent import diagnostics
from lt_hpc.report.warnings import warnings
from lt_hpc.stages.sample import compares
from lt_hpc.store import manifest
from lt_hpc.store.figures import SelectionStatistics
from tests.report.rows import iteration
from tests.runs.tiny_run import run_e_step


def test_bfloat16_is_measured_against_float32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "WARN_SELECTION_CHANGE", 0.0)
    longer = ("sample.max_thought_tokens=60", "sample.num_samples=16")  # so that enough of them end
    task = run_e_step(tmp_path, "sample.dtype=bfloat16", "sample.precision_chunks=3", *longer)
    assert "warning: sample.dtype=bfloat16 moves" in capsys.readouterr().err
    merged = manifest.read(task.paths.selected(1))
    assert merged is not None
    found = merged.statistics["precision"]
    assert 1 <= found["chunks"] <= 3
    assert 0 < found["log_q_deviation_per_token"] < 0.1
    assert 0 < found["selection_change"] < 0.5
    moved = SelectionStatistics.of({**merged.statistics, "precision": {**found, "selection_change": 0.2}})
    assert any("sample.dtype moves 20%" in line for line in warnings([iteration(selection=moved)]))


@given(st.integers(1, 5000))
def test_few_tasks_of_many_are_measured_and_one_at_least(count: int) -> None:
    measured = [shard for shard in range(count) if compares([shard], count)]
    assert measured[0] == 0 and min(count, 5) <= len(measured) <= 8


def test_float32_has_nothing_to_measure(tmp_path: Path) -> None:
    merged = manifest.read(run_e_step(tmp_path).paths.selected(1))
    assert merged is not None
    assert merged.statistics["precision"] is None
