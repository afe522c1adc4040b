"""The report of a finished run of the first release, whose files use former names and lack later figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.report import collect, output
from lt_hpc.report.rows import Report
from lt_hpc.run.state import last_plan
from lt_hpc.store.figures import HeldOut, Precision, SelectionStatistics
from lt_hpc.store.paths import RunPaths


def collected(paths: RunPaths) -> Report:
    return collect.collect(last_plan(paths), paths)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_figures_are_those_of_the_files_under_their_present_names(paths: RunPaths) -> None:
    report = collected(paths)
    assert report.complete and [row.number for row in report.iterations] == [0, 1]
    row = report.iterations[1]
    metrics = read(paths.evaluation(1) / "metrics.json")
    assert row.held_out.nll_per_byte == metrics["nll_a_byte"] > 0
    assert row.held_out.intervals.nll_per_byte == metrics["intervals"]["nll_a_byte"]
    assert row.held_out.ess_mean == metrics["ess_mean"]
    statistics = read(paths.selected(1) / "manifest.json")["statistics"]
    assert row.selection is not None
    assert row.selection.train_bound_nats_per_chunk == statistics["train_bound_nats_a_chunk"]
    assert row.selection.ess_mean == statistics["ess_mean"]
    counts = [read(path)["counts"] for path in paths.samples(1).glob("shard-*/manifest.json")]
    assert row.tokens["sampled"] == sum(one["sampled_tokens"] for one in counts) > 0
    trained = read(paths.model(1) / "manifest.json")
    assert row.losses == trained["statistics"]["losses"] and row.losses
    assert row.tokens["trained"] == trained["counts"]["trained_tokens"]
    assert row.seconds_by_stage["train"] == trained["statistics"]["rank_seconds"]
    assert row.seconds == sum(row.seconds_by_stage.values())
    assert report.iterations[0].selection is None
    assert report.corpora["corpus"] == read(paths.documents("corpus") / "manifest.json")["counts"]


def test_an_iteration_that_is_not_evaluated_is_left_out(paths: RunPaths) -> None:
    (paths.evaluation(1) / "manifest.json").unlink()
    report = collected(paths)
    assert not report.complete and [row.number for row in report.iterations] == [0]


def test_statistics_that_a_manifest_lacks_are_unknown(paths: RunPaths) -> None:
    for folder in (paths.selected(1), paths.model(1)):
        record = read(folder / "manifest.json")
        (folder / "manifest.json").write_text(json.dumps({**record, "statistics": {}, "counts": {}}))
    row = collected(paths).iterations[1]
    assert row.selection == SelectionStatistics()
    assert (row.skipped_steps, row.losses) == (None, [])
    output.write(last_plan(paths), paths)
    assert "–" in paths.report_html.read_text()


def test_the_files_and_the_table_say_what_was_collected_once(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, expected = last_plan(paths), collected(paths)
    found = []

    def once(*arguments: Any) -> Report:
        found.append(collect.collect(*arguments))
        return found[-1]

    monkeypatch.setattr(output, "collect", once)
    output.print_table(output.write(plan, paths), paths.report_html)
    assert found == [expected]
    assert read(paths.report_json) == json.loads(json.dumps(expected.to_json()))
    nll = expected.iterations[1].held_out.nll
    printed = capsys.readouterr().out
    assert nll is not None and f"{-nll:.3f}" in printed and f"report: {paths.report_html}" in printed
    assert f"<td>{-nll:.3f} [" in paths.report_html.read_text()


def test_rows_keep_the_keys_of_report_json(paths: RunPaths) -> None:
    first, second = collected(paths).to_json()["iterations"]
    assert first["selection"] == {} and first["ess_mean"] is None and first["change"] is None
    keys = (
        "iteration accuracy nll nll_per_byte bound bound_per_byte bound_by_k intervals examples chunks bytes"
    )
    assert set(keys.split()) <= set(second)
    keys = "heldout_ess_mean ess_mean selection seconds seconds_by_stage losses skipped_steps cut_prefixes"
    assert set(keys.split()) <= set(second)
    assert set(second["tokens"]) == {"raw", "computed", "trained", "prompt", "sampled", "scored"}


def test_what_an_older_release_did_not_count_is_unknown(paths: RunPaths) -> None:
    """Its table of measures has other columns, so that nothing can be paired."""
    first, second = collected(paths).iterations
    assert (first.change, second.change) == (None, None)
    assert (second.compute.training_flops, second.compute.e_step_flops) == (None, None)
    assert second.selection is not None and second.selection.cut_share is not None
    statistics = read(paths.selected(1) / "manifest.json")["statistics"]
    assert second.selection.cut_share == statistics["unfinished_share"]
    example = second.selection.examples[0]
    assert example.log_proposal == example.log_q


def test_records_are_read_under_former_names_and_without_what_is_missing_or_unknown() -> None:
    old = {"chunks": 3, "outside_support": 1, "selection_change": 0.1, "log_weight_deviation": 0.2}
    precision = {**old, "log_q_deviation_a_token": 0.3, "thoughts": 9}
    assert Precision.of(precision) == Precision(3, 1, 0.1, 0.2, 0.3)
    assert Precision.of(old) is None and Precision.of(None) is None
    statistics = SelectionStatistics.of(
        {
            "pareto_k": {"chunks": 3, "median": 0.5, "share_above_0.7": 0.25},
            "selected_unfinished": 0,
            "precision": precision,
            "ess_histogram": {"counts": [1]},
            "of_no_release": 1,
        }
    )
    assert statistics == SelectionStatistics(selected_cut=0, precision=Precision(3, 1, 0.1, 0.2, 0.3))
    held_out = HeldOut.of({"bound_a_byte": -0.5, "nll_marked_a_byte": 0.7, "iteration": 1})
    assert held_out == HeldOut(bound_per_byte=-0.5, nll_marked_per_byte=0.7)
