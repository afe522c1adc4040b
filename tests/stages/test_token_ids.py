"""Token ids go from sampling into training as they are: text is never encoded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lt_hpc.config.schema import ModelConfig
from lt_hpc.data import base_model
from lt_hpc.stages import train_data
from lt_hpc.training.batches import make_batch, pack_epoch
from tests.runs.tiny_run import CONTEXT, run_e_step


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_the_trained_ids_are_the_sampled_ones(tmp_path: Path) -> None:
    train_task = run_e_step(tmp_path)
    layout = train_task.vocabulary.layout
    sampled = {row["chunk"]: row for row in rows(train_task.paths.samples(1))}
    chosen = {row["chunk"]: row["samples"][0] for row in rows(train_task.paths.selected(1))}
    (examples,) = train_data.data_of(train_task).draws
    tokenizer = PreTrainedTokenizerFast.from_pretrained(train_task.paths.base)
    changed = trained = 0
    for epoch in (pack_epoch(examples, 0, 1, index, CONTEXT) for index in range(4)):
        everything = [(epoch, row) for row in range(len(epoch.rows))]
        batch = make_batch(everything, layout, train_task.vocabulary.pad, CONTEXT)
        for row, members in enumerate(epoch.rows):
            starts = np.flatnonzero(batch.positions[row] == 0)
            for member, start in zip(members, starts, strict=False):
                chunk_id = examples[member].chunk.chunk_id
                if chosen[chunk_id] < 0:
                    continue
                thought = sampled[chunk_id]["thoughts"][chosen[chunk_id]]  # ends with <EOL>
                marker = layout.prior if epoch.thought_first[member] else layout.post
                ids = batch.ids[row, start:].tolist()
                begin = ids.index(marker) + 1
                assert ids[begin : begin + len(thought)] == thought
                trained += 1
                text = tokenizer.decode(thought[:-1])
                changed += tokenizer(text, add_special_tokens=False)["input_ids"] != thought[:-1]
    assert trained >= 10
    assert changed >= trained / 2, "this tokenizer was meant to change ids on the way through text"


def test_a_model_that_knows_the_markers_is_a_base_as_it_is(tmp_path: Path) -> None:
    trained, again = run_e_step(tmp_path).paths.base, tmp_path / "again"
    model = LlamaForCausalLM.from_pretrained(trained)
    with torch.no_grad():
        model.get_input_embeddings().weight += 0.5  # what training would have done
    model.save_pretrained(trained)
    again.mkdir()
    base_model.build(ModelConfig(path=str(trained), context_length=CONTEXT), again)
    assert (again / "layout.json").read_text() == (trained / "layout.json").read_text()
    one, other = (load_file(folder / "model.safetensors") for folder in (trained, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
