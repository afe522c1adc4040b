"""Documents as token ids: their texts and thoughts through the tokenizer, and what of them can be used."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lt_hpc.config.schema import ChunkingConfig
from lt_hpc.data import chunking
from lt_hpc.data.encoding import Encoded, Encoder
from lt_hpc.data.sources import Document


@dataclass(frozen=True)
class Row:
    """Token ids of a document: its question, its chunks (of `num_texts` texts, some of which may have
    been split), and the teacher's thoughts.

    Attributes:
        text: of each chunk, the text that it is of.
        unknown: of each text, and first of the question, the tokens that are unknown, with its thought's.
    """

    given: bool
    question: list[int]
    chunks: list[list[int]]
    num_bytes: list[int]
    text: list[int]
    num_texts: int
    thoughts: list[list[int]]
    unknown: list[int]

    def reason(self, needs_thought: bool) -> str | None:
        """Why the document is dropped, or None."""
        if not self.chunks:
            return "empty or only whitespace"
        if self.given and len(self.chunks) > self.num_texts:
            return "answer longer than chunking.max_chunk_tokens"
        if not needs_thought:
            return None
        if not any(self.thoughts):
            return "no teacher thought"
        if len(self.thoughts) != self.num_texts:
            return "not one teacher thought per chunk"
        return None

    def teachable(self, max_thought_tokens: int) -> tuple[Row, list[str]]:
        """The document without the texts that are longer than a chunk, and those whose thought is too long or
        empty, as where a teacher failed; for each of these the reason. What follows them has the others alone
        as its prefix; the end of a document goes with its last text."""
        faults, pieces = {}, Counter(self.text)
        for index, thought in enumerate(self.thoughts):
            if pieces[index] > 1:
                faults[index] = "chunk with a teacher thought too long"
            elif not thought:
                faults[index] = "no teacher thought"
            elif len(thought) >= max_thought_tokens:
                faults[index] = "teacher thought too long"
        kept = [n for n, index in enumerate(self.text) if index not in faults]
        row = dataclasses.replace(
            self,
            chunks=[self.chunks[n] for n in kept],
            num_bytes=[self.num_bytes[n] for n in kept],
            text=list(range(len(kept))),
            num_texts=len(kept),
            thoughts=[self.thoughts[self.text[n]] for n in kept],
            unknown=self.unknown[:1] + [self.unknown[1 + self.text[n]] for n in kept],
        )
        return row, list(faults.values())


def tokenise(
    batch: list[Document], encoder: Encoder, settings: ChunkingConfig, taught: bool, eos: int | None
) -> Iterator[Row]:
    """Token ids of every document, all texts of the batch through the tokenizer at once; `taught`
    ones with their teacher's thoughts."""
    texts: list[str] = []
    inside: list[bool] = []
    shapes: list[tuple[list[int], int]] = []
    for document in batch:
        pieces = _pieces(document, settings, taught)
        thoughts = _thoughts(document) if pieces and taught else []
        texts += [*pieces, *thoughts]
        inside += [settings.mode != "given" and index > 0 for index in range(len(pieces))]
        inside += [False] * len(thoughts)
        shapes.append(([len(text.encode()) for text in pieces], len(thoughts)))
    encoded = iter(encoder.encode(texts, inside))
    for num_bytes, num_thoughts in shapes:
        of_texts = list(itertools.islice(encoded, len(num_bytes)))
        yield _row(of_texts, num_bytes, list(itertools.islice(encoded, num_thoughts)), settings, eos)


def _pieces(document: Document, settings: ChunkingConfig, taught: bool) -> list[str]:
    """The texts of one document: its chunks, with the question first when the split is given."""
    if settings.mode == "given":
        question, answer = document.question or "", document.answer or ""
        return [question, answer] if question.strip() and answer.strip() else []
    if isinstance(document.text, tuple):
        return chunking.join_blank(document.text)
    if taught:  # one thought, one chunk
        return [document.text] if document.text.strip() else []
    return chunking.chunk_text(
        document.text,
        mean=settings.mean_sentences,
        low=settings.min_sentences,
        high=settings.max_sentences,
        shifted=settings.law == "shifted",
    )


def _thoughts(document: Document) -> list[str]:
    if document.thought is None:
        return []
    thoughts = [document.thought] if isinstance(document.thought, str) else document.thought
    return [thought if thought.strip() else "" for thought in thoughts]


def _row(
    pieces: list[Encoded],
    num_bytes: list[int],
    thoughts: list[Encoded],
    settings: ChunkingConfig,
    eos: int | None,
) -> Row:
    """Of a document's pieces and thoughts, as ids."""
    given = settings.mode == "given" and bool(pieces)
    question = pieces[:1] if given else []
    pieces, num_bytes = pieces[given:], num_bytes[given:]
    # Blank texts of a list are empty, and a normalising tokenizer may leave nothing of invisible characters.
    kept = [index for index, piece in enumerate(pieces) if piece.ids]
    if len(thoughts) == len(pieces):
        thoughts = [thoughts[index] for index in kept]
    pieces, num_bytes = [pieces[index] for index in kept], [num_bytes[index] for index in kept]
    unknown = [sum(one.unknown for one in question)]
    unknown += [one.unknown for one in pieces]
    for index, thought in enumerate(thoughts[: len(pieces)]):
        unknown[1 + index] += thought.unknown
    chunks: list[list[int]] = []
    sizes: list[int] = []
    of: list[int] = []
    for index, (piece, size) in enumerate(zip(pieces, num_bytes, strict=True)):
        # The end of a document is part of its last chunk.
        ids = [*piece.ids, eos] if eos is not None and index == len(pieces) - 1 else piece.ids
        split = chunking.split_long(ids, settings.max_chunk_tokens)
        shares = [size * len(one) // len(ids) for one in split]
        shares[-1] += size - sum(shares)
        chunks += split
        sizes += shares
        of += [index] * len(split)
    ids_of = [one.ids for one in thoughts]
    return Row(given, question[0].ids if given else [], chunks, sizes, of, len(pieces), ids_of, unknown)
