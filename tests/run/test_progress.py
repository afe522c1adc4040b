"""What a task says of how far it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_hpc.run.progress import Progress, pace


def test_a_task_tells_how_long_it_loaded_and_when_it_last_committed(tmp_path: Path) -> None:
    path = tmp_path / "progress" / "train-01.0.json"
    assert pace(path) == (None, None), "it has not begun"
    progress = Progress(path)
    progress.start(4, "steps")
    assert progress.setup is not None and pace(path) == (progress.setup, None)
    begun = progress.setup
    progress.ready()
    assert progress.setup > begun, "what is loaded later counts too"
    progress.advance(committed=False)
    assert (progress.kept, progress.saved) == (True, None), "a step is no checkpoint"
    progress.committed()
    saved = progress.saved
    progress.advance(3, committed=False)
    assert pace(path) == (progress.setup, saved) and saved is not None and saved > progress.setup


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"setup": "soon", "saved": None}), "{}"])
def test_a_damaged_file_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.json").write_text(text)
    assert pace(tmp_path / "one.json") == (None, None)
