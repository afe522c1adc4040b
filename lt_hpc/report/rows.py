"""What a report holds, as records that the page, the table, the plots and the warnings read. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lt_hpc.report.changes import Change
from lt_hpc.report.thoughts import Drift, Passage
from lt_hpc.report.work import Work
from lt_hpc.run.events import Excluded
from lt_hpc.store.figures import HeldOut, Score, SelectionStatistics, to_json


@dataclass(frozen=True)
class Compute:
    """What one iteration took. None where an older release did not count it.

    `passes` over the chunks with thoughts, `text_passes` over whole documents. Floating-point operations:
    `training_flops`, and `e_step_flops`, without attention.
    """

    passes: float | None = None
    text_passes: float | None = None
    training_flops: float | None = None
    e_step_flops: float | None = None

    @property
    def flops(self) -> float | None:
        """Of both."""
        if self.training_flops is None:
            return None
        return self.training_flops + (self.e_step_flops or 0.0)


@dataclass(frozen=True)
class Iteration:
    """One iteration whose evaluation is done: measures of its model, and the E-step and training behind it.

    `change`: against the iteration before, None where there is none or an older release measured one of them.
    `selection`: None where there was no E-step (iteration 0, other objectives). `cut_prefixes`: chunks
    whose prefix was cut to fit. `skipped_steps`: training steps left out, their gradient not finite.
    `losses`: by logged step, nats per token. `seconds_by_stage`: summed over the tasks of a stage (shards,
    ranks), for training those of its steps. `tokens`: `raw`, of the documents that were trained on, each
    counted once; `computed`, through the model in training, of which `trained` took a loss; in the E-step
    `prompt`, `sampled`, `scored`.
    """

    number: int
    held_out: HeldOut
    change: Change | None
    selection: SelectionStatistics | None
    tokens: dict[str, int]
    compute: Compute
    cut_prefixes: int
    skipped_steps: int | None
    losses: list[float]
    seconds_by_stage: dict[str, float]

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(self.seconds_by_stage.values())

    def to_json(self) -> dict[str, Any]:
        """The row in report.json: the held-out measures beside the rest."""
        held_out = to_json(self.held_out)
        for name in ("ess_mean", "cut_share"):
            held_out[f"heldout_{name}"] = held_out.pop(name)
        selection = to_json(self.selection) if self.selection else {}
        return {
            **held_out,
            "iteration": self.number,
            "change": to_json(self.change) if self.change else None,
            "ess_mean": selection.get("ess_mean"),
            "selection": selection,
            "tokens": self.tokens,
            "compute": to_json(self.compute),
            "cut_prefixes": self.cut_prefixes,
            "skipped_steps": self.skipped_steps,
            "losses": self.losses,
            "seconds_by_stage": self.seconds_by_stage,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Benchmarked:
    """What the model of one iteration scored on benchmarks. `counts`: of its answers (prompts, thoughts,
    tokens, and what was cut of them)."""

    number: int
    scores: list[Score]
    counts: dict[str, int]


@dataclass(frozen=True)
class Report:
    """What a run found so far. `plan`: its fingerprint; `config`: the settings as JSON; `corpora`: folder ->
    counts (chunks, tokens, what was dropped); `teacher`: of what one was asked; `complete`: nothing is to do.
    `benchmarks`: of the iterations whose benchmarks are done. `since_first`: how far the last
    model is from the first one, where there are others between. `provenance`: fact -> values of it among the
    manifests. `to_do`: stage -> why it is not done; `problems`: what could not be read. `work`: by stage;
    `excluded`: nodes that jobs leave out; `drift` and `passages`: of selected thoughts.
    """

    name: str
    plan: str
    config: dict[str, Any]
    corpora: dict[str, dict[str, int]]
    complete: bool
    iterations: list[Iteration]
    teacher: dict[str, int] = field(default_factory=dict)
    benchmarks: list[Benchmarked] = field(default_factory=list)
    folder: str = ""
    since_first: Change | None = None
    provenance: dict[str, list[str]] = field(default_factory=dict)
    to_do: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)

    @property
    def selections(self) -> dict[int, SelectionStatistics]:
        """Iteration -> statistics of its weights, where there was an E-step."""
        return {row.number: row.selection for row in self.iterations if row.selection}

    def to_json(self) -> dict[str, Any]:
        """report.json."""
        return {
            "format": 2,
            "name": self.name,
            "plan": self.plan,
            "config": self.config,
            "corpora": self.corpora,
            "teacher": self.teacher,
            "complete": self.complete,
            "iterations": [row.to_json() for row in self.iterations],
            "benchmarks": [to_json(one) for one in self.benchmarks],
            "folder": self.folder,
            "since_first": to_json(self.since_first) if self.since_first else None,
            "provenance": self.provenance,
            "to_do": self.to_do,
            "problems": self.problems,
            "work": [to_json(one) for one in self.work],
            "excluded": [to_json(one) for one in self.excluded],
            "drift": [to_json(one) for one in self.drift],
            "passages": [to_json(one) for one in self.passages],
        }
