"""Whether a control took as much as the run it is compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lt_hpc.report.arms import matched
from lt_hpc.report.rows import Compute, Report
from tests.report.rows import iteration

EM = ([100, 400, 400], [1e6, 4e6, 4e6], [0.0, 8e6, 8e6])
"""By iteration: computed tokens, training FLOPs, FLOPs of the E-step."""
RAW = ([100, 400], [1e6, 4e6], [None, None])


def report(costs: tuple[list[int], list[float], list[float | None]], matched: str | None = None) -> Report:
    rows = [
        replace(iteration(number), tokens={"computed": tokens}, compute=Compute(None, None, training, e_step))
        for number, (tokens, training, e_step) in enumerate(zip(*costs, strict=True))
    ]
    return Report("run", "plan", {"matched": matched}, {}, True, rows)


def test_nothing_is_said_of_what_is_not_named() -> None:
    assert list(matched(report(EM), report(RAW))) == []


@pytest.mark.parametrize("named_by_control", [True, False])
def test_what_is_named_is_checked_and_a_factor_given(named_by_control: bool) -> None:
    """Beside the warm start the control took half of the training, and a sixth of all FLOPs."""
    names = (None, "computed_tokens") if named_by_control else ("computed_tokens", None)
    (line,) = matched(report(EM, names[0]), report(RAW, names[1]))
    assert "matched=computed_tokens: it is NOT: 2 times the train.steps" in line
    (line,) = matched(report(EM), report(RAW, "flops"))
    assert "matched=flops: it is NOT: 6 times" in line


def test_a_control_that_took_as_much_is_matched() -> None:
    twice = ([100, 810], [1e6, 8.1e6], [None, None])
    (line,) = matched(report(EM), report(twice, "training_flops"))
    assert line == "matched=training_flops: so it is, to 1.1%"


def test_both_names_are_checked() -> None:
    lines = list(matched(report(EM, "flops"), report(RAW, "training_flops")))
    assert [line.split(":")[0] for line in lines] == ["matched=training_flops", "matched=flops"]


def test_what_was_not_counted_cannot_be_told() -> None:
    older = report(EM)
    rows = [replace(row, compute=Compute()) for row in older.iterations]
    (line,) = matched(replace(older, iterations=rows), report(RAW, "training_flops"))
    assert "cannot be told" in line
