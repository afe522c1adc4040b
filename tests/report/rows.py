"""Rows of a report, made in a test."""

from __future__ import annotations

from typing import Any

from lt_hpc.report.rows import Iteration
from lt_hpc.store.figures import HeldOut, SelectionStatistics


def row(selection: dict[str, Any], undefined: int = 0, skipped: int = 0, iteration: int = 1) -> Iteration:
    """An iteration with the statistics of a selection (none: {}), evaluated on 100 chunks."""
    found = SelectionStatistics.of(selection) if selection else None
    heldout = HeldOut(chunks=100, bound_undefined_chunks=undefined)
    return Iteration(iteration, heldout, found, {}, 0, skipped, [], {})
