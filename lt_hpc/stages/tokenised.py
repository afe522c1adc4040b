"""Documents as rows of a table of token ids, by this process or by several: the same rows in the same order.

Documents go in groups of about as much text, so what is held does not depend on how long they are, unless a
single one is longer. Processes are started only where there is more to do than their start takes.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa

from lt_hpc.cluster.signals import STOP_SIGNALS, die_with_parent
from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.data.encoding import Encoder
from lt_hpc.data.sources import Document
from lt_hpc.data.tokenising import Row, tokenise
from lt_hpc.errors import ConfigError
from lt_hpc.latent.cost import longest_sequence
from lt_hpc.latent.layout import NUM_JOINT_MARKERS, longest_chunk
from lt_hpc.stages.task import read_vocabulary
from lt_hpc.store import tables
from lt_hpc.store.counts import DROPPED, LEFT_OUT, UNKNOWN_TOKENS

GROUP_CHARACTERS = 1 << 20
"""Of a group of documents, about: a second of work, and some tens of MB while it is tokenised."""
ALONE = 2
"""Groups that the first process does by itself: to start another one takes as long as one or two of them."""


@dataclass(frozen=True)
class Group:
    """Consecutive documents of one part file, from its document `first` on; `last` ones of it."""

    part: int
    first: int
    documents: list[Document]
    last: bool


@dataclass(frozen=True)
class Tokenised:
    """The documents of a group that are kept, as rows of `tables.DOCUMENTS` whose ids count from 0, what was
    counted of all of them, and a piece of text that the vocabulary has no token for, or None."""

    table: pa.Table
    counts: Counter[str]
    unknown_example: str | None


def groups(documents: Iterable[Document], part_documents: int) -> Iterator[Group]:
    """All documents, in part files of `part_documents` each but for the last one."""
    part = first = size = 0
    waiting: list[Document] = []
    for document in documents:
        waiting.append(document)
        size += _characters(document)
        full = first + len(waiting) == part_documents
        if full or size >= GROUP_CHARACTERS:
            yield Group(part, first, waiting, full)
            part, first = (part + 1, 0) if full else (part, first + len(waiting))
            waiting, size = [], 0
    if first or waiting:
        yield Group(part, first, waiting, True)


def _characters(document: Document) -> int:
    texts = (document.text, document.thought or "", document.question or "", document.answer or "")
    return sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)


class Tokeniser:
    """What a process needs to tokenise documents of a run: `base` is the folder of its base model."""

    def __init__(self, base: Path, config: Config) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # several processes are what goes on at the same time
        self.base, self.config = base, config
        self.encoder = Encoder(base_model.load_tokenizer(base, config.model))
        self.vocabulary = read_vocabulary(base)

    @cached_property
    def longest(self) -> int | None:
        """Tokens that the base has positions for."""
        return longest_sequence(json.loads((self.base / "config.json").read_text()))

    def __call__(self, name: str, documents: list[Document]) -> Tokenised:
        """Documents of the folder `name`.

        Raises:
            ConfigError: when a text can't be tokenised, or an answer would have no room.
        """
        config, taught = self.config, name == "warm" and self.config.warm_is_taught
        counts: Counter[str] = Counter()
        columns: dict[str, list[Any]] = {name: [] for name in tables.DOCUMENTS.names}
        self.encoder.unknown_example = None  # of this group
        rows = tokenise(documents, self.encoder, config.chunking, taught, self.vocabulary.eos)
        for index, (document, row) in enumerate(zip(documents, rows, strict=True)):
            counts["documents"] += 1
            reason = row.reason(taught)
            if taught and reason is None:
                row, faults = row.teachable(config.sample.max_thought_tokens)
                reason = None if row.chunks else faults[0]
                counts.update(f"{LEFT_OUT}{fault}" for fault in faults if reason is None)
            if reason:
                counts[f"{DROPPED}{reason}"] += 1
                continue
            if row.given and name == "heldout":
                self._check_answer(row)
            columns["document"].append(index)
            columns["first_chunk"].append(counts["chunks"])
            columns["context"].append(row.question)
            columns["tokens"].append([token for chunk in row.chunks for token in chunk])
            columns["chunk_lengths"].append([len(chunk) for chunk in row.chunks])
            columns["chunk_bytes"].append(row.num_bytes)
            columns["thoughts"].append(row.thoughts)
            columns["hash"].append(document.hash)
            counts["chunks"] += len(row.chunks)
            counts["tokens"] += len(row.question) + sum(map(len, row.chunks))
            counts["thought tokens"] += sum(map(len, row.thoughts))
            counts[UNKNOWN_TOKENS] += sum(row.unknown)
        table = tables.table(tables.DOCUMENTS, columns)
        return Tokenised(table, counts, self.encoder.unknown_example)

    def _check_answer(self, row: Row) -> None:
        """A question, a thought and the longest answer that may be generated need a position each."""
        config, bos = self.config, self.vocabulary.bos is not None
        thought, answer = config.sample.max_thought_tokens, config.evaluate.max_answer_tokens
        room = longest_chunk(config.model.context_length, thought) - len(row.chunks[0])
        needed = min(len(row.question) + bos, room) + NUM_JOINT_MARKERS + thought + answer
        if self.longest is not None and needed > self.longest:
            raise ConfigError(
                f"evaluate.max_answer_tokens={answer}: with its question and thought an answer may need "
                f"{needed} positions, the model has {self.longest}: lower it, or model.context_length"
            )


_tokeniser: Tokeniser | None = None
"""Of a process that was started to tokenise."""


def _begin(parent: int, tokeniser: Tokeniser) -> None:
    global _tokeniser
    die_with_parent(parent)
    _tokeniser = tokeniser


def _tokenised(name: str, documents: list[Document]) -> Tokenised:
    assert _tokeniser is not None
    return _tokeniser(name, documents)


class Tokenisers:
    """As many processes as the task has threads (OMP_NUM_THREADS), and this one, which reads and writes."""

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._own, self._alone = tokeniser, ALONE
        self._processes = int(os.environ.get("OMP_NUM_THREADS") or 1)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Tokenisers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def each(
        self, name: str, of: Iterable[Group], needed: Callable[[Group], bool]
    ) -> Iterator[tuple[Group, Tokenised | None]]:
        """All groups in their order, tokenised where that is needed. What goes wrong in reading them comes
        after those that were read before."""
        waiting: deque[tuple[Group, Future[Tokenised] | None]] = deque()
        reading, wrong = iter(of), None
        while True:
            try:
                group = next(reading, None)
            except Exception as error:
                group, wrong = None, error
            if group is None:
                break
            waiting.append((group, self._begun(name, group.documents) if needed(group) else None))
            while len(waiting) > (2 * self._processes if self._pool else 0):
                yield _finished(waiting)
        while waiting:
            yield _finished(waiting)
        if wrong is not None:
            raise wrong

    def _begun(self, name: str, documents: list[Document]) -> Future[Tokenised]:
        if self._processes > 1 and not self._alone:
            return self._submit(name, documents)
        self._alone = max(0, self._alone - 1)
        done: Future[Tokenised] = Future()
        done.set_result(self._own(name, documents))
        return done

    def _submit(self, name: str, documents: list[Document]) -> Future[Tokenised]:
        if self._pool is None:
            # They take the tokenizer as it was loaded here: to look for its class imports torch and more.
            begin = (os.getpid(), self._own)
            self._pool = ProcessPoolExecutor(
                self._processes, get_context("spawn"), initializer=_begin, initargs=begin
            )
        # Processes that are started here inherit what is blocked: a signal that asks the whole job to stop is
        # this one's to answer.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return self._pool.submit(_tokenised, name, documents)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _finished(
    waiting: deque[tuple[Group, Future[Tokenised] | None]],
) -> tuple[Group, Tokenised | None]:
    group, future = waiting.popleft()
    return group, None if future is None else future.result()
