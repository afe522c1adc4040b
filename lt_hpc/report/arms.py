"""Two runs against each other: their last models on the same held-out documents, and what each took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lt_hpc.config.schema import Matching
from lt_hpc.errors import ConfigError
from lt_hpc.report import columns
from lt_hpc.report.changes import compare
from lt_hpc.report.collect import collect, measured_of
from lt_hpc.report.rows import Iteration, Report
from lt_hpc.run.state import last_plan
from lt_hpc.store import manifest
from lt_hpc.store.measured import Measured
from lt_hpc.store.paths import RunPaths

COSTS: dict[Matching, str] = {
    "raw_tokens": "raw tokens, each iteration's counted once",
    "computed_tokens": "computed tokens in training",
    "training_flops": "training FLOPs",
    "flops": "FLOPs with the E-steps",
}
TOLERANCE = 0.05
"""By which costs that are called matched may differ, as a share."""


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
    for name, title in COSTS.items():
        own, of_other = cost(report, name), cost(control, name)
        times = f", {own / of_other:.2f} times as much" if own is not None and of_other else ""
        yield f"  {title}: {_amount(own)} and {_amount(of_other)}{times}"
    yield from matched(report, control)


def matched(report: Report, control: Report) -> Iterator[str]:
    """Lines: whether two runs took as much of what the settings of one of them name."""
    named: set[Matching | None] = {of.config.get("matched") for of in (report, control)}
    for name in COSTS:
        if name not in named:
            continue
        own, of_other = cost(report, name), cost(control, name)
        if own is None or not of_other:
            yield f"  matched={name}: cannot be told, it was not counted"
        elif abs(own / of_other - 1) <= TOLERANCE:
            yield f"  matched={name}: so it is, to {abs(own / of_other - 1):.1%}"
        else:
            warm = control.iterations[0] if len(control.iterations) > 1 else None
            fixed = (_of_row(warm, name) or 0.0) if warm else 0.0
            factor = (own - fixed) / (of_other - fixed) if of_other > fixed else 0.0
            advice = f": {factor:.3g} times the train.steps or train.epochs of {control.name} would do"
            yield f"  matched={name}: it is NOT{advice if factor > 0 else ''}"


def _last(report: Report, paths: RunPaths) -> Measured:
    found = measured_of(paths, report.iterations[-1].number) if report.iterations else None
    if found is None:
        raise ConfigError(f"{paths.root}: has no evaluated model of this release")
    return found


def _of_row(row: Iteration, name: Matching) -> float | None:
    """None where it was not counted."""
    counted: float | None = row.tokens.get(name.removesuffix("_tokens"), getattr(row.compute, name, None))
    return counted


def cost(report: Report, name: Matching) -> float | None:
    """The sum over all iterations, the warm start included."""
    found = [_of_row(row, name) for row in report.iterations]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def _amount(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
