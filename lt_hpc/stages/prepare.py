"""prepare: documents -> chunks -> token ids, once. Every later stage works on these ids.

Writes base/ (the base model with the markers) and the folders corpus/, warm/ and heldout/.
A part file holds a fixed number of documents, so a run that was stopped goes on after the
last part that is complete.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lt_hpc.config.schema import CORPORA, Config, CorpusConfig
from lt_hpc.data import base_model, sources
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import longest_chunk
from lt_hpc.run.build import build_plan
from lt_hpc.stages import probe
from lt_hpc.stages.overlap import Overlap
from lt_hpc.stages.task import Task, Vocabulary
from lt_hpc.stages.tokenised import Group, Tokenised, Tokeniser, Tokenisers, groups
from lt_hpc.store import manifest, tables
from lt_hpc.store.atomic import atomic_folder
from lt_hpc.store.counts import UNKNOWN_TOKENS, dropped, left_out, num_left_out
from lt_hpc.store.manifest import FileEntry, Manifest
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import documents_part, relative_paths

PART_DOCUMENTS = 4096
ROW_GROUP_TOKENS = 1 << 22


def run(task: Task) -> None:
    """Write whatever of base/ and the three corpora is missing."""
    outputs = task.stage.outputs
    base = relative_paths().base
    if str(base) in outputs:
        _prepare_base(task, task.paths.base, outputs[str(base)])
    names = [name for name in outputs if name != str(base)]
    if not names:  # the base alone is benchmarked
        return
    tokeniser = Tokeniser(task.paths.base, task.plan.config)
    _check_layout(task.plan.config, tokeniser.vocabulary)
    folders = {name: task.paths.documents(name) for name in names}
    missing = [name for name in names if manifest.problem(folders[name], outputs[name], checksums=True)]
    task.progress.start(len(names), "corpora", len(names) - len(missing))
    with Tokenisers(tokeniser) as tokenisers:
        for name in missing:
            _refuse_changed(task, name)
            source = _source(task, name)
            preparation = _Preparation(task, name, source, tokenisers, folders[name], outputs[name])
            preparation.run(is_last=name == missing[-1])
            task.progress.advance()


def _check_layout(config: Config, vocabulary: Vocabulary) -> None:
    """What can't be known before the tokenizer is there."""
    chunking, bos = config.chunking, vocabulary.bos is not None
    room = longest_chunk(config.model.context_length, config.sample.max_thought_tokens) - bos
    if chunking.mode == "given" and vocabulary.eos is None:
        raise ConfigError(
            f"model.path={config.model.path!r}: its tokenizer has no eos_token, so no answer could end; name "
            "one in its tokenizer_config.json, or use chunking.mode=sentences"
        )
    if chunking.max_chunk_tokens > room:
        raise ConfigError(
            f"chunking.max_chunk_tokens={chunking.max_chunk_tokens}: with a bos token before every sequence "
            f"(model.bos) a chunk may have at most {room} tokens"
        )


def _refuse_changed(task: Task, name: str) -> None:
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


def _source(task: Task, name: str) -> CorpusConfig:
    """Where the documents of a folder come from: each iteration's fresh ones follow those before."""
    config = task.plan.config
    if name in CORPORA:
        return getattr(config, name)  # type: ignore[no-any-return]
    assert config.corpus.num_documents is not None  # checked with the configuration
    skipped = (task.stage.iteration - 1) * config.corpus.num_documents
    return dataclasses.replace(config.corpus, offset=config.corpus.offset + skipped)


def _prepare_base(task: Task, folder: Path, fingerprint: str) -> None:
    if manifest.problem(folder, fingerprint, checksums=True) is None:
        return
    started = time.monotonic()
    with atomic_folder(folder) as temporary:
        model = task.plan.config.model
        markers = task.plan.config.objective != "none" or base_model.has_markers(model)
        network = base_model.build(model, temporary, markers)
        _refuse_changed(task, folder.name)
        print(probe.check(temporary, network, task.plan.config), flush=True)
        files = tuple(manifest.describe(path) for path in sorted(temporary.iterdir()))
        manifest.write(
            temporary,
            Manifest(
                "base", fingerprint, True, files, seconds=time.monotonic() - started,
                provenance=manifest.provenance(),
            ),
        )  # fmt: skip


