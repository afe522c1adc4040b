"""A real instruct model as the teacher, behind vLLM's own server."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from lt_hpc.stages import prepare, synthesize
from lt_hpc.store import manifest
from lt_hpc.store.counts import REFUSED
from tests.runs.tiny_run import tasks
from tests.teachers.endpoint import MODEL, counted, served
from tests.teachers.thoughts import dialogues, taught

CHUNKS = [
    "Nature never deceives us; it is always we who deceive ourselves.",
    "Water boils at a lower temperature on a mountain than at the sea.",
    "The fox jumped over the fence and ran into the forest.",
    "Iron rusts when it is left in damp air.",
    "Two and two make four.",
]
"""At temperature 0 each token of the answers leads by more than .15 nats: no rounding changes them."""
ASKED = "Write the same in other words, in one sentence: "
LIMIT = 20
"""Tokens of an answer: SmolLM2 ends all but the first by itself before."""


def wrong(answer: dict[str, Any], chunk: str) -> str | None:
    """What is wrong with an answer, as one sees who reads it."""
    if not answer["finished"]:
        return "too long"
    return "copy" if answer["text"].split() == chunk.split() else None


def test_thoughts_of_a_real_model_are_taken_or_refused_for_what_they_are(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    (tmp_path / "own.jinja").write_text(f"{ASKED}{{{{ chunk }}}}")
    (tmp_path / "warm.jsonl").write_text("\n".join(json.dumps({"text": chunk}) for chunk in CHUNKS))
    with served(smollm2, tmp_path / "log") as port:
        task = tasks(
            tmp_path, f"model.path={smollm2}", f"warm.source={tmp_path / 'warm.jsonl'}",
            "warm.thought_column=null", "teacher.kind=openai", f"teacher.base_url=http://127.0.0.1:{port}/v1",
            f"teacher.model={MODEL}", f"teacher.prompt={tmp_path / 'own.jinja'}", "teacher.temperature=0",
            f"teacher.max_tokens={LIMIT}", "teacher.attempts=1", "sample.block_chunks=8",
            "chunking.max_chunk_tokens=32",
        )  # fmt: skip
        prepare.run(task("prepare"))
        synthesize.run(task("synthesize-00"))
        of_server = counted(port)
    thoughts = task("synthesize-00").output
    _, stored = dialogues(thoughts)
    assert sorted(line["chunk"] for line in stored) == list(range(len(CHUNKS)))
    problems = {line["chunk"]: wrong(line["answer"], CHUNKS[line["chunk"]]) for line in stored}
    assert {line["chunk"]: line["problem"] for line in stored} == problems
    assert {*problems.values()} == {None, "copy", "too long"}, stored

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    accepted = {line["chunk"]: line["answer"]["text"].strip() for line in stored if not line["problem"]}
    said = {chunk: tokenizer.decode(ids) for chunk, ids in taught(thoughts).items() if ids}
    assert said == accepted
    record = manifest.read(thoughts / "shard-00000")
    assert record is not None
    refused = Counter(problem for problem in problems.values() if problem)
    assert {name.removeprefix(REFUSED): n for name, n in record.counts.items() if REFUSED in name} == refused
    assert record.counts["taught"] == len(accepted)
    assert (record.counts["prompt_tokens"], record.counts["answer_tokens"]) == of_server
    questions = [[{"role": "user", "content": ASKED + chunk}] for chunk in CHUNKS]
    rendered = tokenizer.apply_chat_template(questions, add_generation_prompt=True, return_dict=False)
    assert of_server[0] == sum(map(len, rendered)), "the chat template stands around each question"
