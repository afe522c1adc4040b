"""Documents that are trained on and held out are counted, and said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.config.schema import CORPORA
from lt_hpc.data.sources import Document
from lt_hpc.errors import Interrupted
from lt_hpc.report.warnings import warnings
from lt_hpc.run import state
from lt_hpc.stages import prepare
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest, tables
from lt_hpc.store.paths import documents_part
from tests.runs.tiny_run import tasks

LINES = [f"The cat sat on mat {number}. Then it was gone." for number in range(8)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def counts(task: Task, name: str) -> dict[str, int]:
    found = manifest.read(task.paths.documents(name))
    assert found is not None
    return {key: n for key, n in found.counts.items() if key.startswith("also in ")}


def sources(folder: Path, held_out: list[str]) -> list[str]:
    """A warm corpus in chunks, with two documents of the corpus; and a held-out one."""
    warm = [
        {"text": ["The cat sat on mat 0.", "Then it was gone."], "thought": ["one", "two"]},
        {"text": LINES[1], "thought": "three"},
        {"text": "Only here.", "thought": "four"},
    ]
    files = {
        "corpus": write(folder / "text.jsonl", [{"text": line, "thought": "z"} for line in LINES]),
        "warm": write(folder / "taught.jsonl", warm),
        "heldout": write(folder / "held.jsonl", [{"text": line, "thought": "z"} for line in held_out]),
    }
    return [f"{name}.source={file}" for name, file in files.items()]


def test_documents_in_more_than_one_folder_are_counted_and_held_out_ones_warned_of(tmp_path: Path) -> None:
    held_out = [LINES[0].replace(" ", "  "), LINES[7] + "\n", "Held out alone.", "Only here."]
    task = tasks(tmp_path, *sources(tmp_path, held_out))("prepare")
    prepare.run(task)
    assert counts(task, "corpus") == {}
    assert counts(task, "warm") == {"also in corpus": 2}
    assert counts(task, "heldout") == {"also in corpus": 2, "also in warm": 2}
    said = ": held-out figures are in part of text that is trained on"
    expected = [
        f"heldout: 2 of 4 documents are also in corpus{said}",
        f"heldout: 2 of 4 documents are also in warm{said}",
    ]
    assert state.remarks(task.paths, task.stage) == expected
    assert warnings([], {"heldout": counts(task, "heldout") | {"documents": 4, "kept": 4}}) == expected


def test_disjoint_slices_of_one_source_share_nothing(tmp_path: Path) -> None:
    words = ["corpus.slices=2-3 of 4", "warm.slices=1 of 4", "heldout.slices=0 of 4"]
    words += [f"{name}.seed=5" for name in CORPORA]
    task = tasks(tmp_path, *words)("prepare")
    prepare.run(task)
    found = [manifest.read(task.paths.documents(name)) for name in ("corpus", "warm", "heldout")]
    assert [one.counts["documents"] for one in found if one] == [4, 2, 2]
    assert counts(task, "heldout") == {"also in corpus": 0, "also in warm": 0}
    assert state.remarks(task.paths, task.stage) == []


def test_fresh_documents_of_a_slice_stay_within_it(tmp_path: Path) -> None:
    words = ["corpus.slices=1-3 of 4", "heldout.slices=0 of 4", "corpus.seed=5", "heldout.seed=5"]
    make = tasks(tmp_path, *words, "corpus.fresh=true", "corpus.num_documents=5")
    prepare.run(make("prepare"))
    prepare.run(make("prepare-01"))
    found = manifest.read(make("prepare-01").paths.documents("corpus-01"))
    assert found is not None and found.counts["documents"] == 5
    assert found.counts["also in heldout"] == 0


def test_the_fresh_documents_of_an_iteration_are_compared_with_those_held_out(tmp_path: Path) -> None:
    words = ["corpus.fresh=true", "corpus.num_documents=3"]
    make = tasks(tmp_path, *sources(tmp_path, [LINES[2], LINES[5]]), *words)
    prepare.run(make("prepare"))
    prepare.run(make("prepare-01"))
    assert counts(make("prepare"), "heldout") == {"also in warm": 0}
    assert counts(make("prepare-01"), "corpus-01") == {"also in warm": 2, "also in heldout": 1}
    (line,) = state.remarks(make("prepare-01").paths, make("prepare-01").stage)
    assert line.startswith("corpus-01: 1 of 3 documents are also in heldout")


def test_a_corpus_that_is_made_again_brings_the_counts_of_the_others_up_to_date(tmp_path: Path) -> None:
    held_out = [LINES[0], LINES[7]]
    prepare.run(tasks(tmp_path, *sources(tmp_path, held_out))("prepare"))
    make = tasks(tmp_path, *sources(tmp_path, held_out), "corpus.offset=1")
    state.move_superseded(make("prepare").paths, [make("prepare").stage])
    before = (make("prepare").paths.documents("heldout") / documents_part(0)).stat().st_mtime_ns
    prepare.run(make("prepare"))
    assert counts(make("prepare"), "warm") == {"also in corpus": 1}
    assert counts(make("prepare"), "heldout") == {"also in corpus": 1, "also in warm": 1}
    assert (make("prepare").paths.documents("heldout") / documents_part(0)).stat().st_mtime_ns == before
    assert state.problem(make("prepare").paths, make("prepare").stage) is None


def test_a_stop_before_the_last_folder_is_done_loses_no_count(tmp_path: Path) -> None:
    make = tasks(tmp_path, *sources(tmp_path, LINES[:2]))
    paths = make("prepare").paths
    with pytest.raises(Interrupted):
        prepare.run(make("prepare", lambda: (paths.documents("warm") / manifest.NAME).exists()))
    prepare.run(make("prepare"))
    assert counts(make("prepare"), "warm") == {"also in corpus": 2}
    assert counts(make("prepare"), "heldout") == {"also in corpus": 2, "also in warm": 2}


def test_documents_of_an_earlier_release_are_read_and_say_nothing_of_what_they_share(tmp_path: Path) -> None:
    make = tasks(tmp_path, *sources(tmp_path, LINES[:2]))
    prepare.run(make("prepare"))
    folder = make("prepare").paths.documents("corpus")
    file = folder / documents_part(0)
    pq.write_table(pq.read_table(file).drop_columns(["hash"]), file)
    record = manifest.read(folder)
    assert record is not None
    manifest.write(
        folder, dataclasses.replace(record, files=(manifest.describe(file, record.files[0].counts),))
    )
    assert tables.read(file, tables.DOCUMENTS).num_rows == len(LINES)
    manifest.reopen(make("prepare").paths.documents("heldout"))
    prepare.run(make("prepare"))
    assert counts(make("prepare"), "heldout") == {"also in warm": 2}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.lists(texts, max_size=5), st.lists(st.sampled_from([" ", "\n", "\t "]), min_size=5, max_size=5))
def test_a_text_has_one_hash_however_it_is_cut_and_spaced(pieces: list[str], spaces: list[str]) -> None:
    whole = Document(text="".join(pieces))
    spaced = tuple(piece + space for piece, space in zip(pieces, spaces, strict=False))
    assert Document(text=tuple(pieces), thought="z").hash == Document(text=spaced).hash == whole.hash
    assert Document(text="".join(pieces) + "x").hash != whole.hash
