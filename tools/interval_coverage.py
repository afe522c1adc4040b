"""python tools/interval_coverage.py [--repeats 2000] [--seed 0]

How often the 95% intervals of lt_hpc/latent/intervals.py hold the truth, as a Markdown table: a line per
figure and kind of data, a column per number of documents. About two minutes.

Every kind of data is a population of 100,000 documents, and its truth the figure of all of them, known
without error. A repeat draws its documents from there, each independently of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from math import sqrt
from typing import NamedTuple

import numpy as np

from lt_hpc.latent import intervals, weights

POPULATION = 100_000
DOCUMENTS = (2, 3, 5, 12, 30, 100, 300)
SAMPLES = 8
ESS_SAMPLES = 16

Measure = tuple[float, intervals.Interval | None]


class Figure(NamedTuple):
    """`population` [documents, columns] is what `measure` is told of each document."""

    name: str
    measure: Callable[[np.ndarray], Measure]
    population: np.ndarray


def ratio(rows: np.ndarray) -> Measure:
    """Of (numerator, denominator)."""
    return intervals.ratio(rows[:, 0], rows[:, 1])


def positive_ratio(rows: np.ndarray) -> Measure:
    """Of (numerator, denominator), none below zero."""
    return intervals.positive_ratio(rows[:, 0], rows[:, 1])


def share(rows: np.ndarray) -> Measure:
    """Of (success,)."""
    return intervals.share(float(rows.sum()), len(rows))


def mean_share(rows: np.ndarray) -> Measure:
    """Of (successes, trials)."""
    return intervals.mean_share(rows[:, 0], rows[:, 1])


def share_difference(rows: np.ndarray) -> Measure:
    """Of (gained, lost)."""
    gained, lost = rows.sum(axis=0)
    return intervals.share_difference(int(gained), int(lost), len(rows))


class Chunks:
    """1 + Poisson(5) chunks in each document, of 16 to 128 tokens. What a chunk costs depends on its
    document."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        sizes = 1 + generator.poisson(5, POPULATION)
        self.document = np.repeat(np.arange(POPULATION), sizes)
        self.tokens = generator.integers(16, 129, len(self.document)).astype(float)
        noise = generator.normal(0, 1.5, len(self.tokens)) / np.sqrt(self.tokens)
        self.nats = (2.5 + self.of_documents(0.1) + noise) * self.tokens
        # How far the proposal is from the posterior: a few chunks are much harder than the others.
        self.spread = generator.gamma(2, 1.5, len(self.tokens)) * np.exp(self.of_documents(0.35))

    def of_documents(self, scale: float) -> np.ndarray:
        """[N] a normal effect of each chunk's document."""
        return self.generator.normal(0, scale, POPULATION)[self.document]

    def log_weights(self, samples: int, log_p: np.ndarray) -> np.ndarray:
        """[N, samples] of log-normal weights whose mean is p: the bound is skewed to the left."""
        spread = self.spread[:, None]
        normal = self.generator.standard_normal((len(log_p), samples))
        return np.asarray(log_p[:, None] + spread * normal - spread**2 / 2)

    def over(self, numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
        """[documents, 2] sums over the chunks of each document."""
        sums = [intervals.by_document(self.document, column) for column in (numerators, denominators)]
        return np.stack(sums, axis=1)


def ratios(generator: np.random.Generator) -> Iterator[Figure]:
    """Nats per token, means over chunks, and a share of dependent chunks."""
    chunks = Chunks(generator)
    tokens, ones = chunks.tokens, np.ones(len(chunks.tokens))
    yield Figure("nats per token, normal", ratio, chunks.over(chunks.nats, tokens))
    log_w = chunks.log_weights(SAMPLES, -chunks.nats)
    bound = weights.log_mean_exp(log_w)
    yield Figure(f"bound per token, K = {SAMPLES}", ratio, chunks.over(bound, tokens))
    better = -chunks.nats + (0.02 + chunks.of_documents(0.05)) * tokens
    change = weights.log_mean_exp(chunks.log_weights(SAMPLES, better)) - bound
    yield Figure("difference of two models' bounds", ratio, chunks.over(change, tokens))
    gain = weights.gain(log_w)
    yield Figure(
        f"gain per token, K = {SAMPLES} over {SAMPLES // 2}", positive_ratio, chunks.over(gain, tokens)
    )
    ess = weights.effective_sample_size(chunks.log_weights(ESS_SAMPLES, -chunks.nats))
    yield Figure(f"mean ESS, K = {ESS_SAMPLES}", ratio, chunks.over(ess, ones))
    extreme = np.stack([generator.gamma(0.3, 1.0, POPULATION), np.ones(POPULATION)], axis=1)
    yield Figure("extreme: gamma of shape 0.3", ratio, extreme)
    yield Figure("the same by its logarithm", positive_ratio, extreme)
    for one, other in ((0.2, 3.8), (1.0, 1.0)):
        of_document = generator.beta(one, other, POPULATION)
        cut = generator.binomial(SAMPLES, of_document[chunks.document]) / SAMPLES
        yield Figure(f"share of thoughts cut {one / (one + other)}", mean_share, chunks.over(cut, ones))


def shares(generator: np.random.Generator) -> Iterator[Figure]:
    """Accuracies, where a document is a trial."""
    uniform = (np.arange(POPULATION) + 0.5) / POPULATION
    for p in (0.05, 0.5, 0.9):
        yield Figure(f"accuracy {p}", share, (uniform < p)[:, None])
    for gained, lost in ((0.1, 0.05), (0.02, 0.02)):
        cells = np.stack([uniform < gained, uniform > 1 - lost], axis=1)
        yield Figure(f"difference of accuracies, gained {gained}, lost {lost}", share_difference, cells)
    # Documents from hard to easy, many of them near an end.
    ones = np.ones(POPULATION)
    for one, other in ((0.5, 0.5), (0.3, 2.7)):
        likelihood = generator.beta(one, other, POPULATION)
        sampled = generator.binomial(SAMPLES, likelihood) / SAMPLES
        mean = one / (one + other)
        answers = np.stack([sampled, ones], axis=1)
        yield Figure(f"accuracy {mean:.1f} of {SAMPLES} answers each", mean_share, answers)
        yield Figure(f"mean likelihood {mean:.1f}", mean_share, np.stack([likelihood, ones], axis=1))


def coverage(figure: Figure, documents: int, repeats: int, generator: np.random.Generator) -> float:
    """The share of `repeats` intervals that hold the truth."""
    truth, _ = figure.measure(figure.population)
    held = 0
    for _ in range(repeats):
        _, interval = figure.measure(figure.population[generator.integers(POPULATION, size=documents)])
        held += interval is not None and interval[0] <= truth <= interval[1]
    return held / repeats


def skewness(figure: Figure) -> float:
    """Of what a document adds to the error of the figure."""
    rows = figure.population.astype(float)
    truth, _ = figure.measure(figure.population)
    of_ratio = figure.measure in (ratio, positive_ratio, mean_share)
    error = rows[:, 0] - (truth * rows[:, 1] if of_ratio else rows[:, 1:].sum(axis=1))
    centred = error - error.mean()
    return float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    print(f"| documents | skewness | {' | '.join(map(str, DOCUMENTS))} |")
    print("|---" * (2 + len(DOCUMENTS)) + "|")
    for figures in (ratios(generator), shares(generator)):
        for figure in figures:
            found = [coverage(figure, count, options.repeats, generator) for count in DOCUMENTS]
            cells = " | ".join(f"{value:.3f}" for value in found)
            print(f"| {figure.name} | {skewness(figure):.1f} | {cells} |", flush=True)
    nominal, low = (sqrt(share * (1 - share) / options.repeats) for share in (intervals.LEVEL, 0.8))
    print(
        f"\n{options.repeats} repeats: a Monte-Carlo standard error of {nominal:.3f} at the nominal "
        f"{intervals.LEVEL}, of {low:.3f} at 0.8.\n"
        "Skewness: of what one document adds to the error. The extreme lines are of no printed figure: over\n"
        "few documents a sample without one of the rare large values cannot know of them. Above nominal:\n"
        "where successes are rare an interval can only hold the truth in almost all samples or in too few."
    )


if __name__ == "__main__":
    main()
