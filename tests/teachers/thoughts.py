"""What a teacher's answers leave in a run: the dialogue and the thoughts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lt_hpc.store import tables


def dialogues(thoughts: Path) -> tuple[list[tuple[int, int]], list[dict[str, Any]]]:
    """(chunk, seed) of every question that was begun, and the stored answers, over all blocks."""
    lines = [
        json.loads(line)
        for path in sorted(thoughts.glob("*/asked-*"))
        for line in path.read_text().splitlines()
    ]
    begun = [(line["chunk"], line["seed"] % 2**31) for line in lines if "seed" in line]  # 31 bits are sent
    return begun, [line for line in lines if "answer" in line]


def taught(thoughts: Path) -> dict[int, list[int]]:
    """Chunk -> ids of its thought, none where it has none."""
    rows = [row for path in thoughts.glob("*/part-*") for row in tables.read(path, tables.TAUGHT).to_pylist()]
    return {row["chunk"]: next(iter(row["answers"]), []) for row in rows}
