"""A folder that fills part by part, stopped and damaged on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.store import manifest
from lt_hpc.store.parts import Parts

NAMES = ["part-00000", "part-00001", "part-100000"]


def fill(folder: Path, fingerprint: str = "f", stop_after: int | None = None) -> list[str]:
    """An attempt to write all parts; the names of those that were written."""
    parts, written = Parts(folder, "stage", fingerprint), []
    for name in NAMES:
        if len(written) == stop_after:
            return written
        if parts.get(name) is None:
            (folder / name).write_text(f"{name} of {fingerprint}")
            parts.add(manifest.describe(folder / name, {"rows": 2}), 1.0)
            written.append(name)
    parts.finish()
    return written


@pytest.mark.parametrize("stop_after", [1, 2])
def test_what_is_recorded_is_not_made_again(tmp_path: Path, stop_after: int) -> None:
    assert fill(tmp_path, stop_after=stop_after) == NAMES[:stop_after]
    assert manifest.problem(tmp_path, "f") is not None, "it must not count as done"
    assert fill(tmp_path) == NAMES[stop_after:]
    found = manifest.verified(tmp_path, "f")
    assert [entry.name for entry in found.files] == NAMES
    assert (found.counts, found.seconds) == ({"rows": 6}, 3.0)
    assert fill(tmp_path) == [] and Parts(tmp_path, "stage", "f").complete


def test_a_part_behind_a_damaged_one_stays_recorded(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / NAMES[0]).write_text("something of the same size"[:15])
    (tmp_path / NAMES[1]).unlink()
    assert not Parts(tmp_path, "stage", "f").complete
    assert fill(tmp_path, stop_after=1) == NAMES[:1]
    assert fill(tmp_path) == NAMES[1:2]


def test_parts_for_another_fingerprint_are_made_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    assert fill(tmp_path, "other") == NAMES
    assert manifest.problem(tmp_path, "other") is None


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    fill(tmp_path, stop_after=1)
    leftover = tmp_path / ".tmp-part-00001.123"
    leftover.write_text("half")
    Parts(tmp_path, "stage", "f")
    assert not leftover.exists()
