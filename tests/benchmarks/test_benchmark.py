"""Benchmarks of a small model: the same figures as the harness has them, through kills, in any pieces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lm_eval import evaluator
from lm_eval.api.model import LM

from lt_hpc import prefetch
from lt_hpc.benchmarks import harness
from lt_hpc.benchmarks.protocol import Item, Request, Response
from lt_hpc.config.load import load_config, shipped
from lt_hpc.config.schema import BenchmarkConfig, ModelConfig
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError
from lt_hpc.launch import make_plan
from lt_hpc.report.collect import collect
from lt_hpc.run import state
from lt_hpc.stages import answering, benchmark
from lt_hpc.stages.answer import _answerer
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.paths import RunPaths
from tests.benchmarks.benchmark_run import (
    answered,
    assert_same,
    figures,
    launched,
    results,
    stored,
    under_the_harness,
)
from tests.runs.small_run import finish, kill_all, launch, outputs, wait_until

TASKS = ["lt_chain", "lt_chain_choice"]
LIMIT = 12
THOUGHTS = [
    f"benchmark.tasks=[{','.join(TASKS)}]", f"benchmark.limit={LIMIT}", "benchmark.max_thought_tokens=12",
    "benchmark.thought_temperature=1", "benchmark.trials=2", "benchmark.block_items=6",
]  # fmt: skip


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base with the markers, which it has not been trained with."""
    folder = tmp_path_factory.mktemp("marked")
    base_model.build(ModelConfig(), folder)
    return folder


