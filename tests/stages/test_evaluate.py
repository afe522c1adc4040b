"""What evaluation says of a model, against plain forwards of transformers on the same texts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lt_hpc.data.corpus import read_corpus
from lt_hpc.errors import IncompleteError, Interrupted
from lt_hpc.latent import weights
from lt_hpc.run import state
from lt_hpc.stages import aggregate, evaluate, measure
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from tests.runs.tiny_run import TEXTS, THOUGHT, halves, prepare_untrained, tasks

ANSWER = 4
GIVEN = [
    "chunking.mode=given",
    f"evaluate.max_answer_tokens={ANSWER}",
    *(f"{name}.question_column=question" for name in ("corpus", "warm", "heldout")),
    *(f"{name}.answer_column=answer" for name in ("corpus", "warm", "heldout")),
]


def prepared(folder: Path, *more: str) -> Callable[..., Task]:
    task = tasks(folder, "evaluate.num_samples=3", *more)
    prepare_untrained(task)
    return task


def results(task: Task) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """metrics.json and the rows of every block."""
    folder = task.paths.evaluation(0)
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return json.loads((folder / "metrics.json").read_text()), rows


class Plain:
    """The model by full forwards."""

    def __init__(self, task: Task) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(task.paths.model(0)).eval()

    @torch.inference_mode()
    def nll(self, prompt: list[int], ids: list[int]) -> float:
        table = self.model(torch.tensor([[*prompt, *ids]])).logits[0, :-1].double().log_softmax(-1)
        return -float(table[range(len(prompt) - 1, len(table)), ids].sum())

    @torch.inference_mode()
    def greedy(self, prompt: list[int], stop: int | None, count: int) -> list[int]:
        ids: list[int] = []
        while len(ids) < count and (not ids or ids[-1] != stop):
            ids.append(int(self.model(torch.tensor([[*prompt, *ids]])).logits[0, -1].argmax()))
        return ids


def end_a_thought(task: Task, prompt: list[int]) -> None:
    """Change the model so that the greedy thought after this prompt ends with its third token."""
    folder, eol = task.paths.model(0), task.vocabulary.layout.eol
    plain = Plain(task)
    third = plain.greedy(prompt, None, 3)[-1]
    with torch.no_grad():
        plain.model.lm_head.weight[eol] = 1.01 * plain.model.lm_head.weight[third]
    plain.model.save_pretrained(folder)
    found = manifest.read(folder)
    assert found is not None
    files = tuple(manifest.describe(folder / entry.name) for entry in found.files)
    manifest.write(folder, dataclasses.replace(found, files=files))


@pytest.mark.parametrize("bos", ["never", "always"])
def test_likelihoods_are_those_of_plain_forwards(tmp_path: Path, bos: str) -> None:
    task = prepared(tmp_path, f"model.bos={bos}")("evaluate-00")
    evaluate.run(task)
    metrics, rows = results(task)
    corpus = read_corpus(task.paths.documents("heldout"), task.plan.output("heldout"), task.view)
    plain, layout = Plain(task), task.vocabulary.layout
    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)
    raw, marked, tokens, size = 0.0, 0.0, 0, 0
    first = [task.vocabulary.bos] if bos == "always" else []
    for chunk, row in zip(corpus.chunks(), rows, strict=True):
        assert chunk.prefix[:1] == first or not first
        start = 0 if chunk.prefix else 1  # nothing predicts the first token of a document
        prefix, suffix = [*chunk.prefix, *chunk.suffix[:start]], chunk.suffix[start:]
        nll = plain.nll(prefix, suffix)
        of_marked = plain.nll([*prefix, layout.sol, layout.eol], suffix)
        assert (row["nll"], row["nll_marked"]) == pytest.approx((nll, of_marked), rel=1e-5)
        said = tokenizer.decode(suffix, skip_special_tokens=True)
        assert (row["tokens"], row["bytes"]) == (len(suffix), len(said.encode()))
        raw, marked = raw + nll, marked + of_marked
        tokens, size = tokens + len(suffix), size + row["bytes"]
    whole = sum(len(chunk.suffix) for chunk in corpus.chunks())
    assert metrics["chunks"] == len(rows) > len(TEXTS) == metrics["documents"]
    assert metrics["tokens"] == tokens == whole - (0 if first else len(TEXTS))
    assert metrics["bytes"] == size <= sum(len(text.encode()) for text in TEXTS)
    assert metrics["nll"] == pytest.approx(raw / tokens, rel=1e-5)
    assert metrics["nll_per_byte"] == pytest.approx(raw / size, rel=1e-5)
    assert metrics["nll_marked"] == pytest.approx(marked / tokens, rel=1e-5)
    assert metrics["nll_marked_per_byte"] == pytest.approx(marked / size, rel=1e-5)
    assert metrics["accuracy"] is None and metrics["examples"] == []


def test_log_likelihood_is_estimated_on_the_same_chunks_by_every_model(tmp_path: Path) -> None:
    """From many thoughts, half of them from the prior; on so many of the chunks as are asked for."""
    some = ("evaluate.estimate_chunks=5", "evaluate.estimate_samples=16", "evaluate.num_samples=4")
    task = prepared(tmp_path, *some)
    rows_of, metrics_of = [], []
    shutil.copytree(task("evaluate-00").paths.model(0), task("evaluate-01").paths.model(1))
    for number, key in enumerate(("evaluate-00", "evaluate-01")):
        of = task(key)
        if number:
            found = manifest.read(of.paths.model(1))
            assert found is not None
            wanted = of.plan.output("iter-01/model")
            manifest.write(of.paths.model(1), dataclasses.replace(found, fingerprint=wanted))
        evaluate.run(of)
        folder = of.paths.evaluation(number)
        rows_of.append(
            [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        )
        metrics_of.append(json.loads((folder / "metrics.json").read_text()))
    chosen = [{row["chunk"] for row in rows if row["many_log_weights"]} for rows in rows_of]
    assert len(chosen[0]) == 5 and chosen[0] == chosen[1]
    for rows, metrics in zip(rows_of, metrics_of, strict=True):
        many = {row["chunk"]: row["many_log_weights"] for row in rows if row["many_log_weights"]}
        assert {len(one) for one in many.values()} == {16}
        tokens = sum(row["tokens"] for row in rows if row["many_log_weights"])
        expected = sum(weights.log_mean_exp(np.array(one)) for one in many.values()) / tokens
        assert metrics["log_likelihood"] == pytest.approx(expected)
        assert metrics["estimate_chunks"] == 5 and metrics["bound_gap"] is not None
    assert rows_of[0][0]["log_weights"] != rows_of[1][0]["log_weights"], "each iteration draws anew"


def test_a_model_of_raw_text_is_measured_without_markers(tmp_path: Path) -> None:
    task = prepared(tmp_path, *GIVEN, "objective=raw", "evaluate.estimate_chunks=3")
    of = task("evaluate-01")
    shutil.copytree(of.paths.model(0), of.paths.model(1))
    found = manifest.read(of.paths.model(1))
    assert found is not None
    manifest.write(of.paths.model(1), dataclasses.replace(found, fingerprint=of.plan.output("iter-01/model")))
    evaluate.run(of)
    metrics = json.loads((of.paths.evaluation(1) / "metrics.json").read_text())
    rows = pq.read_table(of.paths.evaluation(1) / "part-00000.parquet").to_pylist()
    assert metrics["bound"] is None and metrics["nll_marked"] is None and metrics["accuracy_sampled"] is None
    assert metrics["accuracy"] == metrics["accuracy_direct"] is not None
    for row in rows:
        assert row["log_weights"] is None and row["thought"] is None
        assert row["many_log_weights"] in (None, [-row["nll"]])
    assert metrics["log_likelihood"] is not None


@pytest.mark.parametrize("thoughts_end", [False, True])
def test_answers_are_those_of_plain_greedy_decoding(tmp_path: Path, thoughts_end: bool) -> None:
    task = prepared(tmp_path, *GIVEN)("evaluate-00")
    corpus = read_corpus(task.paths.documents("heldout"), task.plan.output("heldout"), task.view)
    vocabulary = task.vocabulary
    if thoughts_end:
        end_a_thought(task, vocabulary.layout.joint_prompt(corpus.chunk(0).prefix))
    evaluate.run(task)
    metrics, rows = results(task)
    plain = Plain(task)
    tokenizer = AutoTokenizer.from_pretrained(task.paths.base)

    def answer(prompt: list[int]) -> str:
        ids = plain.greedy(prompt, vocabulary.eos, ANSWER)
        return str(tokenizer.decode([i for i in ids if i != vocabulary.eos]))

    ended = 0
    eol = vocabulary.layout.eol
    for chunk, row in zip(corpus.chunks(), rows, strict=True):
        prompt = vocabulary.layout.joint_prompt(chunk.prefix)
        thought = plain.greedy(prompt, eol, THOUGHT - 1)
        ended += thought[-1] == eol
        thought = thought if thought[-1] == eol else [*thought, eol]  # cut at the limit
        assert row["thought"] == thought
        assert row["answer_thought"] == answer([*prompt, *thought])
        assert row["answer_direct"] == answer(vocabulary.layout.marked_prompt(chunk.prefix))
    assert (ended > 0) == thoughts_end
    assert metrics["accuracy"] == metrics["accuracy_direct"] == 0
    low, high = metrics["intervals"]["accuracy"]
    assert low == 0 and 0.2 < high < 0.5, "none of 8 right does not mean that none ever is"
    example = metrics["examples"][0]
    assert (example["prefix"], example["suffix"]) == halves(TEXTS[0])
    assert example["answer"] == rows[0]["answer_thought"]


def test_right_answers_are_counted(tmp_path: Path) -> None:
    """Every second question's answer is what the model says to it."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    task = prepared(tmp_path / "first", *GIVEN)("evaluate-00")
    evaluate.run(task)
    _, rows = results(task)
    said = [
        {"question": halves(t)[0], "answer": row["answer_direct"]} for t, row in zip(TEXTS, rows, strict=True)
    ]
    for entry in said[1::2]:
        entry["answer"] += " no"
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text("\n".join(map(json.dumps, said)))
    task = prepared(tmp_path / "second", *GIVEN, f"heldout.source={heldout}", "heldout.thought_column=null")(
        "evaluate-00"
    )
    evaluate.run(task)
    metrics, rows = results(task)
    assert [row["correct_direct"] for row in rows] == [True, False] * 4
    assert metrics["accuracy_direct"] == 0.5
    assert metrics["accuracy"] == np.mean([row["correct_thought"] for row in rows])


