"""What a finished run leaves: a model anyone can open, a report with its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.conftest import undisturbed as undisturbed

pytestmark = pytest.mark.slow


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
        assert row["bound"] < 0 < row["nll"]
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
        if chosen["sample"] < 0:
            assert not any(drawn["finished"])
            continue
        assert drawn["finished"][chosen["sample"]]
        assert drawn["thoughts"][chosen["sample"]][:-1] == chosen["thought"]


def test_the_samples_do_not_depend_on_the_shards(undisturbed: Path, tmp_path: Path) -> None:
    from tests.faults.conftest import finish, launch

    run = tmp_path / "run"
    finish(launch(run, "sample.num_shards=5", "local.processes=1"))

    def selected(folder: Path) -> list[dict[str, object]]:
        paths = sorted((folder / "iter-01" / "selected").glob("*.parquet"))
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    assert selected(run) == selected(undisturbed)


@pytest.mark.parametrize("name", ["report", "status"])
def test_report_and_status_work_on_a_finished_run(undisturbed: Path, name: str) -> None:
    import importlib

    assert importlib.import_module(f"lt_hpc.{name}").main([str(undisturbed)]) == 0