@pytest.fixture(scope="session")
def whole(marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """The answering task of a finished run with thoughts."""
    return answered(tmp_path_factory.mktemp("whole") / "run", marked, *THOUGHTS)("answer-00")


class Direct(LM):  # type: ignore[misc]
    """Answers as it is asked, item by item, in one trial."""

    def __init__(self, task: Task, trial: int) -> None:
        super().__init__()
        self.answerer, self.trial = _answerer(task), trial

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        return [
            self._item([Request(one.task_name, one.doc_id, 0, 0, one.args[0], None, ("\n",), 4)])[0].text
            for one in requests
        ]

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        items: dict[int, list[Request]] = {}
        for one in requests:
            items.setdefault(one.doc_id, []).append(
                Request(one.task_name, one.doc_id, one.idx, 0, one.args[0], one.args[1])
            )
        return [(said.log_likelihood, False) for item in items.values() for said in self._item(item)]

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
        raise NotImplementedError

    def _item(self, requests: list[Request]) -> list[Response]:
        item = Item(requests[0].task, requests[0].document, tuple(requests))
        return [said.response for said in self.answerer.answer([(item, self.trial)])]


def test_stored_answers_score_as_the_harness_scores_them_directly(whole: Task) -> None:
    found = results(whole.paths.root)
    for trial in range(2):
        manager = harness._manager(TASKS)
        direct = evaluator.simple_evaluate(
            Direct(whole, trial), tasks=TASKS, limit=LIMIT, task_manager=manager
        )
        assert direct is not None
        for task, metric in zip(TASKS, ("exact_match", "acc"), strict=True):
            expected = figures(direct["samples"][task], metric)
            assert len(expected) == LIMIT
            assert stored(whole.paths.root, task, trial, metric) == expected
            assert found["harness"][trial]["results"][task] == direct["results"][task]
    choice = next(one for one in found["scores"] if one["task"] == "lt_chain_choice")
    assert choice["value"] == pytest.approx(sum(choice["trials"]) / 2)
    assert choice["interval"][0] < choice["value"] < choice["interval"][1]
    said = tables.read(whole.output / "shard-00000" / "part-00004.parquet", tables.ANSWERS).to_pylist()
    assert {row["task"] for row in said} == {"lt_chain_choice"}
    thoughts = {(row["document"], row["trial"]): row["thought"] for row in said}
    assert all(thoughts[row["document"], row["trial"]] == row["thought"] for row in said), "choices share one"


def test_a_plain_model_scores_as_under_the_harness_s_own_engine(tmp_path: Path) -> None:
    folder, run = base_model.BUILTIN["builtin:demo_base"], tmp_path / "run"
    answered(
        run, folder, f"benchmark.tasks=[{','.join(TASKS)}]", "benchmark.limit=24",
        "benchmark.thoughts=false", "benchmark.few_shot=2",
    )  # fmt: skip
    assert_same(run, under_the_harness(folder, TASKS, 24, 128, few_shot=2), tolerance=1e-4)


def test_killed_in_two_pieces_it_ends_with_the_bytes_of_one_piece(
    whole: Task, marked: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pieces = ("model.context_length=128", *THOUGHTS, "benchmark.num_shards=2", "local.processes=1")
    process = launched(run, marked, *pieces)
    wait_until(lambda: len(list(run.glob("iter-00/answers/*/part-*"))) >= 2, process)
    kill_all(process, run)
    shard = run / "iter-00" / "answers" / "shard-00000"
    record = manifest.read(shard)
    assert record is not None and not (run / "iter-00" / "benchmark").exists()
    before = {entry.name: (shard / entry.name).stat().st_mtime_ns for entry in record.files}
    assert before
    output, _ = launched(run, marked, *pieces).communicate()
    assert "lt_chain_choice" in output and "over items" in output and "report.html" in output
    assert {name: (shard / name).stat().st_mtime_ns for name in before} == before, "made once"
    files = sorted(path.name for path in run.glob("iter-00/answers/*/part-*"))
    assert files == sorted(path.name for path in whole.output.glob("*/part-*"))
    for path in run.glob("iter-00/answers/*/part-*"):
        assert path.read_bytes() == (whole.output / "shard-00000" / path.name).read_bytes()
    for name in ("results.json", "items.parquet"):
        theirs = whole.paths.benchmark(0) / name
        assert (run / "iter-00" / "benchmark" / name).read_bytes() == theirs.read_bytes()
    report = collect(state.last_plan(RunPaths(run)), RunPaths(run))
    (of_run,) = report.benchmarks
    assert [score.task for score in of_run.scores] == TASKS and report.complete
    assert of_run.counts["items"] == 2 * 2 * LIMIT
    page = (run / "report.html").read_text()
    assert "lt_chain_choice" in page and "nor whether a model has seen the items" in page


def test_answers_to_other_questions_are_not_scored(whole: Task) -> None:
    of_run = benchmark._Stored.read(replace(whole, stage=whole.plan.stage("benchmark-00")))
    asked = Request("lt_chain", 0, 0, 0, "another question")
    with pytest.raises(ConfigError, match=r"benchmark\.tasks: the data of 'lt_chain' are not those"):
        of_run.answers([asked], 0)


def test_an_answer_ends_at_a_stop_text_wherever_windows_end(
    whole: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = _answerer(whole)
    questions = ["5 +3 x7", "2 -4 x3 +9", "11 x5 -2"]
    free = [Item("t", n, (Request("t", n, 0, 0, text, max_tokens=10),)) for n, text in enumerate(questions)]
    answerer.markers = answerer.thinks = False
    answerer.vocabulary = replace(answerer.vocabulary, eos=None)  # it does not end by itself
    in_one = [said.text for said in answerer.answer([(item, 0) for item in free])]
    monkeypatch.setattr(answering, "WINDOW", 3)
    assert [said.text for said in answerer.answer([(item, 0) for item in free])] == in_one
    for item, text in zip(free, in_one, strict=True):
        assert text
        stop = text.split()[-1]
        (request,) = item.requests
        (said,) = answerer.answer([(replace(item, requests=(replace(request, until=(stop,)),)), 0)])
        assert said.text == text[: text.index(stop)] and not said.cut


def test_a_prompt_that_is_too_long_loses_its_oldest_tokens_alone(whole: Task) -> None:
    answerer = _answerer(whole)
    words = [f"+{2 + n % 8}" for n in range(300)]
    request = Request("t", 0, 0, 0, " ".join(words), max_tokens=4)
    (said,) = answerer.answer([(Item("t", 0, (request,)), 0)])
    layout, thought = whole.vocabulary.layout, said.prompt.thought
    assert thought is not None
    # 128 tokens hold the prompt, two markers, a thought of up to 11, its end and an answer of 4.
    room = 128 - 2 - 11 - 1 - 4
    assert said.prompt.lost == len(words) - room
    kept = answerer.tokenizer.convert_tokens_to_ids(words[-room:])
    assert said.prompt.ids == [*layout.joint_prompt(kept), *thought.ids]
    request = replace(request, max_tokens=200)
    with pytest.raises(ConfigError, match=r"'t' may answer with 200 tokens.*benchmark\.max_answer_tokens"):
        answerer.answer([(Item("t", 0, (request,)), 0)])


def test_whether_greedy_decoding_says_the_same_is_told_where_a_task_asks(whole: Task) -> None:
    answerer = _answerer(whole)
    answerer.markers = answerer.thinks = False
    answerer.vocabulary = replace(answerer.vocabulary, eos=None)
    asked = Request("t", 0, 0, 0, "5 +3 x7", max_tokens=3)
    (said,) = answerer.answer([(Item("t", 0, (asked,)), 0)])
    assert said.text and said.cut
    other = "+2" if not said.text.startswith("+2") else "+3"
    scored = tuple(
        replace(asked, index=n, continuation=text, wants_greedy=True)
        for n, text in enumerate([f" {said.text}", f" {other}"])
    )
    assert [one.greedy for one in answerer.answer([(Item("t", 0, scored), 0)])] == [True, False]


def test_a_finished_run_is_benchmarked_without_doing_anything_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = outputs(run)
    more = ["benchmark.tasks=[lt_chain]", "benchmark.limit=4", "benchmark.max_thought_tokens=8"]
    printed = finish(launch(run, *more))
    assert {name: outputs(run)[name] for name in before} == before
    assert not any(f"{stage}-01: started" in printed for stage in ("sample", "merge", "train", "evaluate"))
    report = json.loads((run / "report.json").read_text())
    assert [one["number"] for one in report["benchmarks"]] == [0, 1] and report["complete"]
    assert all(score["items"] == 4 for one in report["benchmarks"] for score in one["scores"])


def refused(*overrides: str, model: str = "builtin:demo_base") -> str:
    with pytest.raises(ConfigError) as error:
        settings = ["objective=none", f"model.path={model}", "model.context_length=128", *overrides]
        make_plan(load_config(shipped(Path("benchmark.yaml")), settings), 0, RunPaths(Path("nowhere")))
    assert "\n" not in str(error.value)
    return str(error.value)


def cases() -> Iterator[tuple[list[str], list[str]]]:
    direct = "benchmark.thoughts=false"
    yield ["benchmark.tasks=[]"], ["benchmark.tasks", "heldout.source", "needs one of them"]
    yield ["benchmark.tasks=[lt_chain]"], ["benchmark.thoughts=true", "<SOL>", "benchmark.thoughts=false"]
    yield ["benchmark.tasks=[lt_chian]", direct], ["benchmark.tasks", "'lt_chian'", "lt_chain", "lt_gsm"]
    yield ["benchmark.tasks=[wikitext]", direct], ["'wikitext'", "scores whole documents"]
    yield ["benchmark.tasks=[humaneval]", direct], ["'humaneval'", "code that a model wrote"]
    yield ["benchmark.tasks=[lt_chain,lt_chain]", direct], ["'lt_chain'", "twice"]
    yield (
        ["benchmark.tasks=[lt_chain]", direct, "benchmark.trials=2", "benchmark.temperature=0"],
        ["benchmark.trials=2", "benchmark.temperature"],
    )


@pytest.mark.parametrize(("overrides", "words"), list(cases()), ids=lambda value: value[0])
def test_what_can_not_be_is_refused_in_one_line(overrides: list[str], words: list[str]) -> None:
    said = refused(*overrides)
    assert all(word in said for word in words), said


def test_without_the_harness_launch_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    assert "tools/setup.sh bench" in refused("benchmark.tasks=[lt_chain]", "benchmark.thoughts=false")


def test_tasks_of_the_hub_are_known_and_their_lack_of_data_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = ["gsm8k", "minerva_math", "mmlu_stem"]
    sets = {name for name, _ in harness.data_sets(names)}
    assert {"openai/gsm8k", "EleutherAI/hendrycks_math", "cais/mmlu"} <= sets
    with pytest.raises(ConfigError, match=r"'gsm8k'.*openai/gsm8k.*lt-hpc prefetch") as error:
        harness.load(BenchmarkConfig(tasks=["gsm8k"]))
    assert "\n" not in str(error.value)


def test_prefetch_brings_what_is_made_here_and_names_what_is_not_to_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert prefetch.main(["benchmark.tasks=[lt_chain]"]) == 0
    assert "1 tasks; data: made here" in capsys.readouterr().out
    assert prefetch.main(["model.path=nobody/nothing", "model.context_length=128"]) == 2
    said = capsys.readouterr().err
    assert "model.path='nobody/nothing': can't be fetched" in said and len(said.splitlines()) == 1
