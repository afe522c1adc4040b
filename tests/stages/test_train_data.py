"""What an M-step trains on, step by step."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lt_hpc.stages import train_data, train_steps
from lt_hpc.training.batches import make_batch
from tests.runs.tiny_run import run_e_step


@pytest.mark.parametrize(("epochs", "least", "most"), [(0.001, 1, 1), (1, 1, 4), (2.5, 2, 10)])
def test_a_share_of_an_epoch_is_at_least_one_step(
    tmp_path: Path, epochs: float, least: int, most: int
) -> None:
    task = run_e_step(tmp_path, "train.steps=null", f"train.epochs={epochs}")
    steps = train_steps.plan_steps(task, train_data.data_of(task))
    assert least <= steps.count <= most
    rows = sum(len(steps.of(step)) for step in range(steps.count))
    assert rows == steps.num_rows > 0, "each row is trained on once"
    assert all(steps.size(step).scored > 0 for step in range(steps.count))


def test_a_share_of_raw_text_lies_evenly_between_the_thoughts(tmp_path: Path) -> None:
    share = 0.6
    task = run_e_step(tmp_path, "train.steps=null", "train.epochs=2", f"train.raw_share={share}")
    data = train_data.data_of(task)
    steps = train_steps.plan_steps(task, data)
    assert data.text is not None
    rows = [one for step in range(steps.count) for one in steps.of(step)]
    raw = [epoch.examples is data.text for epoch, _ in rows]
    tokens = [int(epoch.lengths(row).sum()) for epoch, row in rows]
    length = task.plan.config.model.context_length
    for count in range(1, len(raw) + 1):
        mixed = sum(itertools.compress(tokens[:count], raw))
        assert abs(mixed - share * sum(tokens[:count])) <= length
    of_text, thoughts = (
        [int(i) for (epoch, row), of in zip(rows, raw, strict=True) if of is own for i in epoch.rows[row]]
        for own in (True, False)
    )
    documents = len(data.text)
    assert sorted(of_text[:documents]) == list(range(documents)), "each before one of them comes again"
    assert sorted(thoughts) == sorted([*range(len(data.draws[0]))] * 2), "epochs count those of the thoughts"


def test_the_thoughts_of_a_chunk_share_its_prefix_in_a_row_which_takes_a_loss_as_raw_text(
    tmp_path: Path,
) -> None:
    shared = ["train.prefixes=shared", "train.raw_loss_weight=0.5", "train.epochs=2"]
    task = run_e_step(tmp_path, "merge.select=weighted", "train.steps=null", *shared)
    data = train_data.data_of(task)
    steps = train_steps.plan_steps(task, data)
    epoch = steps.epochs[0]
    assert sorted(n for members in epoch.rows for n in members) == list(range(len(data.draws[0])))
    most = max(map(epoch.computed, range(len(epoch.rows))))
    assert most <= task.plan.config.model.context_length
    assert epoch.borrowed.max() > 0, "of four thoughts of a chunk some differ and stand in one row"
    sizes = [steps.size(step) for step in range(steps.count)]
    assert sum(size.whole for size in sizes) > sum(size.tokens for size in sizes)
    assert sum(size.weight for size in sizes) < sum(size.scored for size in sizes)
    examples = data.draws[0]
    prefixes = {tuple(examples[n].chunk.prefix) for n in range(len(examples))} - {()}
    assert sum(size.raw for size in sizes) == 2 * sum(len(one) - 1 for one in prefixes) > 0
    words, length = task.vocabulary, task.plan.config.model.context_length
    for step, size in enumerate(sizes):
        batch = make_batch(steps.of(step), words.layout, words.pad, length)
        assert batch.weights is not None and batch.weights.sum() == pytest.approx(size.all_weight, rel=1e-5)
