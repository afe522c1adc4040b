"""The tool reads the thoughts that a run has selected, and nothing outside of its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import lt_hpc
from lt_hpc.config.load import config_to_yaml, demo_file, load_config
from lt_hpc.data import routes_task
from lt_hpc.store import tables
from lt_hpc.store.paths import RunPaths, selected_part
from tools.routes_thoughts import lines, thoughts_of


def test_right_thoughts_and_their_repeated_steps_are_counted(tmp_path: Path) -> None:
    """Chunk 0 has a right thought that states one of its steps twice, chunk 1 one that states none twice
    with three quarters of its loss, and a wrong one."""
    paths = RunPaths(tmp_path)
    paths.selected(1).mkdir(parents=True)
    paths.base.mkdir()
    shutil.copy(Path(lt_hpc.__file__).parent / "data" / "demo_base" / "tokenizer.json", paths.base)
    config = load_config(
        demo_file(), ["corpus.source=builtin:routes", "corpus.seed=5", "corpus.num_documents=2"]
    )
    paths.config.write_text(config_to_yaml(config))
    encode = Tokenizer.from_file(str(paths.base / "tokenizer.json")).encode
    first, second = (problem.question for problem in routes_task.problems(5, 2))
    once = next(text for text in routes_task.thoughts(first) if text.split().count("copy") == 1)
    never = next(text for text in routes_task.thoughts(second) if "copy" not in text)
    rows = {
        "chunk": [0, 1],
        "samples": [[0], [0, 1]],
        "thoughts": [[encode(once).ids], [encode(never).ids, encode(first).ids]],
        "loss_weights": [[1.0], [0.75, 0.25]],
        "log_weights": [[0.0], [0.0, 0.0]],
        "ess": [1.0, 2.0],
    }
    tables.write(paths.selected(1) / selected_part(0), tables.SELECTED, rows)
    right, stated = thoughts_of(paths, 1)
    steps = len(first.split()) - 1 + 0.75 * (len(second.split()) - 1)
    assert right == pytest.approx(1.75 / 2)
    assert stated.value == pytest.approx(1 / steps)
    assert list(lines(tmp_path)) == [f"| {tmp_path} | 1 | 0.875 | {stated} |"]