@dataclass
class _Preparation:
    """One corpus on its way into a folder."""

    task: Task
    name: str
    corpus: CorpusConfig
    tokenisers: Tokenisers
    folder: Path
    fingerprint: str
    unknown_example: str | None = None

    def run(self, is_last: bool) -> None:
        """`is_last`: then the stage is done, and with it the counts of the folders made before."""
        parts = Parts(self.folder, "documents", self.fingerprint)
        counts: Counter[str] = Counter()
        stream = sources.documents(self.corpus, self.task.plan.config.chunking.mode)
        tokenised = self.tokenisers.each(
            self.name,
            groups(stream, PART_DOCUMENTS),
            lambda group: parts.get(documents_part(group.part)) is None,
        )
        started = time.monotonic()
        for part, of_part in itertools.groupby(tokenised, lambda one: one[0].part):
            self.task.stop_if_asked()
            entry = parts.get(documents_part(part))
            if entry is None:
                entry = self._write_part(part, of_part, counts["chunks"])
                parts.add(entry, time.monotonic() - started)
                self.task.progress.advance(0, f"{self.name}: part {part + 1}")
            started = time.monotonic()
            counts.update(entry.counts)
            self._check_unknown(counts)
            self._check_dropped(counts, stream_ended=entry.counts["documents"] < PART_DOCUMENTS)
        if not counts["chunks"]:
            reasons = dropped(counts) or "empty"
            raise ConfigError(f"{self.name}.source={self.corpus.source!r}: no usable document ({reasons})")
        _refuse_changed(self.task, self.name)  # and not while they were read
        overlap = Overlap(self.task, self.name, parts.files)
        if is_last:
            overlap.renew()
        parts.finish(overlap.counts())

    def _write_part(
        self, part: int, of_part: Iterator[tuple[Group, Tokenised | None]], first_chunk: int
    ) -> FileEntry:
        """In row groups of ROW_GROUP_TOKENS, so that a part of long documents is nowhere held as a whole."""
        path, counts = self.folder / documents_part(part), Counter[str]()
        with tables.writer(path, tables.DOCUMENTS) as put:
            waiting: list[pa.Table] = []
            written = tokens = 0
            for group, tokenised in of_part:
                if group.first:  # and not what has just been asked
                    self.task.stop_if_asked()
                assert tokenised is not None  # it was needed
                first = part * PART_DOCUMENTS + group.first, first_chunk + counts["chunks"]
                waiting.append(_counted_from(tokenised.table, *first))
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

    def _check_dropped(self, counts: Counter[str], stream_ended: bool) -> None:
        """A few documents say little of a share, unless there are no more."""
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

    def _check_unknown(self, counts: Counter[str]) -> None:
        """Another tokenizer than the text's leaves nothing to learn from."""
        share = counts[UNKNOWN_TOKENS] / max(1, counts["tokens"] + counts["thought tokens"])
        if share > self.corpus.max_unknown:
            example = self.unknown_example
            raise ConfigError(
                f"{self.name}.max_unknown={self.corpus.max_unknown}: the tokenizer of "
                f"model.path={self.task.plan.config.model.path!r} does not know {share:.1%} of the tokens of "
                f"{self.corpus.source!r}" + (f", for example {example[:40]!r}" if example else "")
            )


def _counted_from(table: pa.Table, document: int, chunk: int) -> pa.Table:
    """Rows whose documents and chunks are counted from these ids."""
    for name, first in (("document", document), ("first_chunk", chunk)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, tables.DOCUMENTS.field(name), pc.add(table[name], first))
    return table
