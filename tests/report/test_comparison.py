"""Several runs on one page: what is paired, what differs, and what is said where something can't be."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_hpc.report import __main__ as command
from lt_hpc.report import comparison
from lt_hpc.report.columns import Shown
from lt_hpc.report.comparison import Run
from lt_hpc.report.page import render
from lt_hpc.store.measured import Measured
from tests.report.pages import decode, runs
from tests.report.test_page import cells

RUN = Path(__file__).parents[1] / "run" / "run_of_f8de9d8.tar.xz"


def measured(nll: float) -> Measured:
    """40 documents of one chunk of 10 tokens, by a model without markers."""
    nothing, count = np.zeros((0, 0)), np.arange(40)
    total = np.full(40, 10 * nll) + count % 3
    return Measured(
        chunk=count, document=count, tokens=np.full(40, 10), bytes=np.full(40, 40), nll=total,
        nll_marked=None, log_weights=None, cut=None, estimated=count, many_log_weights=-total[:, None],
        correct={name: np.zeros(0, bool) for name in ("thought", "direct", "majority")},
        correct_sampled=nothing, likelihood_prior=np.zeros(0),
    )  # fmt: skip


def paired(*nlls: float) -> list[Run]:
    names = [f"run-{number}" for number in range(len(nlls))]
    return [
        replace(run, measured=measured(nll), held_out="h")
        for run, nll in zip(runs(*names), nlls, strict=True)
    ]


def test_every_run_is_compared_with_the_first_on_the_same_documents() -> None:
    better, worse = comparison.differences(paired(2.0, 1.5, 2.25))
    assert better.change is not None and worse.change is not None
    assert (better.change.verdict, worse.change.verdict) == ("better", "worse")
    assert better.change.values.log_likelihood == pytest.approx(0.5)
    text = "\n".join(better.lines())
    assert "iteration 1 of run-1 against iteration 1 of run-0:\n  better: log p(x | c) 0.500" in text
    assert "training FLOPs: 6e+12 and 6e+12, 1.00 times as much" in text


def test_other_held_out_documents_are_no_pairs_and_stand_beside_each_other_all_the_same() -> None:
    first, other = paired(2.0, 1.5)
    (found,) = comparison.differences([first, replace(other, held_out="another")])
    assert found.change is None and "cannot be paired: their held-out documents are not" in "\n".join(
        found.lines()
    )
    (found,) = comparison.differences([first, replace(other, measured=None)])
    assert "run-1 has no evaluated model" in found.why_not


def test_the_measures_of_the_last_models_are_columns_with_their_intervals() -> None:
    lines = {line[0]: line[1:] for line in comparison.measures(paired(2.0, 1.5))}
    assert lines["iteration"] == ["1", "1"]
    assert lines["accuracy"] == [Shown(0.5, [0.4, 0.6])] * 2
    assert "bound, per byte" not in lines, "no run has it"


def test_settings_that_differ_are_named_with_their_values_apart_from_where_a_run_ran() -> None:
    deciding, others = comparison.settings(runs("em", "raw"))
    assert ["seed", "0", "1"] in deciding and ["name", "em", "raw"] in others
    assert ["local.threads", "1", "2"] in others and ["local.threads", "1", "2"] not in deciding
    assert all(len(set(values)) > 1 for _, *values in deciding)


def test_the_page_has_all_of_it() -> None:
    beside = paired(2.0, 1.5)
    plain = [(one.label, replace(one.report, iterations=[], work=[], drift=[]), decode) for one in beside]
    lines = cells(render(plain, beside))
    (row,) = [line for line in lines if line[:2] == ["run-1", "better"]]
    assert row[2].startswith("0.500 [0.500")
    assert ["measure", "run-0", "run-1"] in lines and ["seed", "0", "1"] in lines
    assert ["folder", "/nowhere/run-0", "/nowhere/run-1"] in lines
    assert ["device", *["NVIDIA H100 80GB HBM3"] * 2] in lines


def test_runs_of_one_name_are_told_by_their_folders_and_nothing_is_written_but_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of the first release, one of which is not finished: its evaluations can't be paired."""
    for name in ("one", "two"):
        with tarfile.open(RUN) as archive:
            archive.extractall(tmp_path / name, filter="data")
    folders = [tmp_path / name / "run" for name in ("one", "two")]
    (folders[1] / "iter-01" / "eval" / "manifest.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    page = tmp_path / "pages" / "both.html"
    assert command.main([*map(str, folders), "--output", str(page)]) == 0
    assert sorted(tmp_path.rglob("*")) == sorted([*before, page.parent, page])
    printed, text = capsys.readouterr().out, page.read_text()
    assert f"{folders[1]}: not finished: evaluate-01 to do" in printed
    assert "cannot be paired" in printed and f"report: {page}" in printed
    assert text.count("<details><summary><h2>") == 2 and f"{folders[1]}: not finished" in text
    assert "has a manifest that can not be read" in text
    assert command.main([str(folders[0]), str(tmp_path)]) == 2
    assert "no run here" in capsys.readouterr().err
