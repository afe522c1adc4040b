"""Two runs against each other: their last models on the same held-out documents, and what each took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lt_hpc.errors import ConfigError
from lt_hpc.report import columns
from lt_hpc.report.changes import compare
from lt_hpc.report.collect import collect, measured_of
from lt_hpc.report.rows import Report
from lt_hpc.run.state import last_plan
from lt_hpc.store import manifest
from lt_hpc.store.measured import Measured
from lt_hpc.store.paths import RunPaths


def versus(report: Report, paths: RunPaths, other: Path) -> Iterator[str]:
    """Lines: the last model of a run against that of another one, and how their costs are matched.

    Raises:
        ConfigError: when their held-out documents are not the same, or one has no evaluated model.
    """
    others = RunPaths(other)
    control = collect(last_plan(others), others)
    held_out = [manifest.read(one.documents("heldout")) for one in (paths, others)]
    if len({one.fingerprint for one in held_out if one}) != 1 or None in held_out:
        raise ConfigError(f"--against {other}: has other held-out documents than {paths.root}: use the same")
    change = compare(_last(control, others), _last(report, paths))
    last, first = report.iterations[-1].number, control.iterations[-1].number
    yield f"{report.name}, iteration {last}, against {control.name} in {other}, iteration {first}:"
    yield f"  {columns.in_words(change)}"
    yield (
        f"  paired over {change.documents} documents for log p(x | c), 95% intervals; of one training run "
        "each: other seeds move these figures too"
    )
    for name, (own, of_other) in _costs(report, control).items():
        times = f", {own / of_other:.2f} times as much" if own is not None and of_other else ""
        yield f"  {name}: {_amount(own)} and {_amount(of_other)}{times}"


def _last(report: Report, paths: RunPaths) -> Measured:
    found = measured_of(paths, report.iterations[-1].number) if report.iterations else None
    if found is None:
        raise ConfigError(f"{paths.root}: has no evaluated model of this release")
    return found


def _costs(report: Report, control: Report) -> dict[str, tuple[float | None, float | None]]:
    """Sums over all iterations, the warm start included."""

    def total(of: Report, name: str) -> float | None:
        found = [row.tokens.get(name, getattr(row.compute, name, None)) for row in of.iterations]
        known = [one for one in found if one is not None]
        return sum(known) if len(known) == len(found) else None

    names = {
        "raw tokens, each iteration's counted once": "raw",
        "computed tokens in training": "computed",
        "training FLOPs": "training_flops",
        "FLOPs with the E-steps": "flops",
    }
    return {title: (total(report, name), total(control, name)) for title, name in names.items()}


def _amount(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
