"""What a finished run leaves: a model anyone can open, a report with its numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import version
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


def test_status_of_a_finished_run_is_success(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.status", str(undisturbed)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def shown(value: float | None, nothing: str) -> str:
    return nothing if value is None else f"{value:.3f}"


def test_the_table_shows_what_the_report_holds(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.report", str(undisturbed)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [re.split("[┃│]", line)[1:-1] for line in printed.splitlines() if line[:1] in "┃│"]
    titles, *cells = [[cell.strip() for cell in line] for line in lines]
    rows = json.loads((undisturbed / "report.json").read_text())["iterations"]
    for row, line in zip(rows, cells, strict=True):
        table = dict(zip(titles, line, strict=True))
        assert table["iteration"] == str(row["iteration"])
        for title, value in {
            "accuracy": row["accuracy"],
            "bound": row["bound"],
            "NLL": row["nll"],
            "ESS": row["ess_mean"],
            "unfinished": row["selection"].get("unfinished_share"),
        }.items():
            assert table[title] == shown(value, "-"), title
    assert 0 < rows[1]["selection"]["unfinished_share"] < 1, "so short a training leaves some without an end"


class Tables(HTMLParser):
    """The tables of a page, each a list of rows of cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[list[str]]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "table":
            self.found.append([])
        elif tag == "tr":
            self.found[-1].append([])
        elif tag in ("td", "th"):
            self.found[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1][-1][-1] += data


def test_the_page_shows_what_the_report_holds(undisturbed: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    page = (undisturbed / "report.html").read_text()
    assert f"by {report['config']['evaluate']['num_samples']} samples" in page
    measures, of_weights, thoughts, answers = Tables(page).found
    for row, line in zip(report["iterations"], measures[1:], strict=True):
        table = dict(zip(measures[0], line, strict=True))
        assert table["accuracy"] == shown(row["accuracy"], "–")
        assert table["bound"] == shown(row["bound"], "–")
        assert table["no bound"] == str(row["bound_undefined_chunks"])
        assert (table["NLL"], table["NLL, marked"]) == (shown(row["nll"], ""), shown(row["nll_marked"], ""))
        assert table["task-seconds"] == shown(row["seconds"], "")
    selection = report["iterations"][1]["selection"]
    ((_, *cells),) = [line for line in of_weights[1:] if line[0] == "1"]
    table = dict(zip(of_weights[0][1:], cells, strict=True))
    assert table["mean ESS"] == shown(selection["ess_mean"], "")
    assert table["unfinished"] == shown(selection["unfinished_share"], "")
    assert table["no thought"] == str(selection["fallback_chunks"])
    weights = {line[0]: 0.0 for line in thoughts[1:]}
    for line in thoughts[1:]:
        weights[line[0]] += float(line[2])
    assert weights == pytest.approx(dict.fromkeys(weights, 1.0), abs=2e-3), "of two thoughts both are shown"
    assert answers[0] == ["question", "thought", "answer", "expected"]
    assert "None" not in {cell for line in answers for cell in line}


def test_recorded_log_probabilities_are_those_of_plain_transformers(undisturbed: Path) -> None:
    command = [sys.executable, "tools/verify_weights.py", str(undisturbed), "--thoughts", "40"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "40 thoughts of iteration 1" in result.stdout


@pytest.mark.parametrize(
    ("stage", "made", "attention"),
    [
        ("sample-01", "iter-01/samples/shard-00000", "lt_hpc.shared_prefix"),
        ("evaluate-01", "iter-01/eval", "lt_hpc.shared_prefix"),
        ("train-01", "iter-01/model", "lt_hpc.documents"),
    ],
)
def test_what_computed_stands_in_the_log_and_beside_the_result(
    undisturbed: Path, stage: str, made: str, attention: str
) -> None:
    torch = version("torch")
    text = "\n".join(path.read_text() for path in (undisturbed / "logs").glob(f"{stage}*"))
    (line,) = {line for line in text.splitlines() if line.startswith("computes with device ")}
    assert line.endswith(f"attention {attention}") and f"torch {torch}" in line
    assert ("2 over gloo" in line) == stage.startswith("train")
    kept = json.loads((undisturbed / made / "manifest.json").read_text())["provenance"]
    assert (kept["torch"], kept["attention"]) == (torch, attention) and kept["device"] in line
