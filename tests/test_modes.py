"""Ways to run EM that span iterations: continual training, in which each iteration takes the documents that
follow and goes on from the last model; thoughts that are allocated by the iteration before."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.runs.small_run import finish, launch

pytestmark = pytest.mark.slow


def documents(folder: Path) -> list[list[int]]:
    return [
        tokens
        for path in sorted(folder.glob("*.parquet"))
        for tokens in pq.read_table(path)["tokens"].to_pylist()
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_fresh_documents_each_iteration_from_the_previous_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["corpus.num_documents=10", "train.steps=2", "warm_start.steps=3", "heldout.num_documents=4"]
    modes = ["corpus.fresh=true", "train.start=previous", "train.learning_rate=1e-9", "train.schedule=wsd"]
    finish(launch(run, "--iters=2", *small, *modes))
    first, second = documents(run / "corpus-01"), documents(run / "corpus-02")
    assert len(first) == len(second) == 10

    whole = tmp_path / "whole"
    finish(launch(whole, "--iters=0", "warm_start.steps=1", "corpus.num_documents=20"))
    assert documents(whole / "corpus") == first + second

    # At this learning rate a model that went on from the last one is the last one.
    models = [weights(run / f"iter-{iteration:02d}" / "model") for iteration in range(3)]
    base = weights(run / "base")
    for name, start in models[0].items():
        assert all(torch.allclose(model[name], start, atol=1e-6) for model in models[1:])
    assert any((base[name] - start).abs().max() > 1e-3 for name, start in models[0].items())


def test_the_second_iteration_gives_chunks_as_many_thoughts_as_the_first_has_shown(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["local.train_ranks=1", "warm_start.steps=2", "train.steps=2", "heldout.num_documents=4"]
    finish(launch(run, "--iters=2", *small, "sample.num_samples=4", "sample.allocation=ess"))
    counts = [
        [
            len(thoughts)
            for path in sorted((run / f"iter-{iteration:02d}" / "samples").rglob("*.parquet"))
            for thoughts in pq.read_table(path)["thoughts"].to_pylist()
        ]
        for iteration in (1, 2)
    ]
    assert set(counts[0]) == {4} and len(set(counts[1])) > 1
    assert sum(counts[0]) == sum(counts[1])
    _, first, second = json.loads((run / "report.json").read_text())["iterations"]
    assert (first["selection"]["fewest_samples"], first["selection"]["most_samples"]) == (4, 4)
    assert second["selection"]["most_samples"] == max(counts[1])
    assert f"4 ({min(counts[1])} to {max(counts[1])})" in (run / "report.html").read_text()
