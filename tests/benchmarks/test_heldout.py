"""A held-out text of any model: the figures are those that a run of its own has, or plain forwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lt_hpc import benchmark, dry_run
from lt_hpc.cluster.place import Place
from lt_hpc.config.load import load_config, shipped
from lt_hpc.data.corpus import read_corpus, row
from lt_hpc.errors import ConfigError
from lt_hpc.launch import make_plan
from lt_hpc.report.collect import collect
from lt_hpc.report.output import write
from lt_hpc.run.estimate import estimate
from lt_hpc.run.progress import Progress
from lt_hpc.stages import evaluate, prepare
from lt_hpc.stages.task import Task
from lt_hpc.store.paths import METRICS, RunPaths
from tests.runs.tiny_run import CONTEXT, TEXTS, THOUGHT, make_model

ROOM = [
    f"model.context_length={CONTEXT}", f"sample.max_thought_tokens={THOUGHT}", "chunking.max_chunk_tokens=16",
    "chunking.mean_sentences=1", "evaluate.estimate_chunks=4",
]  # fmt: skip


def measured(run: Path, model: Path, file: Path, *more: str) -> Task:
    """The task of the evaluation of a model in a run of its own, which is done."""
    config = load_config(file, ["objective=none", f"model.path={model}", *more])
    paths = RunPaths(run)
    plan = make_plan(config, 0, paths)
    tasks = [
        Task(plan, stage, paths, Place(), (), Progress(run / f"{stage.key}.json"), lambda: False)
        for stage in plan.stages
    ]
    prepare.run(tasks[0])
    evaluate.run(tasks[1])
    assert len(tasks) == 2
    return tasks[1]


def metrics(run: Path, iteration: int = 0) -> Any:
    return json.loads((RunPaths(run).evaluation(iteration) / METRICS).read_text())


def texts(folder: Path) -> Path:
    """A file of held-out documents."""
    path = folder / "heldout.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return path


def test_figures_are_those_of_the_run_s_own_evaluation_to_the_last_digit(
    undisturbed: Path, tmp_path: Path
) -> None:
    """Of iteration 0 all of them; of a later one those that draw nothing, since seeds have the iteration."""
    options = ["--config", str(undisturbed / "config.yaml"), "--run-dir", str(tmp_path / "first")]
    assert benchmark.main([str(undisturbed / "iter-00" / "model"), "--cluster=local", *options]) == 0
    assert metrics(tmp_path / "first") == metrics(undisturbed)
    for theirs in RunPaths(undisturbed).evaluation(0).glob("*.parquet"):
        assert (RunPaths(tmp_path / "first").evaluation(0) / theirs.name).read_bytes() == theirs.read_bytes()
    page = (tmp_path / "first" / "report.html").read_text()
    assert "Held-out measures" in page and "<h2>Training</h2>" not in page

    measured(tmp_path / "second", undisturbed / "iter-01" / "model", undisturbed / "config.yaml")
    found, own = metrics(tmp_path / "second"), metrics(undisturbed, 1)
    same = ("nll", "nll_marked", "accuracy", "accuracy_direct", "tokens", "chunks", "documents")
    assert {name: found[name] for name in same} == {name: own[name] for name in same}
    assert found["bound"] == pytest.approx(own["bound"], abs=1.0) and found["bound"] != own["bound"]


def test_a_model_without_markers_is_measured_as_it_is(tmp_path: Path) -> None:
    model, run = make_model(tmp_path / "model"), tmp_path / "run"
    source = [f"heldout.source={texts(tmp_path)}", "heldout.text_column=text"]
    task = measured(run, model, shipped(Path("benchmark.yaml")), *source, *ROOM)
    found = metrics(run)
    corpus = read_corpus(task.folder("heldout"), task.plan.output("heldout"), task.view)
    network = AutoModelForCausalLM.from_pretrained(model).eval()
    nats = tokens = 0.0
    for number in range(len(TEXTS)):
        ids = torch.from_numpy(row(corpus.tokens, number)).long()
        with torch.inference_mode():
            table = network(ids[None]).logits[0, :-1].double().log_softmax(-1)
        nats -= float(table[range(len(ids) - 1), ids[1:]].sum())
        tokens += len(ids) - 1
    assert found["tokens"] == tokens and found["chunks"] > len(TEXTS)
    assert found["nll"] == pytest.approx(nats / tokens, abs=1e-5)
    assert found["bound"] is None and found["log_likelihood"] is not None

    (line,) = collect(task.plan, task.paths).iterations
    assert line.held_out.nll == found["nll"] and line.tokens["computed"] == 0
    assert write(task.plan, task.paths).complete and task.paths.report_html.exists()
    of_evaluation, _ = dry_run.lines(task.plan, estimate(task.plan, task.paths))
    raw = len(corpus.tokens[0])
    assert of_evaluation == f"evaluate-00: 0 tokens to sample and {raw} to score, at most"


def planned(folder: Path, *more: str) -> list[str]:
    """The stages of a run with the demo's base."""
    settings = ["objective=none", "model.path=builtin:demo_base", "model.context_length=128", *more]
    config = load_config(shipped(Path("benchmark.yaml")), settings)
    return [stage.key for stage in make_plan(config, 0, RunPaths(folder / "nowhere")).stages]


def test_a_text_and_tasks_are_each_enough(tmp_path: Path) -> None:
    text = [f"heldout.source={texts(tmp_path)}", "heldout.text_column=text", *ROOM]
    tasks = ["benchmark.tasks=[lt_chain]", "benchmark.thoughts=false"]
    assert planned(tmp_path, *text) == ["prepare", "evaluate-00"]
    assert planned(tmp_path, *tasks) == ["prepare", "answer-00", "benchmark-00"]
    assert planned(tmp_path, *text, *tasks) == ["prepare", "evaluate-00", "answer-00", "benchmark-00"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], ["benchmark.tasks", "heldout.source", "objective=none"]),
        (["heldout.source=nowhere.jsonl", *ROOM], ["heldout.source='nowhere.jsonl'", "no such file"]),
        (["heldout.source=builtin:routes", *ROOM], ["heldout.num_documents"]),
        (["heldout.source=FILE"], ["sample.max_thought_tokens=256", "model.context_length=128"]),
        (["heldout.source=FILE", *ROOM, "heldout.text_column=words"], ["heldout.text_column", "text"]),
        (["heldout.source=FILE", *ROOM, "chunking.mode=given"], ["heldout.question_column", "given"]),
        (["heldout.source=FILE", *ROOM, "heldout.slices=3 of 2"], ["heldout.slices"]),
        (["heldout.source=FILE", *ROOM, "heldout.fresh=true"], ["heldout.fresh"]),
    ],
)
def test_what_can_not_be_measured_is_refused_in_one_line(
    more: list[str], words: list[str], tmp_path: Path
) -> None:
    file = str(texts(tmp_path))
    with pytest.raises(ConfigError) as error:
        planned(tmp_path, *(one.replace("FILE", file) for one in more))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value
