"""What a finished run leaves: a model anyone can open, a report with its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest


def test_the_model_opens_as_an_ordinary_one_and_knows_the_markers(undisturbed: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for iteration in ("iter-00", "iter-01"):
        model = AutoModelForCausalLM.from_pretrained(undisturbed / iteration / "model")
        tokenizer = AutoTokenizer.from_pretrained(undisturbed / iteration / "model")
        for marker in ("<SOL>", "<EOL>", "<PRIOR>", "<POST>"):
            ids = tokenizer(f"5 {marker} 7", add_special_tokens=False)["input_ids"]
            assert len(ids) == 3
            assert ids[1] < model.get_input_embeddings().weight.shape[0]


def test_the_report_holds_every_iteration(undisturbed: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    assert [row["iteration"] for row in report["iterations"]] == [0, 1]
    for row in report["iterations"]:
        assert 0 <= row["accuracy"] <= 1
        assert row["intervals"]["nll"][0] <= row["nll"] <= row["intervals"]["nll"][1]
        if row["bound_undefined_chunks"] < 12:  # so short a training leaves thoughts without an end
            assert row["bound"] < 0
        else:
            assert row["bound"] is None
        assert row["selected_unfinished"] == 0
        assert row["seconds"] > 0
    assert 1 <= report["iterations"][1]["ess_mean"] <= 2
    page = (undisturbed / "report.html").read_text()
    assert page.count("<svg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_each_chunk_is_selected_once_and_from_its_own_samples(undisturbed: Path) -> None:
    folder = undisturbed / "iter-01"
    samples = [
        row
        for path in sorted((folder / "samples").glob("*/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    selected = [
        row
        for path in sorted((folder / "selected").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert [row["chunk"] for row in selected] == list(range(48)) == [row["chunk"] for row in samples]
    for drawn, chosen in zip(samples, selected, strict=True):
        (sample,), (thought,) = chosen["samples"], chosen["thoughts"]
        if sample < 0:
            assert not any(drawn["finished"])
            continue
        assert drawn["finished"][sample]
        assert drawn["thoughts"][sample][:-1] == thought


@pytest.mark.parametrize("name", ["report", "status"])
def test_report_and_status_work_on_a_finished_run(undisturbed: Path, name: str) -> None:
    command = [sys.executable, "-m", f"lt_hpc.{name}", str(undisturbed)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_recorded_log_probabilities_are_those_of_plain_transformers(undisturbed: Path) -> None:
    command = [sys.executable, "tools/verify_weights.py", str(undisturbed), "--thoughts", "40"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "40 thoughts of iteration 1" in result.stdout
