"""Figures of more chunks than fit into memory, from some of them after the other.

Pure. The same figures as those of all at once, up to rounding, which depends on how the chunks are divided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lt_hpc.latent import diagnostics, intervals


@dataclass
class _Spread:
    """Of some samples of F figures: how many, their sums [F], and their squared deviations from their means
    [F]."""

    count: int
    sums: np.ndarray
    squares: np.ndarray

    def add(self, other: _Spread) -> None:
        """Both together (Chan, Golub and LeVeque 1983)."""
        apart = other.sums / other.count - self.sums / self.count
        count = self.count + other.count
        self.squares = self.squares + other.squares + apart**2 * (self.count * other.count / count)
        self.count, self.sums = count, self.sums + other.sums


class Documents:
    """Means over chunks of F figures with intervals over documents, as `intervals.ratio` of sums over
    documents to their numbers of chunks gives them. Chunks come in order, those of a document one after the
    other."""

    def __init__(self) -> None:
        self._of_size: dict[int, _Spread] = {}
        self._open: tuple[int, int, np.ndarray] | None = None
        """The document that may go on: its name, chunks and sums [F]."""

    def add(self, documents_N: np.ndarray, values_FN: np.ndarray) -> None:
        """N > 0 more chunks: their documents and figures."""
        starts = np.append(0, np.flatnonzero(np.diff(documents_N)) + 1)
        sizes = np.diff(starts, append=len(documents_N))
        sums = np.add.reduceat(values_FN, starts, axis=1)
        if self._open is not None:
            name, size, before = self._open
            if name == documents_N[0]:
                sizes[0] += size
                sums[:, 0] += before
            else:
                self._close(np.array([size]), before[:, None])
        self._close(sizes[:-1], sums[:, :-1])
        self._open = int(documents_N[-1]), int(sizes[-1]), sums[:, -1]

    def ratios(self) -> tuple[int, list[tuple[float, intervals.Interval | None]]]:
        """Number of documents, and the mean and interval of each figure. No more chunks can be added."""
        if self._open is not None:
            self._close(np.array([self._open[1]]), self._open[2][:, None])
            self._open = None
        size = np.array(list(self._of_size), float)[:, None]
        spreads = list(self._of_size.values())
        count = np.array([one.count for one in spreads], float)[:, None]
        sums, squares = (np.stack([getattr(one, name) for one in spreads]) for name in ("sums", "squares"))
        documents, chunks = int(count.sum()), float((count * size).sum())
        values = sums.sum(axis=0) / chunks
        if documents < 2:
            return documents, [(float(value), None) for value in values]
        # Without a document the ratio differs by (value * size - sum) / (chunks - size).
        left = chunks - size
        differs = (values * size - sums / count) / left
        mean = (count * differs).sum(axis=0) / documents
        spread = (count * (differs - mean) ** 2 + squares / left**2).sum(axis=0)
        errors = np.sqrt((documents - 1) / documents * spread)
        found = zip(values.tolist(), errors.tolist(), strict=True)
        return documents, [(value, intervals.around(value, error, documents)) for value, error in found]

    def _close(self, sizes_D: np.ndarray, sums_FD: np.ndarray) -> None:
        """Count documents that are whole: apart by their size, since the jackknife leaves each out of all."""
        different, of = np.unique(sizes_D, return_inverse=True)
        counts = np.bincount(of)
        totals = np.stack([np.bincount(of, weights=row) for row in sums_FD], axis=1)
        deviations = sums_FD - (totals / counts[:, None])[of].T
        squares = np.stack([np.bincount(of, weights=row**2) for row in deviations], axis=1)
        for place, size in enumerate(different.tolist()):
            spread = _Spread(int(counts[place]), totals[place], squares[place])
            if size in self._of_size:
                self._of_size[size].add(spread)
            else:
                self._of_size[size] = spread


class Correlation:
    """`diagnostics.correlation` of two columns."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._means = np.zeros(2)
        self._products = np.zeros((2, 2))

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """N > 0 more of each."""
        if not self._count:
            self._first = np.array([one[0], other[0]], float)
        both = np.stack([one, other]) - self._first[:, None]  # so that one that never varies is exactly zero
        means, count = both.mean(axis=1), self._count + len(one)
        both -= means[:, None]
        apart = means - self._means
        self._products = (
            self._products + both @ both.T + np.outer(apart, apart) * (self._count * len(one) / count)
        )
        self._means = self._means + apart * (len(one) / count)
        self._count = count

    def value(self) -> float | None:
        """None where either does not vary."""
        one, other = self._products.diagonal()
        if self._count < 2 or one == 0 or other == 0:
            return None
        return float(np.clip(self._products[0, 1] / np.sqrt(one) / np.sqrt(other), -1, 1))


class Tail:
    """`diagnostics.pareto_k` of at most `most` log-weights."""

    def __init__(self, most: int) -> None:
        self._size = diagnostics.tail_size(most) + 1
        self._count = 0
        self._largest = np.zeros(0)

    def add(self, log_w: np.ndarray) -> None:
        """More of the log-weights; those that are not finite are not counted."""
        finite = log_w[np.isfinite(log_w)]
        self._count += len(finite)
        if len(self._largest) == self._size:
            finite = finite[finite > self._largest.min()]
        every = np.concatenate([self._largest, finite])
        if len(every) > self._size:
            every = np.partition(every, -self._size)[-self._size :]
        self._largest = every

    def pareto_k(self) -> float:
        return diagnostics.pareto_k_of_largest(np.sort(self._largest), self._count)
