"""How many thoughts each chunk gets in an E-step: the rule of `sample.allocation`."""

from __future__ import annotations

import numpy as np

from lt_hpc.latent.allocation import allocate
from lt_hpc.stages.task import Task
from lt_hpc.store import tables

PREVIOUS = "previous"
"""The role of the selection of the iteration before, where its ESS decides."""


def thoughts_per_chunk(task: Task, num_chunks: int) -> np.ndarray:
    """[chunks] int64. The same for every task of the stage, since all read the whole of the selection before;
    nothing of this iteration is looked at.

    Raises:
        IncompleteError: when that selection is not done.
    """
    num_samples = task.plan.config.sample.num_samples
    if PREVIOUS not in task.stage.inputs:
        return np.full(num_chunks, num_samples)
    ess, drawn = np.zeros(num_chunks), np.zeros(num_chunks, np.int64)
    for file in task.record(PREVIOUS).files:
        path = task.folder(PREVIOUS) / file.name
        table = tables.read(path, tables.SELECTED, ["chunk", "ess", "log_weights"])
        chunk = table["chunk"].to_numpy()
        ess[chunk] = table["ess"].to_numpy()
        drawn[chunk] = np.diff(tables.flat_lists(table["log_weights"])[1])
    return allocate(ess, drawn, num_samples)
