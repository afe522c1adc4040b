"""What an evaluation measured of each held-out chunk, as arrays: for its own figures, and for comparing two
models chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lt_hpc.store import tables

CORRECT = ("thought", "direct", "majority")


@dataclass(frozen=True)
class Measured:
    """`tables.MEASURED` of N chunks as arrays [N]; NLL (positive) and log-weights in nats per chunk.

    `log_weights` [N, K] and `nll_marked` are None of a model that was trained without markers. `estimated`
    [M]: rows with many log-weights, `many_log_weights` [M, S]. `correct`: bool [N] for each of CORRECT,
    `correct_sampled` [N, S] bool, `likelihood_prior` [N]; empty where nothing was asked.
    """

    chunk: np.ndarray
    document: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    nll: np.ndarray
    nll_marked: np.ndarray | None
    log_weights: np.ndarray | None
    cut: np.ndarray | None
    estimated: np.ndarray
    many_log_weights: np.ndarray
    correct: dict[str, np.ndarray]
    correct_sampled: np.ndarray
    likelihood_prior: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Measured:
        """From a table whose lists are all of one length."""
        marked = table["log_weights"].null_count == 0
        many = table["many_log_weights"]
        return cls(
            **{name: table[name].to_numpy() for name in ("chunk", "document", "tokens", "bytes", "nll")},
            nll_marked=table["nll_marked"].to_numpy() if marked else None,
            log_weights=_lists(table["log_weights"]) if marked else None,
            cut=table["cut"].to_numpy() if marked else None,
            estimated=np.flatnonzero(many.is_valid().to_numpy()),
            many_log_weights=_lists(many.drop_null()),
            correct={name: table[f"correct_{name}"].drop_null().to_numpy() for name in CORRECT},
            correct_sampled=_lists(table["correct_sampled"].drop_null()),
            likelihood_prior=table["likelihood_prior"].drop_null().to_numpy(),
        )


def read(files: Sequence[Path]) -> Measured:
    """From the blocks of an evaluation, in their order.

    Raises:
        IncompleteError: when one has other columns, as of an earlier release.
    """
    return Measured.of(pa.concat_tables([tables.read(path, tables.MEASURED) for path in files]))


def _lists(column: pa.ChunkedArray) -> np.ndarray:
    """[rows, values] of lists of one length."""
    return tables.flat_lists(column)[0].reshape(len(column), -1) if len(column) else np.zeros((0, 0))
