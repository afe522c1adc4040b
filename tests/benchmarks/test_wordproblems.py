"""The base model of the word problems: the tool makes one that reads any text and can be benchmarked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from lt_hpc.data.word_task import corpus_problem
from tests.benchmarks.benchmark_run import items, launched
from tests.runs.small_run import finish

REPOSITORY = Path(__file__).parents[2]


def test_a_base_for_word_problems_is_made_and_benchmarked(tmp_path: Path) -> None:
    model = tmp_path / "base"
    tool = [sys.executable, "tools/make_wordproblems_base.py", "--out", str(model)]
    subprocess.run([*tool, "--steps", "2", "--rows", "2"], cwd=REPOSITORY, check=True)
    assert 1e6 < AutoModelForCausalLM.from_pretrained(model).num_parameters() < 6e6
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = "An emu's 2 legs \u2192 \u00fcber\n1407."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.tokenize("1407") == list("1407"), "digits are tokens"
    assert len(tokenizer(corpus_problem(1, 0).question)["input_ids"]) < 100, "words are not spelled out"

    settings = ["benchmark.tasks=[lt_wordproblems]", "benchmark.limit=3", "benchmark.thoughts=false"]
    run = tmp_path / "run"
    assert "lt_wordproblems" in finish(launched(run, model, *settings))
    asked = [row for row in items(run) if row["task"] == "lt_wordproblems"]
    assert [row["target"] for row in asked] == [corpus_problem(10_000, n).answer for n in range(3)]
    assert all(row["answers"] and row["values"] == [0.0] for row in asked), "it has learned nothing yet"
