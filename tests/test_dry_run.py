"""The plan as a table: what is done, what runs where, what it costs."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lt_hpc import dry_run
from lt_hpc.cluster.local import Local
from lt_hpc.cluster.processes import Processes
from lt_hpc.cluster.scheduler import Scheduler
from lt_hpc.config.load import load_config
from lt_hpc.display import Display
from lt_hpc.launch import make_plan
from lt_hpc.run import state
from lt_hpc.run.estimate import estimate
from lt_hpc.run.plan import Plan
from lt_hpc.store.paths import RunPaths
from tests.cluster.memory_queue import Cluster
from tests.runs.finished import finished

CONFIGS = Path(__file__).parents[1] / "configs"
PACE = ("hardware.sampled_tokens_per_second=5000", "hardware.scored_tokens_per_second=40000")


def table(capsys: pytest.CaptureFixture[str], plan: Plan, paths: RunPaths, local: bool = False) -> list[str]:
    """The lines of the table, its heads first, as a pipe has them."""
    here = Processes(paths, Local(paths, plan.config), Display(paths), lambda *_: False)
    look = state.Look(paths)
    dry_run.show(plan, look, here if local else Cluster(), look.pending(plan))
    return capsys.readouterr().out.split("\n\n")[1].splitlines()


def cells(plan: Plan, paths: RunPaths, local: bool = False) -> dict[str, dict[str, str]]:
    """Stage -> head -> cell."""
    here = Processes(paths, Local(paths, plan.config), Display(paths), lambda *_: False)
    scheduler: Scheduler = here if local else Cluster()
    look = state.Look(paths)
    heads, *lines = dry_run.rows(plan, look, scheduler, look.pending(plan), estimate(plan, paths))
    return {line[0]: dict(zip(heads, line, strict=True)) for line in lines}


def plan_of(name: str, folder: Path, *overrides: str, iterations: int = 3) -> tuple[Plan, RunPaths]:
    paths = RunPaths(folder / "run")
    return make_plan(load_config(CONFIGS / name, list(overrides)), iterations, paths), paths


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("name", ["demo", "tinyllama_finemath", "llama8b_finemath", "smollm2_finemath"])
def test_it_is_plain_and_80_columns_wide_where_it_is_piped(
    name: str, local: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["hardware.price_hour=2.5", *PACE]
    plan, paths = plan_of(f"{name}.yaml", tmp_path, *more, iterations=2)
    lines = table(capsys, plan, paths, local)
    assert [line.split()[0] for line in lines] == ["stage", *(s.key for s in plan.stages), "total"]
    assert all(len(line) <= 80 and line.isprintable() for line in lines), max(lines, key=len)
    assert not paths.root.exists()


def test_each_stage_says_how_many_tasks_it_has_and_what_it_waits_for(tmp_path: Path) -> None:
    plan, paths = plan_of("tinyllama_finemath.yaml", tmp_path, "sample.num_shards=48", iterations=1)
    found = cells(plan, paths)
    assert {key: row["after"] for key, row in found.items() if row["after"]} == {
        "train-00": "prepare", "evaluate-00": "train-00", "sample-01": "train-00", "merge-01": "sample-01",
        "train-01": "merge-01", "evaluate-01": "train-01",
    }  # fmt: skip
    assert found["train-01"]["tasks"] == "8 ranks" and found["sample-01"]["tasks"] == "array 48"
    assert found["merge-01"]["tasks"] == "1"
    plan, paths = plan_of("demo.yaml", tmp_path, "local.train_ranks=3", "local.processes=5", iterations=1)
    found = cells(plan, paths, local=True)
    assert found["train-01"]["tasks"] == "3 ranks" and found["sample-01"]["tasks"] == "5"


def test_an_evaluation_in_shards_costs_what_that_of_one_task_costs(tmp_path: Path) -> None:
    one, many = (
        cells(*plan_of("tinyllama_finemath.yaml", tmp_path, *PACE, f"evaluate.num_shards={n}", iterations=1))
        for n in (1, 24)
    )
    for number in ("00", "01"):
        evaluate, asks = one[f"evaluate-{number}"], many[f"measure-{number}"]
        assert asks["tasks"] == "array 24" and asks["after"] == f"train-{number}"
        assert all(asks[head] == evaluate[head] != "" for head in ("tokens", "FLOPs", "GPU h"))
        assert many[f"aggregate-{number}"] == {
            **dict.fromkeys(evaluate, ""), "stage": f"aggregate-{number}", "state": "to do", "tasks": "1",
            "after": f"measure-{number}",
        }  # fmt: skip
    assert many["total to do"] == one["total to do"]


def test_what_is_to_do_is_added_up_and_what_is_not_known_is_marked(tmp_path: Path) -> None:
    plan, paths = plan_of("tinyllama_finemath.yaml", tmp_path, "hardware.price_hour=2")
    total = cells(plan, paths)["total to do"]
    # 3 x 255 GPU hours, and 16 of the warm start; without a pace, those of the E-steps are not known.
    assert total["GPU h"] == ">780" and total["USD"].startswith(">1,56")
    plan, paths = plan_of("tinyllama_finemath.yaml", tmp_path, "hardware.price_hour=2", *PACE)
    found = cells(plan, paths)
    # 18.4B tokens at 5,000 and 26.1B at 40,000 per second
    assert found["sample-01"]["tokens"] == "44.5B" and found["sample-01"]["GPU h"] == "1,205"
    # 4 bytes for each of 18.4B ids; 2 bytes for each of 1.1B parameters
    assert found["sample-01"]["disk"] == "73.7 GB" and found["train-02"]["disk"] == "2.2 GB"
    hours = sum(float(found[stage.key]["GPU h"].replace(",", "") or 0) for stage in plan.stages)
    assert float(found["total to do"]["GPU h"].replace(",", "")) == pytest.approx(hours, abs=8)
    assert float(found["total to do"]["USD"].replace(",", "")) == pytest.approx(2 * hours, rel=0.01)


def test_the_cost_of_a_teacher_is_that_of_its_prices(tmp_path: Path) -> None:
    prices = ("teacher.price_prompt=0", "teacher.price_answer=1000000")
    teacher = ("teacher.kind=openai", "teacher.model=one", *prices)
    plan, paths = plan_of("demo.yaml", tmp_path, *teacher, "estimate.thought_tokens=2", iterations=0)
    finished(paths.root, plan, counts={"chunks": 10, "tokens": 50})
    (paths.thoughts / "shards.json").unlink()
    (paths.model(0) / "manifest.json").unlink()
    found = cells(plan, paths, local=True)
    assert found["synthesize-00"]["USD"] == "100.00", "2 x 50 tokens at a dollar"


def test_what_is_done_costs_nothing_more_and_takes_the_disk_that_it_takes(tmp_path: Path) -> None:
    plan, paths = plan_of("demo.yaml", tmp_path, iterations=1)
    finished(paths.root, plan, size=2_000_000)
    (paths.model(1) / "result").unlink()
    found = cells(plan, paths, local=True)
    assert {key: row["state"] for key, row in found.items() if row["state"] != "done"} == {
        "train-01": "redo", "total to do": ""
    }  # fmt: skip
    assert found["merge-01"]["disk"] == "2 MB" and not found["merge-01"]["tokens"]
    assert found["prepare"]["disk"] == "8 MB", "base, corpus, warm and heldout"
    assert found["total to do"]["tokens"] == found["train-01"]["tokens"] == "307,200"


def test_on_a_terminal_of_80_columns_no_line_is_longer_and_no_word_is_cut(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.launch", "--dry-run", "--cluster=local", "--iters=1"]
    command += ["--config", str(CONFIGS / "tinyllama_finemath.yaml")]
    reading, writing = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        command, stdout=writing, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment
    ) as one:
        os.close(writing)
        said = b""
        while True:
            try:
                piece = os.read(reading, 4096)
            except OSError:  # the other end is closed
                break
            said += piece
    assert one.returncode == 0
    shown = said.decode().replace("\r\n", "\n").partition("run folder:")[2]
    lines = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert "ZeRO-1 31.7 GB" in " ".join(" ".join(lines).split())


def test_what_old_thoughts_take_is_counted(tmp_path: Path) -> None:
    """1,000 tokens of text, 4 thoughts of 8,000 tokens in all: with one earlier iteration each of two models
    scores what the other has drawn, and the new one the old thoughts with their text."""
    more = ["estimate.corpus_tokens=1000", "estimate.thought_tokens=2", "sample.num_samples=4"]
    plan, paths = plan_of("demo.yaml", tmp_path, *more, "sample.reuse=2")
    new, one, two = 8000 + 12000, 2 * 8000 + 12000, 3 * 2 * 8000 + 2 * 12000
    found = cells(plan, paths)
    tokens = [found[f"sample-0{n}"]["tokens"] for n in (1, 2, 3)]
    assert tokens == [f"{total:,}" for total in (new, new + one, new + two)]
    (line,) = [line for line in dry_run.lines(plan, estimate(plan, paths)) if "sample.reuse" in line]
    assert line == "  sample-03: 72,000 more to score, for sample.reuse=2"
