"""The report as values: what report.json, the page and the table are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lt_hpc.store import figures
from lt_hpc.store.figures import HeldOut, SelectionStatistics

FORMAT = 1


@dataclass(frozen=True)
class Iteration:
    """One iteration whose evaluation is done.

    Attributes:
        heldout: of the model that the iteration trained.
        selection: of the E-step before it; None where it had none.
        tokens: sampled, scored and trained ones.
        cut_prefixes: chunks whose prefix was cut to leave room for a thought.
        skipped_steps: training steps without a finite gradient.
        losses: nats per token, one for each line of the training log.
        seconds_by_stage: summed over the tasks of a stage (shards, ranks), of training those of its steps.
    """

    iteration: int
    heldout: HeldOut
    selection: SelectionStatistics | None
    tokens: dict[str, int]
    cut_prefixes: int
    skipped_steps: int
    losses: list[float]
    seconds_by_stage: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.seconds_by_stage.values())

    def to_json(self) -> dict[str, Any]:
        """One flat row of held-out measures, with what came before it beside them."""
        heldout, selection = figures.to_json(self.heldout), self.selection
        return {
            **{name: value for name, value in heldout.items() if name != "ess_mean"},
            "iteration": self.iteration,
            "heldout_ess_mean": self.heldout.ess_mean,
            "ess_mean": selection.ess_mean if selection else None,
            "selected_unfinished": selection.selected_unfinished if selection else 0,
            "selection": figures.to_json(selection) if selection else {},
            "tokens": self.tokens,
            "cut_prefixes": self.cut_prefixes,
            "skipped_steps": self.skipped_steps,
            "losses": self.losses,
            "seconds_by_stage": self.seconds_by_stage,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Report:
    """A run as far as it is done. `config` is the plan's, `corpora` name -> counts of what was read,
    kept and dropped."""

    name: str
    plan: str
    config: dict[str, Any]
    corpora: dict[str, dict[str, int]]
    complete: bool
    iterations: list[Iteration]

    def to_json(self) -> dict[str, Any]:
        """The contents of report.json."""
        return {
            "format": FORMAT,
            "name": self.name,
            "plan": self.plan,
            "config": self.config,
            "corpora": self.corpora,
            "complete": self.complete,
            "iterations": [iteration.to_json() for iteration in self.iterations],
        }
