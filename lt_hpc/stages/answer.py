"""answer: what a model says to the items of benchmarks, block by block.

Every request of a task is built by the harness, in its order; the items of this task's blocks are answered.
A block is made of whole items, so a thought that several requests about a document share is drawn once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from lt_hpc.benchmarks import harness
from lt_hpc.benchmarks.protocol import Item
from lt_hpc.data import base_model
from lt_hpc.engines.load import load
from lt_hpc.stages.answering import Answerer, Said
from lt_hpc.stages.shards import missing_blocks
from lt_hpc.stages.task import Task
from lt_hpc.store import tables


def run(task: Task) -> None:
    """Complete the shards of this task."""
    config, answerer = task.plan.config, None
    work = in_order(harness.load(config.benchmark).items(), config.benchmark.trials)
    for block in missing_blocks(task, len(work), config.benchmark.block_items):
        answerer = answerer or _answerer(task)
        block.parts.attention = answerer.engine.attention
        said = answerer.answer([work[number] for number in block.chunks])
        tables.write(block.path, tables.ANSWERS, _columns(said, answerer))
        block.commit(_counts(said, len(block.chunks)))


def in_order(items: list[Item], trials: int) -> list[tuple[Item, int]]:
    """Items in their trials: all trials of a task before the next task."""
    names = list(dict.fromkeys(item.task for item in items))
    return [(item, n) for name in names for n in range(trials) for item in items if item.task == name]


def _answerer(task: Task) -> Answerer:
    config = task.plan.config
    model = task.input("model")
    tokenizer = base_model.load_tokenizer(model, config.model)
    engine = load(config, model, config.benchmark.dtype)
    task.progress.ready()
    return Answerer(config, engine, tokenizer, task.vocabulary, task.stage.settings["markers"])


def _columns(answers: list[Said], answerer: Answerer) -> dict[str, list[Any]]:
    """Of `tables.ANSWERS`."""
    rows = []
    for said in answers:
        prompt, request, thought = said.prompt, said.request, said.prompt.thought
        rows.append(
            {
                "task": request.task,
                "document": request.document,
                "request": request.index,
                "repeat": request.repeat,
                "trial": said.trial,
                "hash": request.hash,
                "prompt_tokens": len(prompt.ids) - (len(thought.ids) if thought else 0),
                "lost_tokens": prompt.lost,
                "thought": answerer.text(thought) if thought else None,
                "thought_tokens": len(thought.ids) if thought else 0,
                "thought_cut": bool(thought and thought.cut),
                "answer": said.text,
                "answer_tokens": said.tokens,
                "answer_cut": said.cut,
                "log_likelihood": said.log_likelihood,
                "greedy": said.greedy,
            }
        )
    return {name: [row[name] for row in rows] for name in tables.ANSWERS.names}


def _counts(answers: list[Said], items: int) -> Counter[str]:
    """Of a block: items, requests, prompts that lost tokens, thoughts and answers cut, tokens."""
    prompts = {id(said.prompt): said.prompt for said in answers}.values()
    generated = [said for said in answers if said.text is not None]
    counts = Counter(items=items, requests=len(answers), prompts=len(prompts))
    counts["cut_prompts"] = sum(prompt.lost > 0 for prompt in prompts)
    counts["thoughts"] = sum(prompt.thought is not None for prompt in prompts)
    counts["cut_thoughts"] = sum(bool(prompt.thought and prompt.thought.cut) for prompt in prompts)
    counts["generated"] = len(generated)
    counts["cut_answers"] = sum(said.cut for said in generated)
    counts["thought_tokens"] = sum(len(prompt.thought.ids) for prompt in prompts if prompt.thought)
    counts["answer_tokens"] = sum(said.tokens for said in generated)
    return counts
