"""The merge on real files: which thoughts it selects, and what it says about them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_hpc.cluster.place import Place
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import CORPORA
from lt_hpc.errors import IncompleteError
from lt_hpc.latent import weights
from lt_hpc.report.warnings import warnings
from lt_hpc.run.build import build_plan
from lt_hpc.run.progress import Progress
from lt_hpc.stages import choice, merge, selection, thoughts
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, shards, tables
from lt_hpc.store.atomic import write_json
from lt_hpc.store.figures import SelectionStatistics
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import LAYOUT, RunPaths, block_part, shard_folder
from lt_hpc.store.shards import ShardMap
from tests.report.rows import iteration

EOL, CHUNKS, BLOCK = 4, 23, 2


def samples(num_samples: int, seed: int = 0, scale: float = 2.0) -> list[dict[str, Any]]:
    """CHUNKS rows of the samples table, two chunks per document; a quarter of the thoughts is cut, of chunk 5
    all."""
    generator = np.random.default_rng(seed)
    rows = []
    for chunk in range(CHUNKS):
        cut = generator.random(num_samples) < 0.25
        cut[0] = False
        if chunk == 5:
            cut[:] = True
        thoughts = [[*generator.integers(10, 99, size=generator.integers(0, 6)).tolist(), EOL] for _ in cut]
        parts = {
            name: generator.normal(mean, scale, num_samples).tolist()
            for name, mean in (("log_prior", -20), ("log_likelihood", -20), ("log_q", -12))
        }
        rows.append(
            {
                "chunk": chunk,
                "document": chunk - chunk % 2,
                "thoughts": thoughts,
                "cut": cut.tolist(),
                **parts,
            }
            | {"log_proposal": parts["log_q"], "suffix_length": 3}
        )
    return rows


def task(folder: Path, rows: list[dict[str, Any]], num_shards: int, *overrides: str) -> Task:
    """A merge task on a run folder whose shards hold `rows`."""
    num_samples = len(rows[0]["thoughts"])
    config = load_config(demo_file(), [f"sample.num_samples={num_samples}", *overrides])
    plan = build_plan(config, 1, {name: name for name in ("model", *CORPORA)})
    paths = RunPaths(folder)
    paths.base.mkdir(parents=True)
    write_json(paths.base / LAYOUT, {"sol": 3, "eol": EOL, "prior": 5, "post": 6, "eos": None, "pad": 0})
    manifest.write(paths.base, Manifest("base", plan.output("base"), True, ()))
    fingerprint = plan.stage("sample-01").fingerprint
    shard_map = shards.pin(paths.samples(1), ShardMap(fingerprint, len(rows), BLOCK, num_shards))
    for shard in range(num_shards):
        entries = []
        shard_folder(paths.samples(1), shard).mkdir(parents=True)
        for block in shard_map.blocks(shard):
            path = shard_folder(paths.samples(1), shard) / block_part(block)
            chosen = [rows[chunk] for chunk in shard_map.chunks(block)]
            tables.write(path, tables.SAMPLES, {k: [r[k] for r in chosen] for k in tables.SAMPLES.names})
            entries.append(manifest.describe(path))
        record = Manifest("shard", shard_map.fingerprint(shard), True, tuple(entries))
        manifest.write(shard_folder(paths.samples(1), shard), record)
    stage = plan.stage("merge-01")
    return Task(plan, stage, paths, Place(), (), Progress(folder / "progress.json"), lambda: False)


def merged(
    folder: Path, rows: list[dict[str, Any]], num_shards: int, *overrides: str
) -> list[dict[str, Any]]:
    """The rows that a merge selects."""
    merge.run(task(folder, rows, num_shards, *overrides))
    files = sorted(RunPaths(folder).selected(1).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def statistics(folder: Path) -> dict[str, Any]:
    found = manifest.read(RunPaths(folder).selected(1))
    assert found is not None
    return found.statistics


@settings(max_examples=12)
@given(
    num_shards=st.integers(1, 15),
    seed=st.integers(0, 100),
    option=st.sampled_from(
        ["weights=exact", "weights=tempered", "method=systematic", "method=uniform", "select=weighted"]
    ),
)
def test_the_selection_does_not_depend_on_the_shards(num_shards: int, seed: int, option: str) -> None:
    rows, option = samples(4, seed), f"merge.{option}"
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert merged(Path(one) / "run", rows, num_shards, option) == merged(
            Path(other) / "run", rows, 1, option
        )
        assert statistics(Path(one) / "run") == statistics(Path(other) / "run")


@pytest.mark.parametrize("option", ["weights=exact", "select=weighted", "weights=length_normalised"])
def test_nothing_depends_on_how_many_chunks_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    rows = samples(5)
    whole = merged(tmp_path / "whole", rows, 2, f"merge.{option}")
    monkeypatch.setattr(thoughts, "MOST_CHUNKS", 3)
    assert merged(tmp_path / "some", rows, 2, f"merge.{option}") == whole
    assert statistics(tmp_path / "some") == statistics(tmp_path / "whole")
    monkeypatch.setattr(selection, "PIECE", 3)
    assert merged(tmp_path / "pieces", rows, 2, f"merge.{option}") == whole
    assert flat(statistics(tmp_path / "pieces")) == pytest.approx(flat(statistics(tmp_path / "whole")))


def flat(figures: Any, name: str = "") -> dict[str, Any]:
    """Nested figures by their paths."""
    if not isinstance(figures, dict | list):
        return {name: figures}
    items = figures.items() if isinstance(figures, dict) else enumerate(figures)
    return {path: value for key, one in items for path, value in flat(one, f"{name}.{key}").items()}


def test_each_selected_thought_is_one_of_its_own_chunk(tmp_path: Path) -> None:
    rows = samples(4)
    selected_cut = 0
    for drawn, chosen in zip(rows, merged(tmp_path / "run", rows, 3), strict=True):
        (k,), (thought,) = chosen["samples"], chosen["thoughts"]
        assert chosen["loss_weights"] == [1.0]
        if drawn["chunk"] == 5:
            assert k == -1 and thought == [], "all of its thoughts were cut"
        else:
            assert drawn["thoughts"][k] == [*thought, EOL]
            selected_cut += drawn["cut"][k]
    found = statistics(tmp_path / "run")
    assert found["fallback_chunks"] == 1 and found["selected_cut"] == selected_cut > 0
    assert found["cut_share"] == pytest.approx(np.mean([row["cut"] for row in rows]))
    assert (found["chunks"], found["documents"]) == (CHUNKS, (CHUNKS + 1) // 2)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 100),
    num_shards=st.integers(1, 5),
    option=st.sampled_from(["method=multinomial", "method=uniform", "method=systematic", "select=weighted"]),
)
def test_a_chunk_is_selected_as_if_all_had_as_many_thoughts(seed: int, num_shards: int, option: str) -> None:
    most, mean = 7, 4
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, most + 1, CHUNKS)
    while counts.sum() != mean * CHUNKS:
        row, step = generator.integers(CHUNKS), np.sign(mean * CHUNKS - counts.sum())
        counts[row] = np.clip(counts[row] + step, 1, most)
    rows, option = samples(most, seed), f"merge.{option}"

    def first(row: dict[str, Any], count: int) -> dict[str, Any]:
        return {name: value[:count] if isinstance(value, list) else value for name, value in row.items()}

    ragged = [first(row, int(count)) for row, count in zip(rows, counts, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        found = merged(Path(folder) / "run", ragged, num_shards, option, f"sample.num_samples={mean}")
        assert [row["chunk"] for row in found] == list(range(CHUNKS))
        figures = statistics(Path(folder) / "run")
        one = merged(Path(folder) / "one", ragged, 1, option, f"sample.num_samples={mean}")
        assert found == one and figures == statistics(Path(folder) / "one")
        for count in np.unique(counts).tolist():
            alike = merged(Path(folder) / f"{count}", [first(row, count) for row in rows], 1, option)
            for chunk in np.flatnonzero(counts == count).tolist():
                assert found[chunk] == alike[chunk]
    assert figures["ess_mean"] == pytest.approx(np.mean([row["ess"] for row in found]))
    assert sum(figures["ess_histogram"]["counts"]) == CHUNKS or counts.max() > mean
    assert [one["chunk"] for one in figures["examples"]] == [0, 1, 2, 3, 4]


def test_thoughts_that_are_too_few_in_all_fail_the_merge(tmp_path: Path) -> None:
    rows = samples(4)
    for name, value in rows[3].items():
        rows[3][name] = value[:3] if isinstance(value, list) else value
    with pytest.raises(IncompleteError, match="its shards hold 91 of 92 thoughts"):
        merged(tmp_path / "run", rows, 2)


def test_weighted_each_different_thought_is_selected_with_its_probability(tmp_path: Path) -> None:
    rows = samples(6, scale=0.5)
    for row in rows:  # three kinds of two samples, each with the same weight
        for name in ("thoughts", "log_prior", "log_likelihood", "log_q", "log_proposal"):
            row[name] = row[name][:3] * 2
    chosen = merged(tmp_path / "run", rows, 2, "merge.select=weighted")
    for drawn, row in zip(rows, chosen, strict=True):
        if drawn["chunk"] == 5:
            assert (row["samples"], row["loss_weights"]) == ([-1], [1.0])
            continue
        parts = [np.array(drawn[name]) for name in ("log_prior", "log_likelihood", "log_proposal")]
        probabilities = weights.normalised(weights.log_weights(*parts))
        of_thought: dict[tuple[int, ...], float] = {}
        for ids, probability in zip(drawn["thoughts"], probabilities, strict=True):
            of_thought[tuple(ids)] = of_thought.get(tuple(ids), 0.0) + probability
        found = {(*z, EOL): w for z, w in zip(row["thoughts"], row["loss_weights"], strict=True)}
        assert found == pytest.approx(of_thought)


def test_thoughts_of_next_to_no_weight_are_not_trained_on(tmp_path: Path) -> None:
    rows = samples(4, scale=30.0)
    chosen = merged(tmp_path / "run", rows, 1, "merge.select=weighted")
    assert all(sum(row["loss_weights"]) == pytest.approx(1) for row in chosen)
    assert all(w >= choice.LEAST_WEIGHT for row in chosen for w in row["loss_weights"])
    assert np.mean([len(row["samples"]) for row in chosen]) < 2


def test_of_equal_thoughts_the_diversity_counts_one(tmp_path: Path) -> None:
    rows = samples(4, scale=0.0)
    for row in rows:
        row["thoughts"] = [[20, EOL], [20, EOL], [30, EOL], [20, EOL]]
    merged(tmp_path / "run", rows, 2)
    found = statistics(tmp_path / "run")
    assert (found["ess_mean"], found["different_mean"]) == (4.0, 2.0)
    assert found["effective_different_mean"] == pytest.approx(1 / (0.75**2 + 0.25**2))
    low, high = found["intervals"]["effective_different_mean"]
    assert low == pytest.approx(high), "no chunk differs from another"


def test_several_thoughts_a_chunk_are_selected_when_asked(tmp_path: Path) -> None:
    rows = samples(8)
    chosen = merged(tmp_path / "run", rows, 2, "merge.num_selected=3", "merge.method=systematic")
    assert {len(row["samples"]) for row in chosen} == {3}
    assert any(len(set(row["samples"])) > 1 for row in chosen)


def test_tempered_weights_reach_the_target_and_the_exact_ones_are_kept(tmp_path: Path) -> None:
    rows = samples(8, scale=20.0)
    settings_ = ("merge.weights=tempered", "merge.target_ess=3")
    chosen = merged(tmp_path / "run", rows, 4, *settings_)
    found = statistics(tmp_path / "run")
    assert found["ess_mean"] < 2 < found["selection_ess_mean"] == pytest.approx(3, abs=1e-3)
    assert 0 < found["alpha"] < 1
    log_w = weights.log_weights(
        *(np.array(rows[0][name]) for name in ("log_prior", "log_likelihood", "log_proposal"))
    )
    assert chosen[0]["log_weights"] == log_w.tolist()


def test_a_collapsed_selection_is_said_in_words(tmp_path: Path) -> None:
    merged(tmp_path / "run", samples(8, scale=40.0), 1)
    (line, *_) = warnings([iteration(selection=SelectionStatistics.of(statistics(tmp_path / "run")))])
    assert "collapsed" in line and "iteration 1" in line
    merged(tmp_path / "fine", samples(8, scale=0.3), 1)
    fine = SelectionStatistics.of(statistics(tmp_path / "fine"))
    assert not any("collapsed" in line for line in warnings([iteration(selection=fine)]))


def test_a_pareto_k_is_there_at_few_samples_over_all_chunks(tmp_path: Path) -> None:
    merged(tmp_path / "mild", samples(8, scale=0.3), 1)
    assert statistics(tmp_path / "mild")["pareto_k_pooled"] < 0.5
    merged(tmp_path / "heavy", samples(8, scale=4.0), 1)
    assert statistics(tmp_path / "heavy")["pareto_k_pooled"] > 0.7


def test_a_chunk_that_is_missing_or_double_fails_the_merge(tmp_path: Path) -> None:
    rows = samples(2)
    rows[3] = {**rows[3], "chunk": 4}
    with pytest.raises(IncompleteError, match="chunk 4 where 3 was expected"):
        merged(tmp_path / "run", rows, 2)
