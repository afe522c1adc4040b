"""What runs took, and whether one took as much as another. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lt_hpc.config.schema import Matching
from lt_hpc.report.rows import Iteration, Report

COSTS: dict[Matching, str] = {
    "raw_tokens": "raw tokens, each iteration's counted once",
    "computed_tokens": "computed tokens in training",
    "training_flops": "training FLOPs",
    "flops": "FLOPs with the E-steps",
}
TOLERANCE = 0.05
"""By which costs that are called matched may differ, as a share."""


def costs(report: Report, control: Report) -> Iterator[str]:
    """Lines: what each of two runs took, and how they are matched."""
    for name, title in COSTS.items():
        own, of_other = cost(report, name), cost(control, name)
        times = f", {own / of_other:.2f} times as much" if own is not None and of_other else ""
        yield f"{title}: {amount(own)} and {amount(of_other)}{times}"
    yield from matched_either(report, control)


def matched_either(one: Report, other: Report) -> Iterator[str]:
    """`matched`, with the run as the control that names what is matched; where both do, the second."""
    if one.config.get("matched") and not other.config.get("matched"):
        yield from matched(other, one)
    else:
        yield from matched(one, other)


def matched(report: Report, control: Report) -> Iterator[str]:
    """Lines: whether two runs took as much of what the settings of one of them name."""
    named: set[Matching | None] = {of.config.get("matched") for of in (report, control)}
    for name in COSTS:
        if name not in named:
            continue
        own, of_other = cost(report, name), cost(control, name)
        if own is None or not of_other:
            yield f"matched={name}: cannot be told, it was not counted"
        elif abs(own / of_other - 1) <= TOLERANCE:
            yield f"matched={name}: so it is, to {abs(own / of_other - 1):.1%}"
        else:
            warm = control.iterations[0] if len(control.iterations) > 1 else None
            fixed = (_of_row(warm, name) or 0.0) if warm else 0.0
            factor = (own - fixed) / (of_other - fixed) if of_other > fixed else 0.0
            advice = f": {factor:.3g} times the train.steps or train.epochs of {control.name} would do"
            yield f"matched={name}: it is NOT{advice if factor > 0 else ''}"


def _of_row(row: Iteration, name: Matching) -> float | None:
    """None where it was not counted."""
    counted: float | None = row.tokens.get(name.removesuffix("_tokens"), getattr(row.compute, name, None))
    return counted


def cost(report: Report, name: Matching) -> float | None:
    """The sum over all iterations, the warm start included."""
    found = [_of_row(row, name) for row in report.iterations]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def amount(value: float | None) -> str:
    """In a table or a line."""
    return "unknown" if value is None else f"{value:.3g}"
