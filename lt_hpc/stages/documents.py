"""The documents of a folder on their way from their source into part files of token ids.

A part file holds PART_DOCUMENTS documents, however many tasks make them.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lt_hpc.config.schema import CORPORA, CorpusConfig
from lt_hpc.data import base_model, sources
from lt_hpc.errors import ConfigError
from lt_hpc.latent.slices import Share
from lt_hpc.run.build import build_plan
from lt_hpc.stages.overlap import Overlap
from lt_hpc.stages.task import Task
from lt_hpc.stages.tokenised import Group, Tokenised, Tokenisers, groups
from lt_hpc.store import manifest, tables
from lt_hpc.store.counts import UNKNOWN_TOKENS, dropped, left_out, num_left_out
from lt_hpc.store.manifest import FileEntry
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import documents_part, relative_paths

PART_DOCUMENTS = 4096
ROW_GROUP_TOKENS = 1 << 22

OfPart = Iterator[tuple[Group, Tokenised | None]]
"""The groups of a part, None in the place of what is not needed."""


@dataclass
class Documents:
    """The documents of the folder `name` that a task reads: all of them, or a `share` of the parts.

    Attributes:
        counts: of all parts that have been counted.
        unknown_example: a piece of text that the vocabulary has no token for.
    """

    task: Task
    name: str
    share: Share | None = None
    counts: Counter[str] = field(default_factory=Counter)
    unknown_example: str | None = None

    @property
    def corpus(self) -> CorpusConfig:
        """Where they come from: each iteration's fresh ones follow those before."""
        config = self.task.plan.config
        if self.name in CORPORA:
            return getattr(config, self.name)  # type: ignore[no-any-return]
        assert config.corpus.num_documents is not None  # checked with the configuration
        skipped = (self.task.stage.iteration - 1) * config.corpus.num_documents
        return dataclasses.replace(config.corpus, offset=config.corpus.offset + skipped)

    def fill(self, parts: Parts, tokenisers: Tokenisers) -> None:
        """Make what of `parts` is missing, and count them all. In a share each part counts its chunks from 0,
        and nothing is judged: too little of it may be usable where enough of all is.

        Raises:
            ConfigError: when the source can't be read, or too little of it can be used.
            Interrupted: between two parts, when a signal asked the task to stop.
        """
        stream = sources.documents(self.corpus, self.task.plan.config.chunking.mode, self.share)
        tokenised = tokenisers.each(
            self.name,
            groups(stream, PART_DOCUMENTS),
            lambda group: parts.get(documents_part(self._number(group.part))) is None,
        )
        started = time.monotonic()
        for nth, of_part in itertools.groupby(tokenised, lambda one: one[0].part):
            self.task.stop_if_asked()
            part = self._number(nth)
            path = parts.folder / documents_part(part)
            entry = parts.get(path.name)
            if entry is None:
                first_chunk = self.counts["chunks"] if self.share is None else 0
                entry = self._write(path, part, of_part, first_chunk)
                parts.add(entry, time.monotonic() - started)
                self.task.progress.advance(0, f"{self.name}: part {part + 1}")
            started = time.monotonic()
            if self.share is None:
                self.count(entry)

    def _number(self, nth: int) -> int:
        """Of the n-th part that is read."""
        return nth if self.share is None else self.share.number + self.share.of * nth

    def _write(self, path: Path, part: int, of_part: OfPart, first_chunk: int) -> FileEntry:
        """In row groups of ROW_GROUP_TOKENS, so that a part of long documents is nowhere held as a whole."""
        counts = Counter[str]()
        with tables.writer(path, tables.DOCUMENTS) as put:
            waiting: list[pa.Table] = []
            written = tokens = 0
            for group, tokenised in of_part:
                if group.first:  # and not what has just been asked
                    self.task.stop_if_asked()
                assert tokenised is not None  # it was needed
                first = part * PART_DOCUMENTS + group.first, first_chunk + counts["chunks"]
                waiting.append(counted_from(tokenised.table, *first))
                counts.update(tokenised.counts)
                self.unknown_example = self.unknown_example or tokenised.unknown_example
                tokens += tokenised.counts["tokens"] + tokenised.counts["thought tokens"]
                if tokens >= ROW_GROUP_TOKENS or group.last:
                    rows = pa.concat_tables(waiting).combine_chunks()
                    if len(rows) or not written:
                        put({name: rows[name] for name in tables.DOCUMENTS.names})
                    written, tokens, waiting = written + len(rows), 0, []
        counts["kept"] = written
        counts.setdefault("chunks", 0)
        kept = {key: n for key, n in counts.items() if n or key in ("kept", "chunks")}
        return manifest.describe(path, kept)

    def count(self, entry: FileEntry) -> None:
        """Count a part.

        Raises:
            ConfigError: when too much has been left out by now, or is nothing the tokenizer knows.
        """
        self.counts.update(entry.counts)
        self._check_unknown()
        self._check_dropped(stream_ended=not is_full(entry))

    def finish(self, parts: Parts, is_last: bool) -> None:
        """All parts have been counted, and are in the folder. `is_last`: the stage is done then, and with it
        the counts of the folders made before.

        Raises:
            ConfigError: when there is nothing to use in them, or the source has changed.
        """
        if not self.counts["chunks"]:
            reasons = dropped(self.counts) or "empty"
            raise ConfigError(f"{self.name}.source={self.corpus.source!r}: no usable document ({reasons})")
        refuse_changed(self.task, self.name)  # and not while they were read
        overlap = Overlap(self.task, self.name, parts.files)
        if is_last:
            overlap.renew()
        parts.finish(overlap.counts())

    def _check_dropped(self, stream_ended: bool) -> None:
        """A few documents say little of a share, unless there are no more."""
        counts = self.counts
        if not stream_ended and counts["documents"] < PART_DOCUMENTS:
            return
        documents, out = counts["documents"], num_left_out(counts)
        chunks = counts["chunks"] + out
        shares = (
            (documents - counts["kept"], documents, "documents", "dropped", dropped(counts)),
            (out, max(1, chunks), "chunks", "left out", left_out(counts)),
        )
        for lost, total, what, how, reasons in shares:
            if lost / total > self.corpus.max_dropped:
                raise ConfigError(
                    f"{self.name}.max_dropped={self.corpus.max_dropped}: {lost / total:.1%} of {total} "
                    f"{what} of {self.corpus.source!r} are {how} ({reasons})"
                )

    def _check_unknown(self) -> None:
        """Another tokenizer than the text's leaves nothing to learn from."""
        counts = self.counts
        share = counts[UNKNOWN_TOKENS] / max(1, counts["tokens"] + counts["thought tokens"])
        if share > self.corpus.max_unknown:
            example = self.unknown_example
            raise ConfigError(
                f"{self.name}.max_unknown={self.corpus.max_unknown}: the tokenizer of "
                f"model.path={self.task.plan.config.model.path!r} does not know {share:.1%} of the tokens of "
                f"{self.corpus.source!r}" + (f", for example {example[:40]!r}" if example else "")
            )


