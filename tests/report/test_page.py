"""The page: what it says, what it does not repeat as HTML, and that it needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

from lt_hpc.report.page import render
from lt_hpc.report.rows import Compute, Report
from lt_hpc.run.events import Excluded
from lt_hpc.store.figures import HeldOut, SelectionStatistics
from tests.report.rows import iteration, selection

REPORT = Report(
    name="a <run> & more",
    plan="0123",
    config={
        "objective": "em",
        "model": {"path": "base"},
        "sample": {"num_samples": 4, "engine": "torch"},
        "seed": 7,
        "evaluate": {"num_samples": 3, "estimate_chunks": 64, "estimate_samples": 128, "answer_samples": 4},
    },
    corpora={"corpus": {"chunks": 9, "tokens": 99, "dropped_long": 2}, "warm": {}},
    complete=True,
    iterations=[iteration(0, selection=None), iteration(1)],
)


def page(**changed: Any) -> str:
    report = replace(REPORT, **changed)
    return render([(report.name, report, lambda ids: " ".join(f"<{token}>" for token in ids))])


def cells(text: str) -> list[list[str]]:
    """Of every line of every table."""
    return [
        [unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.S)]
        for line in re.findall(r"<tr.*?</tr>", text, re.S)
    ]


def test_text_is_escaped_and_nothing_is_linked_or_run() -> None:
    text = page()
    assert "<h1>a &lt;run&gt; &amp; more: latent thoughts by EM</h1>" in text
    assert "&lt;b&gt;11&lt;/b&gt;" in text and "<b>11" not in text
    outside = re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    assert not re.search(r"<script|<link|<img|href=|src=|url\(|http", outside)


def test_nodes_that_jobs_leave_out_are_named_with_the_evidence() -> None:
    assert "Nodes left out" not in page()
    found = [Excluded(time="2026-01-02T03:04:05+0000", node="n<1>", evidence="3 of its last 3 tasks failed")]
    assert ["n<1>", found[0].time, found[0].evidence] in cells(page(excluded=found))


def test_the_introduction_counts_each_corpus_and_what_was_dropped() -> None:
    text = re.sub(r"\s+", " ", page())
    assert "4 thoughts per chunk, engine torch, seed 7." in text
    assert "corpus: 9 chunks, 99 tokens, 2 dropped_long; warm: 0 chunks, 0 tokens." in text


def test_thoughts_drawn_several_times_are_one_line_and_the_selected_one_is_shaded() -> None:
    lines = cells(page())
    assert ["<3>", "3", "1", "0.750", "-2.000", "-1.500", "-0.250"] in lines
    assert ["<1> <2>", "3", "2", "0.250", "-1.000", "-3.000", "-0.500"] in lines
    assert ["<4>", "3", "1", "0.000", "-9.000", "-8.000", "–"] in lines
    (shaded,) = re.findall(r'<tr class="picked">.*?</tr>', page(), re.S)
    assert "&lt;3&gt;" in shaded


def test_of_many_thoughts_the_ends_and_those_selected_are_shown() -> None:
    example = selection().examples[0]
    count = 8
    numbers = [-1.0] * count
    many = replace(
        example, thoughts=[[n] for n in range(count)], weights=[2.0**-n for n in range(1, count + 1)],
        log_prior=numbers, log_likelihood=numbers, log_q=numbers, log_proposal=numbers,
        selected=[4],
    )  # fmt: skip
    lines = cells(page(iterations=[iteration(1, selection=selection(examples=[many]))]))
    assert [line[0] for line in lines if line[1:2] == ["3"]] == ["<0>", "<1>", "<4>", "<6>", "<7>"]


def test_what_is_unknown_is_a_dash() -> None:
    unknown = iteration(
        1,
        held_out=HeldOut(),
        change=None,
        selection=SelectionStatistics(),
        compute=Compute(),
        skipped_steps=None,
    )
    lines = cells(page(iterations=[unknown]))
    assert ["1", *["–"] * 8] in lines
    assert ["1", *["–"] * 10, "0", *["–"] * 2] in lines, "prefixes cut are counted"
    assert ["1", "50", "–", "–", "250", "200", "–", "–", "–", "30.000"] in lines


def test_where_chunks_differ_in_their_number_of_thoughts_the_fewest_and_the_most_are_shown() -> None:
    allocated = selection(fewest_samples=1, most_samples=16)
    lines = cells(page(iterations=[iteration(1), iteration(2, selection=allocated)]))
    (titles,) = [line for line in lines if "Pareto k, pooled" in line]
    shown = [line[titles.index("K")] for line in lines if len(line) == len(titles) and line[0] in "12"]
    assert shown == ["4", "4 (1 to 16)"]


def test_figures_have_their_intervals_and_raw_text_is_shown_as_log_probability() -> None:
    lines = cells(page(iterations=[iteration(1)]))
    (titles,) = [line for line in lines if "raw text, per byte" in line]
    (row,) = [line for line in lines if "-1.250 [-1.500, -1.000]" in line and len(line) == len(titles)]
    named = dict(zip(titles, row, strict=True))
    assert named["raw text"] == "-2.000 [-2.250, -1.750]" and named["bound"] == "-1.500 [-1.750, -1.250]"
    changes = [
        "0.250 [0.100, 0.400]", "0.500 [0.300, 0.700]", "0.125 [0.050, 0.200]", "0.100 [0.050, 0.150]", "–"
    ]  # fmt: skip
    assert ["1", "better", *changes, "0.010", "64", "64"] in lines
    assert ["1", "50", "2.500", "0.000", "250", "200", "3.00e+12", "1.00e+12", "4.00e+12", "30.000"] in lines


def test_no_iterations_yet_are_an_empty_table() -> None:
    text = page(iterations=[])
    assert len(cells(text)) == 1 and "<svg" not in text


def test_the_last_iteration_with_an_e_step_shows_its_thoughts_and_warnings_stand_above() -> None:
    rows = [iteration(1), iteration(2, skipped_steps=4), iteration(3, selection=None)]
    text = page(iterations=rows)
    assert "Thoughts of iteration 2" in text
    warning = "<p>iteration 2: 4 training steps were left out"
    assert 0 < text.index("Warnings of earlier iterations: 1") < text.index(warning) < text.index("<table>")
