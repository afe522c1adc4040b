"""python tools/bench_packing.py [--examples 1000000] [--seeds 3]

CPU seconds that packing takes and the share of positions it fills, on lengths like those of web
text with thoughts, of word problems and of the demo.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from lt_hpc.training import packing


def lengths(kind: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """(lengths, tokens of a row)."""
    if kind == "web text":
        return np.clip(rng.lognormal(6.2, 0.5, count), 60, 1900).astype(int), 2048
    if kind == "word problems":
        return np.clip(rng.normal(167, 40, count), 75, 306).astype(int), 512
    return rng.integers(13, 28, count), 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for kind in ("web text", "word problems", "demo"):
        seconds, shares = [], []
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            sizes, capacity = lengths(kind, options.examples, rng)
            order = packing.shuffled(options.examples, rng)
            started = time.process_time()
            rows = list(packing.pack(sizes, order, capacity))
            seconds.append(time.process_time() - started)
            shares.append(sizes.sum() / (capacity * len(rows)))
        print(
            f"{kind:14} {options.examples:,} examples, rows of {capacity}: "
            f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"filled {statistics.median(shares):.4f} ({min(shares):.4f} to {max(shares):.4f})"
        )


if __name__ == "__main__":
    main()