def share_of(shard: int, num_shards: int) -> Share:
    """Every `num_shards`-th part, from number `shard` on."""
    return Share(shard, num_shards, PART_DOCUMENTS)


def is_full(part: FileEntry) -> bool:
    """Whether others may follow it."""
    return part.counts["documents"] == PART_DOCUMENTS


def refuse_changed(task: Task, name: str) -> None:
    """A source is what it was when the run was planned: its fingerprint names that.

    Raises:
        ConfigError: when it has changed since.
    """
    config = task.plan.config
    identities: dict[str, Any] = dict.fromkeys(CORPORA)
    identities["model"] = base_model.identity(config.model)
    if config.objective == "none":
        identities["benchmark"] = {"markers": base_model.has_markers(config.model)}
    base = str(relative_paths().base)
    section = "model" if name == base else name if name in CORPORA else "corpus"
    if section != "model":
        identities[section] = sources.identity_in(config, section)
    now = build_plan(config, task.plan.iterations, identities)
    if now.output(base) != task.plan.output(base):
        raise ConfigError(f"model.path={config.model.path!r}: has changed since the launch; launch again")
    if now.output(name) != task.plan.output(name):
        source = getattr(config, section).source
        raise ConfigError(f"{section}.source={source!r}: has changed since the launch; launch again")


def counted_from(table: pa.Table, document: int, chunk: int) -> pa.Table:
    """Rows whose documents and chunks are counted from these ids."""
    for name, first in (("document", document), ("first_chunk", chunk)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, tables.DOCUMENTS.field(name), pc.add(table[name], first))
    return table
