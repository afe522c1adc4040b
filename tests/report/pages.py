"""Runs in which every part of a report has something to show, with long words and wide tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.report.comparison import Run
from lt_hpc.report.rows import Benchmarked, Report
from lt_hpc.report.thoughts import Drift, Passage
from lt_hpc.report.work import Work
from lt_hpc.run.build import build_plan
from lt_hpc.run.plan import plan_to_json
from lt_hpc.store.figures import Answer, Score
from lt_hpc.store.paths import RunPaths
from tests.report.rows import CHANGE, held_out, iteration

WORD = "a-word-of-a-base-that-does-not-end-" * 6
"""Longer than a phone is wide, with nothing but hyphens to break at."""
NOTHING_TO_BREAK = "x" * 200
SOURCES = {"model": "m", "corpus": "c", "warm": "w", "heldout": "h"}


def decode(ids: list[int]) -> str:
    """Token ids as words."""
    return " ".join(["of", "a", "thought"][one % 3] if one else NOTHING_TO_BREAK for one in ids)


def report(name: str = "em", **changed: object) -> Report:
    """Two iterations, drifting thoughts, a preempted stage, a benchmark, and something to do."""
    config = plan_to_json(build_plan(load_config(demo_file(), [f"name={name}"]), 3, SOURCES))["config"]
    answers = [
        Answer(f"How many, {number}? {WORD}", "42", f"<b>{number}</b> {NOTHING_TO_BREAK}", "41")
        for number in range(2)
    ]
    rows = [
        iteration(
            number,
            held_out=held_out(examples=answers),
            selection=None if number == 0 else iteration().selection,
        )
        for number in range(2)
    ]
    names = ("tokens", "copied", "repeated", "ess", "ess_short", "ess_middling", "ess_long")
    figures = {one: 0.1 * place for place, one in enumerate(names)}
    drift = [
        Drift(number, 256, {one: value + number for one, value in figures.items()},
              {one: (value + number - 0.1, value + number + 0.1) for one, value in figures.items()})
        for number in (1, 2, 3)
    ]  # fmt: skip
    work = [
        Work(
            stage,
            "GPU",
            3,
            [(1e9, 1e9 + 3600), (1e9 + 7200, 1e9 + 9000)],
            [1e9 + 3600],
            0,
            12.5,
            300.0,
            0.75,
            3600.0,
            1,
            1,
        )
        for stage in ("prepare", "sample-01", "train-01")
    ]
    score = Score("gsm8k", "exact_match", "flexible-extract", 0.5, [0.4, 0.6], [0.5], None, 100, 5)
    whole = Report(
        name=name,
        plan="0123456789abcdef",
        config=config,
        corpora={"corpus": {"chunks": 9, "tokens": 99}},
        complete=False,
        iterations=rows,
        benchmarks=[Benchmarked(3, [score], {})],
        folder=f"/a/folder/{WORD}",
        since_first=CHANGE,
        provenance={"device": ["NVIDIA H100 80GB HBM3"], "host": [WORD]},
        to_do={"train-04": f"/a/folder/{WORD}/model has no manifest"},
        problems=[f"{WORD}: not a Parquet file"],
        work=work,
        drift=drift,
        passages=[Passage(0, [1, 2, 3] * 40, [1, 2, 0, 3], {1: [1, 2, 3], 2: [0], 3: None})],
    )
    return replace(whole, **changed)  # type: ignore[arg-type]


def runs(*names: str) -> list[Run]:
    """Runs of these names beside each other, none of which lies anywhere."""
    found = []
    for number, name in enumerate(names):
        overrides = [
            f"name={name}",
            f"seed={number}",
            f"local.threads={number + 1}",
            f"model.path={name}/{WORD}",
        ]
        plan = build_plan(load_config(demo_file(), overrides), 3, SOURCES)
        found.append(
            Run(
                name,
                RunPaths(Path("/nowhere") / name),
                plan,
                report(name, drift=[], benchmarks=[]),
                None,
                None,
            )
        )
    return found
