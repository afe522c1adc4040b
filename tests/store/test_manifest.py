"""A folder is done when its manifest says so, for these settings, and every file verifies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_hpc.errors import IncompleteError
from lt_hpc.store import atomic, manifest
from lt_hpc.store.fingerprints import fingerprint
from lt_hpc.store.manifest import Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished folder of two files, one of them in a folder of its own."""
    root = tmp_path / "out"
    atomic.write_text(root / "data.txt", "some text")
    atomic.write_text(root / "deep" / "more.txt", "more")
    entries = [manifest.describe(root / name, {"rows": 1}, root) for name in ("data.txt", "deep/more.txt")]
    manifest.write(root, Manifest("test", "abc", True, tuple(entries), {"rows": 2}, 1.5, {"mean": 0.5}))
    return root


def edit(folder: Path, **changes: object) -> None:
    path = folder / manifest.NAME
    path.write_text(json.dumps(atomic.sealed({**atomic.read_sealed(path), **changes})))


def flip(path: Path) -> None:
    """One digit of the counts."""
    path.write_text(path.read_text().replace('"rows": 2', '"rows": 3'))


def test_a_finished_folder_verifies_and_reads_back(folder: Path) -> None:
    assert manifest.problem(folder, "abc") is None
    found = manifest.verified(folder, "abc")
    assert found == manifest.read(folder)
    assert [(entry.name, entry.bytes, entry.counts) for entry in found.files] == [
        ("data.txt", 9, {"rows": 1}),
        ("deep/more.txt", 4, {"rows": 1}),
    ]
    assert (found.counts, found.seconds, found.statistics) == ({"rows": 2}, 1.5, {"mean": 0.5})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "data.txt").unlink(), "data.txt is missing"),
        (lambda f: (f / "data.txt").write_text("some tex"), "8 bytes, its manifest says 9"),
        (lambda f: (f / "data.txt").write_text(""), "0 bytes"),
        (lambda f: (f / "deep" / "more.txt").unlink(), "more.txt is missing"),
        (lambda f: (f / "manifest.json").unlink(), "no manifest"),
        (lambda f: (f / "manifest.json").write_text("{"), "can not be read"),
        (lambda f: (f / "manifest.json").write_text(""), "can not be read"),
        (lambda f: (f / "manifest.json").write_text("[]"), "can not be read"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), "can not be read"),
        (lambda f: edit(f, format=manifest.FORMAT + 1), "can not be read"),
        (lambda f: edit(f, files=None), "can not be read"),
        (lambda f: edit(f, unheard_of=1), "can not be read"),
        (lambda f: edit(f, files=[{"name": "data.txt", "bytes": 5}]), "can not be read"),
        (lambda f: edit(f, files=["data.txt"]), "can not be read"),
        (lambda f: flip(f / "manifest.json"), "can not be read"),
        (lambda f: edit(f, complete=False), "not finished"),
        (lambda f: edit(f, fingerprint="abd"), "other settings or inputs"),
    ],
)
def test_any_damage_is_noticed_and_named(folder: Path, damage: Callable[[Path], object], reason: str) -> None:
    damage(folder)
    assert reason in str(manifest.problem(folder, "abc"))
    with pytest.raises(IncompleteError, match=reason):
        manifest.verified(folder, "abc", checksums=False)


@pytest.mark.parametrize("position", [0, 8])
def test_a_flipped_bit_is_noticed_by_the_checksum(folder: Path, position: int) -> None:
    path = folder / "data.txt"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert "data.txt does not match its checksum" in str(manifest.problem(folder, "abc", checksums=True))
    assert manifest.problem(folder, "abc", checksums=False) is None, "sizes alone are compared"
    with pytest.raises(IncompleteError, match="checksum; the next launch"):
        manifest.verified(folder, "abc")
    assert "not finished" in str(manifest.problem(folder, "abc")), "what is read and bad is done no more"


def test_a_folder_that_is_not_there_is_not_done(tmp_path: Path) -> None:
    assert "no manifest" in str(manifest.problem(tmp_path / "nothing", "abc"))
    (tmp_path / "file").write_text("")
    assert "no manifest" in str(manifest.problem(tmp_path / "file", "abc"))


def test_a_reopened_folder_is_unfinished_and_still_lists_its_files(folder: Path) -> None:
    before = manifest.verified(folder, "abc")
    manifest.reopen(folder)
    after = manifest.read(folder)
    assert after is not None
    assert not after.complete and after.files == before.files
    assert "not finished" in str(manifest.problem(folder, "abc"))


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), object(), {1, 2}, b"bytes", Path("a"), 1j, [[object()]]],
)
def test_a_fingerprint_refuses_what_it_cannot_hold_exactly(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        fingerprint("stage", {"key": value}, {})


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
settings = st.dictionaries(st.text(max_size=8), st.one_of(scalars, st.text(max_size=8), st.lists(scalars)))


@given(settings)
def test_the_order_of_the_settings_does_not_matter(identity: dict[str, object]) -> None:
    backwards = dict(reversed(identity.items()))
    assert fingerprint("stage", identity, {}) == fingerprint("stage", backwards, {})


def test_stage_settings_and_inputs_all_count() -> None:
    variants = [
        ("a", {"k": 1}, {"x": "1"}),
        ("b", {"k": 1}, {"x": "1"}),
        ("a", {"k": 2}, {"x": "1"}),
        ("a", {"k": "1"}, {"x": "1"}),
        ("a", {"k": None}, {"x": "1"}),
        ("a", {"j": 1}, {"x": "1"}),
        ("a", {"k": 1}, {"x": "2"}),
        ("a", {"k": 1}, {"y": "1"}),
        ("a", {}, {"k": "1", "x": "1"}),
    ]
    found = [fingerprint(*variant) for variant in variants]
    assert len(set(found)) == len(variants)
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in found)
