"""Models that one experiment leaves are what another one starts from, scored by a benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from lt_hpc.config.load import demo_file
from lt_hpc.errors import ConfigError
from lt_hpc.experiment import main
from lt_hpc.store.paths import RunPaths
from tests.experiments.toy import OVERRIDES, arguments, write

TUNED = f"""
title: A toy after the toy
question: Does it start from what the first one left?
seeds: [3]
measures: [lt_chain.exact_match, accuracy, log_likelihood]
pairs: [[from-em, from-base]]
sizes:
  toy:
    config: {demo_file()}
    iterations: 0
    overrides: [
      {", ".join(OVERRIDES)}, warm.offset=12, "benchmark.tasks=[lt_chain]",
      benchmark.trials=2, benchmark.limit=3, benchmark.num_shards=1, benchmark.thought_temperature=1,
      benchmark.max_thought_tokens=6,
    ]
    arms:
      from-em: ["model.path=OUT/toy-toy/seed-${{seed}}/few/iter-00/model"]
      from-base: []
"""


@pytest.mark.slow
def test_models_of_one_experiment_are_fine_tuned_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, first, tuned = tmp_path / "out", write(tmp_path), tmp_path / "tuned.yaml"
    tuned.write_text(TUNED.replace("OUT", str(out)))
    assert main(arguments(tuned, out)) == ConfigError.exit_code
    said = f"toy.yaml --size toy --seeds 3 --arms few --out {out}"
    assert said in capsys.readouterr().err and not out.exists()

    assert main(arguments(first, out, "--seeds", "3", "--arms", "few")) == 0
    assert main(arguments(tuned, out)) == 0
    table = capsys.readouterr().out.rpartition("## A toy after the toy")[2]
    assert "| from-em – from-base | " in table and "paired by seed alone" in table

    exported = RunPaths(out / "toy-toy" / "seed-3" / "few").model(0)
    runs = {arm: RunPaths(out / "tuned-toy" / "seed-3" / arm) for arm in ("from-em", "from-base")}
    weights = {arm: load_file(paths.base / "model.safetensors") for arm, paths in runs.items()}
    for name, values in load_file(exported / "model.safetensors").items():
        assert (weights["from-em"][name] == values).all(), "the markers it was trained with are kept"
    layouts = {(paths.base / "layout.json").read_bytes() for paths in runs.values()}
    assert layouts == {(exported.parents[1] / "base" / "layout.json").read_bytes()}
    assert any((weights["from-base"][name] != values).any() for name, values in weights["from-em"].items())
    found = json.loads((out / "tuned-toy" / "results.json").read_text())
    for arm in runs:
        (score,) = found["arms"][arm]["benchmarks"]["3"][0]["scores"]
        assert len(score["trials"]) == 2
        assert found["arms"][arm]["figures"]["lt_chain.exact_match"]["value"] == sum(score["trials"]) / 2
    (pair,) = found["pairs"]
    assert pair["by_seed"]["3"]["documents"] == 2 and pair["by_seed"]["3"]["values"]["nll"] is not None
