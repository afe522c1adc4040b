"""What a finished run leaves: a model anyone can open, a report with its numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lt_hpc.config.load import load_config
from lt_hpc.data import sources
from tests.runs.small_run import SMALL_RUN, steps

REPOSITORY = Path(__file__).parents[1]


def test_the_model_opens_as_an_ordinary_one_and_knows_the_markers(undisturbed: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for iteration in ("iter-00", "iter-01"):
        model = AutoModelForCausalLM.from_pretrained(undisturbed / iteration / "model")
        tokenizer = AutoTokenizer.from_pretrained(undisturbed / iteration / "model")
        for marker in ("<SOL>", "<EOL>", "<PRIOR>", "<POST>"):
            ids = tokenizer(f"5 {marker} 7", add_special_tokens=False)["input_ids"]
            assert len(ids) == 3
            assert ids[1] < model.get_input_embeddings().weight.shape[0]


def test_the_lines_that_docs_give_for_using_a_model_think_and_answer_as_evaluation_does(
    undisturbed: Path,
) -> None:
    page = (REPOSITORY / "docs" / "using.md").read_text()
    (lines,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = lines.replace("runs/demo/iter-03/model", str(undisturbed / "iter-01" / "model"))
    found: dict[str, Any] = {}
    exec(lines, found)
    config = load_config(undisturbed / "config.yaml")
    documents = list(sources.documents(config.heldout, "given"))
    parts = sorted((undisturbed / "iter-01" / "eval").glob("**/part-*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert len(rows) == len(documents)
    longest = (config.sample.max_thought_tokens, config.evaluate.max_answer_tokens)
    for row in rows:
        thought, answer = found["think_and_answer"](documents[row["chunk"]].question, *longest)
        assert thought == found["tokenizer"].decode(row["thought"][:-1])
        assert answer == row["answer_thought"]


def test_the_report_holds_every_iteration(undisturbed: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    assert [row["iteration"] for row in report["iterations"]] == [0, 1]
    for row in report["iterations"]:
        assert 0 <= row["accuracy"] <= 1
        assert row["intervals"]["nll"][0] <= row["nll"] <= row["intervals"]["nll"][1]
        assert row["bound"] < 0 and row["intervals"]["bound"][0] <= row["bound"]
        assert row["log_likelihood"] < 0 and row["estimate_chunks"] == 6
        assert row["seconds"] > 0
    assert 1 <= report["iterations"][1]["ess_mean"] <= 2
    (drift,) = report["drift"]
    assert drift["chunks"] == 48 and 0 <= drift["values"]["tokens"] <= 24
    assert [sorted(one["thoughts"]) for one in report["passages"]] == [["1"]] * 4
    work = {one["stage"]: one for one in report["work"]}
    assert work["train-01"]["unit"] == "core" and work["train-01"]["attempts"] == 2, "ranks"
    assert sum(one["hours"] for one in work.values()) > 0
    assert not any(one["stops"] or one["unknown"] or one["lost_seconds"] for one in work.values())
    page = (undisturbed / "report.html").read_text()
    assert page.count("<svg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_each_chunks_different_thoughts_are_selected_from_its_own_samples(undisturbed: Path) -> None:
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
        if chosen["samples"] == [-1]:
            assert all(drawn["cut"])
            continue
        assert chosen["thoughts"] == [drawn["thoughts"][sample][:-1] for sample in chosen["samples"]]
        assert len(set(map(tuple, chosen["thoughts"]))) == len(chosen["thoughts"]) > 0
        assert sum(chosen["loss_weights"]) == pytest.approx(1)
    assert any(len(chosen["samples"]) == 2 for chosen in selected), "so that training shares a prefix"


def test_the_log_of_training_shows_the_loss_of_raw_text_where_it_weighs_something(undisturbed: Path) -> None:
    lines = steps(undisturbed, "train-01")
    assert all(0 < line["raw_loss"] < 9 for line in lines)
    record = json.loads((undisturbed / "iter-01/model/manifest.json").read_text())
    assert record["counts"]["raw_tokens"] == sum(line["raw_tokens"] for line in lines) > 0
    assert not any("raw_loss" in line for line in steps(undisturbed, "train-00"))


def test_status_of_a_finished_run_is_success(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.status", str(undisturbed)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def shown(value: float | None, interval: list[float] | None) -> list[str]:
    """Value and interval as tables show them."""
    if value is None:
        return ["–"]
    return [f"{value:.3f}", *([] if interval is None else [f"[{interval[0]:.3f}, {interval[1]:.3f}]"])]


def negative(interval: list[float] | None) -> list[float] | None:
    return None if interval is None else [-interval[1], -interval[0]]


def test_the_tables_show_what_the_report_holds(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.report", str(undisturbed)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [re.split("[┃│]", line)[1:-1] for line in printed.splitlines() if line[:1] in "┃│"]
    cells = [[cell.strip() for cell in line] for line in lines]
    starts = [n for n, line in enumerate(cells) if line[0] == "iteration"]
    held_out, e_step = cells[: starts[1]], cells[starts[1] :]

    def column(table: list[list[str]], title: str) -> list[str]:
        return [line[table[0].index(title)] for line in table[1:] if line[table[0].index(title)]]

    rows = json.loads((undisturbed / "report.json").read_text())["iterations"]
    for title, name in {"accuracy": "accuracy", "log p(x | c)": "log_likelihood", "bound": "bound"}.items():
        expected = [one for row in rows for one in shown(row[name], row["intervals"][name])]
        assert column(held_out, title) == expected, title
    raw = [one for row in rows for one in shown(-row["nll"], negative(row["intervals"]["nll"]))]
    assert column(held_out, "raw text") == raw
    selection = rows[1]["selection"]
    for title, name in {
        "ESS": "ess_mean",
        "effective": "effective_different_mean",
        "cut": "cut_share",
    }.items():
        assert column(e_step, title) == shown(selection[name], selection["intervals"][name]), title
    assert 0 < selection["cut_share"] < 1, "so short a training leaves some without an end"
    assert f"iteration 1 against the one before: {rows[1]['change']['verdict']}" in printed
    assert "warning: iteration 0: the held-out figures are of 12 documents" in printed


def test_a_run_is_compared_with_a_control_on_the_same_documents(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.report", str(undisturbed), str(undisturbed)]
    same = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cannot be told: log p(x | c) 0.000 [0.000, 0.000]" in same
    for line in ("training FLOPs", "computed tokens in training", "FLOPs with the E-steps"):
        assert re.search(rf"{line}: (\S+) and \1, 1.00 times as much", same), line


def test_a_dry_run_goes_by_the_pace_of_shards_that_are_done(undisturbed: Path) -> None:
    command = [sys.executable, "-m", "lt_hpc.launch", "--run-dir", str(undisturbed), *SMALL_RUN]
    more = ["--dry-run", "estimate.thought_tokens=2"]
    printed = subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
    found = re.search(r"at ([\d,]+) sampled \(([\d,]+) to ([\d,]+)\) .* of 3 shards of sample-01", printed)
    assert found, printed
    middle, low, high = (int(one.replace(",", "")) for one in found.groups())
    assert 0 < low <= middle <= high


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
    likelihoods, answered, changes, drift, of_weights, thoughts, costs, work = Tables(page).found
    for row, line in zip(report["iterations"], likelihoods[1:], strict=True):
        table = dict(zip(likelihoods[0], line, strict=True))
        for title, name in {
            "log p(x | c)": "log_likelihood",
            "bound": "bound",
            "bound: gain": "bound_gain",
        }.items():
            assert table[title] == " ".join(shown(row[name], row["intervals"][name])), title
        assert table["raw text"] == " ".join(shown(-row["nll"], negative(row["intervals"]["nll"])))
    for row, line in zip(report["iterations"], answered[1:], strict=True):
        assert line[1] == " ".join(shown(row["accuracy"], row["intervals"]["accuracy"]))
    assert changes[1][:2] == ["1", report["iterations"][1]["change"]["verdict"]]
    selection = report["iterations"][1]["selection"]
    (cells,) = [line for line in of_weights[1:] if line[0] == "1"]
    table = dict(zip(of_weights[0], cells, strict=True))
    for title, name in {"ESS": "ess_mean", "different": "different_mean", "cut": "cut_share"}.items():
        assert table[title] == " ".join(shown(selection[name], selection["intervals"][name])), title
    assert table["all cut"] == str(selection["fallback_chunks"])
    _, chunk, _, weight = range(4)
    weights = {line[chunk]: 0.0 for line in thoughts[1:]}
    for line in thoughts[1:]:
        weights[line[chunk]] += float(line[weight])
    assert weights == pytest.approx(dict.fromkeys(weights, 1.0), abs=2e-3), "of two thoughts both are shown"
    taken = dict(zip(costs[0], costs[2], strict=True))
    assert taken["computed"] == str(report["iterations"][1]["tokens"]["computed"])
    assert taken["training FLOPs"] == f"{report['iterations'][1]['compute']['training_flops']:.2e}"
    (moved,) = report["drift"]
    assert dict(zip(drift[0], drift[1], strict=True))["chunks"] == str(moved["chunks"])
    assert [line[0] for line in work[1:]] == [one["stage"] for one in report["work"]]
    assert "None" not in {cell for table in Tables(page).found for line in table for cell in line}


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
