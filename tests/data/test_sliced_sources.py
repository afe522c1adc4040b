"""Slices of one source share out its documents, whatever kind of source it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import CorpusConfig
from lt_hpc.data.sources import check, documents, identity
from lt_hpc.errors import ConfigError
from lt_hpc.latent.slices import Share
from tests.data.test_sources import WRITERS, corpus, write_jsonl

COUNT = 103
ROWS = [{"text": f"Text {number}."} for number in range(COUNT)]


def numbers(config: CorpusConfig) -> list[int]:
    """Which of ROWS a corpus has."""
    return [int(str(document.text)[5:-1]) for document in documents(config, "sentences")]


@pytest.mark.parametrize("name", [*WRITERS, "hub"])
def test_slices_of_every_kind_of_source_have_each_document_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "hub":
        import datasets

        rows = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
        config = corpus("owner/name")
    else:
        config = corpus(WRITERS[name](tmp_path / name, ROWS))
    sliced = [dataclasses.replace(config, slices=text) for text in ("0 of 8", "1-4 of 8", "5-7 of 8")]
    for one in sliced:
        check(one, "corpus", "sentences", needs_thought=False)
    found = [numbers(one) for one in sliced]
    assert sorted(number for one in found for number in one) == list(range(COUNT))
    assert all(one == sorted(one) for one in found)
    assert all(12 * many <= len(one) <= 13 * many for one, many in zip(found, (1, 4, 3), strict=True))
    assert numbers(dataclasses.replace(sliced[1], offset=5, num_documents=11)) == found[1][5:16]
    assert numbers(dataclasses.replace(sliced[1], offset=99)) == []
    assert numbers(dataclasses.replace(sliced[1], seed=1)) != found[1]


@pytest.mark.parametrize("name", [*WRITERS, "builtin:chain"])
@pytest.mark.parametrize("more", [{}, {"slices": "1-4 of 8", "offset": 3, "num_documents": 29}])
def test_shares_of_every_kind_of_source_together_are_its_documents(
    tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    source = name if name.startswith("builtin:") else WRITERS[name](tmp_path / name, ROWS)
    config = dataclasses.replace(corpus(source), **({"num_documents": COUNT} | more))
    whole = list(documents(config, "sentences"))
    shares = [iter(list(documents(config, "sentences", Share(n, 3, 5)))) for n in range(3)]
    found = [next(shares[index // 5 % 3]) for index in range(len(whole))]
    assert found == whole
    assert [next(share, None) for share in shares] == [None] * 3


def test_the_same_rows_are_in_a_slice_whatever_file_they_are_in(tmp_path: Path) -> None:
    sources = [write(tmp_path / name, ROWS) for name, write in WRITERS.items()]
    found = [numbers(corpus(source, slices="3-4 of 7", seed=5)) for source in sources]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("source", ["builtin:chain", "builtin:routes", "builtin:gsm", "builtin:wordproblems"])
def test_slices_of_a_built_in_stream_are_of_that_stream(source: str) -> None:
    whole = [document.question for document in documents(corpus(source, num_documents=40), "given")]
    halves = [
        [
            document.question
            for document in documents(corpus(source, slices=f"{half} of 2", num_documents=20), "given")
        ]
        for half in (0, 1)
    ]
    assert sorted(map(str, halves[0] + halves[1])) == sorted(map(str, whole))
    later = documents(corpus(source, slices="1 of 2", offset=15, num_documents=5), "given")
    assert [document.question for document in later] == halves[1][15:]


def test_documents_added_at_the_end_leave_the_others_in_their_slices(tmp_path: Path) -> None:
    some, more = (
        numbers(corpus(write_jsonl(tmp_path / f"{count}.jsonl", ROWS[:count]), slices="0-2 of 9"))
        for count in (50, COUNT)
    )
    assert more[: len(some)] == some


def test_slices_are_part_of_what_a_source_is(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    plain = identity(corpus(path))
    assert "slices" not in plain  # as in earlier releases
    assert identity(corpus(path, slices="0 of 2")) != identity(corpus(path, slices="1 of 2")) != plain


def configured(*words: str) -> str:
    """The message with which settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(demo_file(), list(words))
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["13:17 of 20", "20 of 20", "5-4 of 20", "0/20", "0 of 20.0", "a", "0x0 of 20"]
)
def test_what_is_no_slice_is_refused_with_the_form_of_one(text: str) -> None:
    message = configured(f"heldout.slices={text}")
    assert message.endswith(
        f"heldout.slices='{text}': must be as '0 of 20' or '13-17 of 20', numbered from 0, of at most 100000"
    )


def test_slices_keep_what_was_typed_and_null_takes_all() -> None:
    config = load_config(demo_file(), ["corpus.slices=13-17 of 20", "warm.slices=null"])
    assert (config.corpus.slices, config.warm.slices, config.heldout.slices) == ("13-17 of 20", None, None)


def test_slices_of_one_source_that_are_cut_differently_are_refused() -> None:
    source = [f"{name}.source=owner/name" for name in ("corpus", "warm", "heldout")]
    columns = [
        f"{name}.{key}_column={key}"
        for name in ("corpus", "warm", "heldout")
        for key in ("question", "answer", "thought")
    ]
    seeds = ["corpus.seed=3", "warm.seed=3", "heldout.seed=3"]
    good = ["corpus.slices=1-7 of 8", "heldout.slices=0 of 8"]
    load_config(demo_file(), [*source, *columns, *seeds, *good])
    message = configured(*source, *columns, *seeds, "corpus.slices=1-7 of 8", "heldout.slices=0 of 9")
    assert "heldout.slices='0 of 9'" in message and "slices of 8 of the same source" in message
    message = configured(*source, *columns, *seeds, *good, "heldout.seed=4")
    assert "heldout.seed=4" in message and "corpus.seed=3; use one total and one seed" in message
    load_config(demo_file(), [*source, *columns, *seeds, *good, "heldout.seed=4", "heldout.split=test"])