def test_stopped_it_goes_on_after_its_last_block(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    evaluate.run(prepared(tmp_path / "whole", *GIVEN)("evaluate-00"))
    task = prepared(tmp_path / "stopped", *GIVEN)
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        evaluate.run(task("evaluate-00", lambda: next(asked)))
    folder = task("evaluate-00").paths.evaluation(0)
    first = folder / "part-00000.parquet"
    made = first.stat().st_mtime_ns
    assert manifest.problem(folder, task("evaluate-00").stage.fingerprint) is not None
    evaluate.run(task("evaluate-00"))
    assert first.stat().st_mtime_ns == made
    whole = tmp_path / "whole" / "run" / "iter-00" / "eval"
    names = [path.name for path in sorted(whole.iterdir()) if path.name != manifest.NAME]
    assert len(names) == 3
    assert all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_tasks_that_share_the_chunks_make_the_files_of_one_whatever_happens_to_them(tmp_path: Path) -> None:
    """Stopped after a block, and with a block damaged: only what is missing is measured again."""
    few = ("evaluate.estimate_chunks=2", "evaluate.estimate_samples=4", "evaluate.dtype=bfloat16")
    settings = (*GIVEN, *few, "sample.block_chunks=3")
    evaluate.run(one := prepared(tmp_path, *settings)("evaluate-00"))
    whole = {path.name: path.read_bytes() for path in one.output.iterdir() if path.name != manifest.NAME}
    assert len(whole) == 4 and json.loads(whole["metrics.json"])["precision"] is not None

    task = tasks(tmp_path, "evaluate.num_samples=3", *settings, "evaluate.num_shards=2")
    last = task("aggregate-00")
    assert state.problem(last.paths, last.stage) is None, "what one task has made is not made again"
    shutil.rmtree(last.output)
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        measure.run(task("measure-00", lambda: next(asked)))
    with pytest.raises(IncompleteError, match="shards 1 are not done"):
        aggregate.run(last)
    (first,) = last.folder("measured").glob("*/part-*")
    made = first.stat().st_mtime_ns
    for shard in (1, 0):
        measure.run(dataclasses.replace(task("measure-00"), shards=(shard,)))
    assert first.stat().st_mtime_ns == made
    damaged = last.folder("measured") / "shard-00001" / "part-00002.parquet"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(IncompleteError, match=r"shards 1 are not done; .*checksum"):
        aggregate.run(last)
    measure.run(task("measure-00"))
    assert first.stat().st_mtime_ns == made

    shutil.rmtree(last.paths.model(0))
    last.check_inputs()
    aggregate.run(last)
    assert state.problem(last.paths, last.stage) is None
    found = {path.name: path.read_bytes() for path in last.output.iterdir() if path.name != manifest.NAME}
    assert found == whole
