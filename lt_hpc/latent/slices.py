"""Which documents of a source belong together, by their ordinals alone: its slices, and the shares of tasks.

Slices are random: of every N consecutive documents each of the N slices has one; which is which, a keyed
hash of the ordinals decides. So a document is in exactly one slice, slices differ by at most one document,
nothing has to be counted or held, and documents that are added at the end of a source leave the others where
they are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lt_hpc.latent import seeds

MOST = 100_000
FORM = f"must be as '0 of 20' or '13-17 of 20', numbered from 0, of at most {MOST}"
_NUMBER = "(?:0|[1-9][0-9]{0,5})"
_TEXT = re.compile(rf"(?P<first>{_NUMBER})(?:-(?P<last>{_NUMBER}))? of (?P<total>{_NUMBER})")


@dataclass(frozen=True)
class Slices:
    """Slices number `first` to `last` (with it), from 0, of `total`."""

    first: int
    last: int
    total: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Share:
    """Of every `of` groups of `size` documents each, the one with the number `number`, from 0."""

    number: int
    of: int
    size: int

    def has(self, index: int) -> bool:
        """Whether the document with this index is in it."""
        return index // self.size % self.of == self.number

    def count(self, num_documents: int) -> int:
        """How many of the first `num_documents` are."""
        rounds, left = divmod(num_documents, self.of * self.size)
        return rounds * self.size + min(self.size, max(0, left - self.number * self.size))


def parse(text: str) -> Slices | None:
    """What `13-17 of 20` or `0 of 20` says; None for anything else."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    first, total = int(found["first"]), int(found["total"])
    slices = Slices(first, int(found["last"] or first), total)
    return slices if first <= slices.last < total <= MOST else None


def ordinals(slices: Slices, seed: int, start: int = 0) -> Iterator[int]:
    """The ordinals of the documents of some slices without the first `start` of them; rising, without end."""
    block, skipped = divmod(start, slices.count)
    for first in itertools.count(block * slices.total, slices.total):
        block_ordinals = range(first, first + slices.total)
        # By hashes alone: the streams of a generator may differ between versions of numpy.
        by_hash = sorted(
            block_ordinals, key=lambda ordinal: seeds.derive(seed, "slices", slices.total, ordinal)
        )
        yield from sorted(by_hash[slices.first : slices.last + 1])[skipped:]
        skipped = 0
