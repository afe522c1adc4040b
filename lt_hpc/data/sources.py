"""Documents of a corpus, streamed from a built-in task, local files or a Hugging Face dataset.

`check` finds a user's mistakes at once, without slow imports; `identity` says what the documents
are, for fingerprints; `documents` streams them. In messages lines count from 1, rows from 0.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_hpc.config.identity import identity_of
from lt_hpc.config.schema import Config, CorpusConfig
from lt_hpc.data import builtin, columns, folders, readers
from lt_hpc.errors import ConfigError, LtError, did_you_mean
from lt_hpc.latent import slices

_PATTERNS = "*.jsonl (also .gz, .bz2, .xz, .zst, .lz4), *.parquet"
_CHOICES = f"{', '.join(builtin.NAMES)}, {_PATTERNS}, a folder of these or of save_to_disk, a hub owner/name"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# A hub name may hold dots, but these ends are those of a mistyped or unsupported file.
_FILE = re.compile(r".*\.(jsonl|parquet|json|csv|tsv|txt|arrow|gz|zst|zip|bz2|xz)")
_STRINGS = re.compile(r"str|NoneType|null|(large_)?string(_view)?|dictionary<values=(large_)?string,.*")
_LISTS = re.compile(r"list|(large_)?list<(?!.*(struct|list)<).*string.*>|List")


@dataclass(frozen=True)
class Document:
    """One document: `text`, whole or cut into chunks already, or question and answer when they are
    given. `thought` is the teacher's, one per chunk. A row that lacks its text is `Document()`.
    """

    text: str | tuple[str, ...] = ""
    question: str | None = None
    answer: str | None = None
    thought: str | tuple[str, ...] | None = None

    @property
    def hash(self) -> int:
        """64 bits, signed, of its text or its question and answer, without whitespace: however it is cut, the
        same text has the same. Its thoughts play no part."""
        parts = (
            self.question or "",
            self.answer or "",
            *((self.text,) if isinstance(self.text, str) else self.text),
        )
        digest = hashlib.blake2b("".join("".join(parts).split()).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True)
class _Location:
    kind: str  # builtin | files | saved | hub
    path: Path = Path()
    files: tuple[Path, ...] = ()
    passed_over: tuple[str, ...] = ()


def documents(corpus: CorpusConfig, mode: str, share: slices.Share | None = None) -> Iterator[Document]:
    """Stream documents offset .. offset + num_documents of `corpus`, of its slices where it has some; `mode`
    is chunking.mode. `share`: those of them alone.

    Raises:
        ConfigError: when the source can't be read, or naming file, row and field of a bad value.
    """
    location, ordinals, count = _locate(corpus), _ordinals(corpus), corpus.num_documents
    if share is not None:
        ordinals = (ordinal for index, ordinal in enumerate(ordinals) if share.has(index))
        count = None if count is None else share.count(count)
    if location.kind == "builtin":
        problems = builtin.problems(corpus, ordinals)
        for question, answer, thought in itertools.islice(problems, count):
            if mode == "given":
                yield Document(question=question, answer=answer, thought=thought)
            else:
                yield Document(text=f"{question} {answer}", thought=thought)
        return
    fields = _fields(corpus, mode)
    rows = _rows(corpus, location, list(dict.fromkeys(fields.values())), readers.Wanted(ordinals))
    for place, row in itertools.islice(rows, count):
        yield _document(place, row, fields, mode)


def _ordinals(corpus: CorpusConfig) -> Iterator[int]:
    """Those of the documents from corpus.offset on, without end."""
    if corpus.slices is None:
        return itertools.count(corpus.offset)
    chosen = slices.parse(corpus.slices)
    assert chosen is not None  # checked with the configuration
    return slices.ordinals(chosen, corpus.seed, corpus.offset)


def check(corpus: CorpusConfig, section: str, mode: str, needs_thought: bool) -> None:
    """Refuse, before any work, a source that can't give documents for `mode`.

    `section` is where `corpus` is in the configuration. A hub name passes, unchecked.

    Raises:
        ConfigError: one line with the dotted field and the valid choices.
    """
    try:
        location = _locate(corpus, f"{section}.")
        found = _found_columns(location, _fields(corpus, mode), section)
    except OSError as error:
        raise ConfigError(f"{section}.source={corpus.source!r}: {readers.first_line(error)}") from error
    if location.kind == "builtin":
        builtin.check(corpus, f"{section}.")
        return
    if found == {}:
        raise ConfigError(f"{section}.source={corpus.source!r}: holds no rows")
    has = f"; {corpus.source} has: {', '.join(found)}" if found else ""
    for field in (*_REQUIRED[mode], *(["thought"] if needs_thought else [])):
        if getattr(corpus, f"{field}_column") is None:
            reason = "the warm start" if field == "thought" else f"chunking.mode={mode}"
            raise ConfigError(f"{section}.{field}_column: {reason} needs it{has}")
    if found is None:
        return
    parts = (column.partition(".") for column in _fields(corpus, mode).values())
    nested = any(dot and top in found for top, dot, _ in parts)
    if nested and location.kind == "files":  # names the line, which types can't
        _check_rows(corpus, section, mode)
    _check_columns(corpus, section, mode, found)
    if not nested and location.kind == "files":
        _check_rows(corpus, section, mode)


def _check_columns(corpus: CorpusConfig, section: str, mode: str, found: Mapping[str, str]) -> None:
    """Refuse columns that are not there or hold no text."""
    has = f"; {corpus.source} has: {', '.join(found)}"
    for field, column in _fields(corpus, mode).items():
        where = f"{section}.{field}_column={column!r}"
        if column not in found:
            raise ConfigError(f"{where}: no such column{has}")
        may_be_list = mode == "sentences" and _LISTS.fullmatch(found[column])
        if not may_be_list and not _STRINGS.fullmatch(found[column]):
            expected = "strings or lists of strings" if mode == "sentences" else "strings"
            inner = ", ".join(one for one in found if one.startswith(f"{column}."))
            raise ConfigError(
                f"{where}: holds {found[column]} in {corpus.source}, expected {expected}"
                + (f"; its fields: {inner}" if inner else "")
            )


def _check_rows(corpus: CorpusConfig, section: str, mode: str) -> None:
    """Refuse what is of the wrong shape among the first rows."""
    count = max(0, readers.PROBE_ROWS - corpus.offset)
    try:
        for _ in documents(dataclasses.replace(corpus, slices=None, num_documents=count), mode):
            pass
    except ConfigError as error:
        raise ConfigError(f"{section}.source: {error}") from error


def remarks(corpus: CorpusConfig) -> list[str]:
    """What a user should know of a source that can be read: files passed over, hub data that may change."""
    location = _locate(corpus)
    found = [f"{corpus.source}: not read: {', '.join(location.passed_over)}"] if location.passed_over else []
    if location.kind == "hub" and corpus.revision is None:
        found.append(f"{corpus.source}: not pinned, it may change between jobs; give a commit as revision")
    return found


def is_on_hub(corpus: CorpusConfig) -> bool:
    """Whether its documents are streamed from the hub."""
    return _locate(corpus).kind == "hub"


def identity_in(config: Config, name: str) -> dict[str, object]:
    """The `identity` of a corpus of a run."""
    taught = name == "warm" and config.warm_is_taught and config.chunking.mode == "sentences"
    return identity(getattr(config, name), taught)


def identity(corpus: CorpusConfig, taught: bool = False) -> dict[str, object]:
    """What decides the documents, JSON-able: the settings, with content in place of local paths. `taught`:
    they are cut into chunks with a teacher's thought each.

    A local file is known by its name, its size and a hash of its first and last MiB, so moving
    it changes nothing and editing it does (save for an edit that keeps the size of a larger
    file and touches neither end).

    Raises:
        ConfigError: when the source doesn't exist.
    """
    values: dict[str, object] = identity_of(corpus)
    location = _locate(corpus)
    if taught and _LISTS.fullmatch(_type_of_text(corpus, location)):
        values["too_long"] = "chunks"  # are left out; once it was their whole document
    if location.files:
        values["source"] = [_file_identity(path) for path in location.files]
    return {**values, **builtin.identity(corpus)}


def _type_of_text(corpus: CorpusConfig, location: _Location) -> str:
    """What the text column holds; empty where nothing says so yet."""
    found = _found_columns(location, {"text": corpus.text_column}, "warm")
    return (found or {}).get(corpus.text_column, "")


def _file_identity(path: Path) -> dict[str, object]:
    digest = readers.ends_hash(path, overlap=False)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _locate(corpus: CorpusConfig, prefix: str = "") -> _Location:
    """What kind of source it is and its files; `prefix` (such as "corpus.") is for messages."""
    source = corpus.source
    where = f"{prefix}source={source!r}"
    path = Path(source).expanduser()
    if source.startswith("builtin:"):
        if source not in builtin.NAMES:
            near = did_you_mean(source, builtin.NAMES)
            raise ConfigError(f"{where}: no such built-in corpus; choose one of {_CHOICES}{near}")
        location = _Location("builtin")
    elif source and path.is_dir():
        location = _locate_folder(corpus, path, prefix)
    elif path.is_file() and folders.is_documents(path.name):
        location = _Location("files", path, (path,))
    elif _HUB_NAME.fullmatch(source) and not _FILE.fullmatch(source) and not path.exists():
        return _Location("hub")
    else:
        problem = "can't read this kind of file" if path.is_file() else "no such file or folder"
        raise ConfigError(f"{where}: {problem}; choose one of {_CHOICES}")
    if corpus.config_name is not None:
        raise ConfigError(f"{prefix}config_name={corpus.config_name!r}: only a hub dataset has these")
    # A split that is silently ignored would let held-out documents be the training documents.
    if location.kind != "saved" and not path.is_dir() and corpus.split != "train":
        advice = f"set {prefix}seed" if location.kind == "builtin" else "name the file of that split"
        raise ConfigError(f"{prefix}split={corpus.split!r}: {source} has no splits; {advice}")
    return location


def _locate_folder(corpus: CorpusConfig, path: Path, prefix: str) -> _Location:
    where, split = f"{prefix}source={corpus.source!r}", f"{prefix}split={corpus.split!r}"
    if (path / "dataset_dict.json").is_file():
        splits = readers.read_json(path / "dataset_dict.json", where).get("splits", [])
        if not isinstance(splits, list) or not all(isinstance(one, str) for one in splits):
            raise ConfigError(f"{where}: not a complete save_to_disk: dataset_dict.json lists no splits")
        if corpus.split not in splits:
            raise ConfigError(f"{split}: {corpus.source} has the splits: {', '.join(splits)}")
        return _locate_saved(path / corpus.split, where)
    if (path / "state.json").is_file():
        own = str(readers.read_json(path / "state.json", where).get("_split") or "train")
        if corpus.split not in ("train", own):
            raise ConfigError(f"{split}: {corpus.source} holds one split: {own}")
        return _locate_saved(path, where)
    chosen = folders.choose(path, corpus.split, where)
    if not chosen.files:
        raise ConfigError(f"{where}: no {_PATTERNS} in this folder, nor is it of save_to_disk")
    named = {folders.split_of(file.name) for file in chosen.files}
    if corpus.split != "train" and named != {folders.split_of(corpus.split)}:
        raise ConfigError(f"{split}: no file of {corpus.source} names it; name the file of that split")
    return _Location("files", path, chosen.files, chosen.passed_over)


def _locate_saved(path: Path, where: str) -> _Location:
    state = readers.read_json(path / "state.json", where)
    try:
        files = tuple(path / entry["filename"] for entry in state.get("_data_files", []))
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{where}: not a complete save_to_disk: state.json lists no files") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing, the folder is not complete")
    return _Location("saved", path, files)


_REQUIRED = {"sentences": ("text",), "given": ("question", "answer")}
"""Fields of a Document that a row must give, by chunking.mode."""


def _fields(corpus: CorpusConfig, mode: str) -> dict[str, str]:
    """Field of a Document -> column, for the columns that are set."""
    columns = {field: getattr(corpus, f"{field}_column") for field in (*_REQUIRED[mode], "thought")}
    return {field: column for field, column in columns.items() if column is not None}


def _found_columns(location: _Location, wanted: Mapping[str, str], section: str) -> dict[str, str] | None:
    """Column -> type of the first file that has rows; {} when none has, None when unknown. `wanted`: field
    -> column, which every file has to have.

    Raises:
        ConfigError: naming a later file without one of them, or one that can't be read.
    """
    if location.kind in ("builtin", "hub"):
        return None
    try:
        if location.kind == "saved":
            return readers.saved_columns(location.path) if location.files else {}
        first: dict[str, str] = {}
        for path in location.files:
            is_parquet = path.suffix.lower() == ".parquet"
            found = (
                readers.parquet_columns(path) if is_parquet else readers.jsonl_columns(path, wanted.values())
            )
            lost = [field for field, column in wanted.items() if column in first and column not in found]
            if found and lost:
                raise ConfigError(
                    f"{section}.{lost[0]}_column={wanted[lost[0]]!r}: no such column in {path}; it has: "
                    f"{', '.join(found)}"
                )
            first = first or found
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(section) else f"{section}.source: {error}") from error
    return first


def _document(place: str, row: Mapping[str, Any], fields: Mapping[str, str], mode: str) -> Document:
    values: dict[str, str | tuple[str, ...] | None] = {}
    for field, column in fields.items():
        value = columns.cell(row, column, place)
        if mode == "sentences" and isinstance(value, list):
            values[field] = tuple(_text(part, place, column) or "" for part in value)
        else:
            values[field] = _text(value, place, column)
    if any(value is None for field, value in values.items() if field != "thought"):
        return Document()
    if any(columns.is_nested(row, column) for column in fields.values()):
        _check_lengths(place, fields, values)
    return Document(**values)  # type: ignore[arg-type]  # text is not None here


def _check_lengths(
    place: str, fields: Mapping[str, str], values: Mapping[str, str | tuple[str, ...] | None]
) -> None:
    """Texts and thoughts of structs come in pairs."""
    counts = {
        f"{column!r}": 1 if isinstance(values[field], str) else len(values[field] or ())
        for field, column in fields.items()
        if values[field] is not None
    }
    if len(set(counts.values())) > 1:
        found = " and ".join(f"{count} in {column}" for column, count in counts.items())
        raise ConfigError(f"{place}: fields of different lengths, {found}; expected a thought per text")


def _text(value: object, place: str, column: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{place}: field {column!r} is {type(value).__name__}, expected a string")
    try:
        value.encode()
        return value
    except UnicodeEncodeError:  # JSON allows lone surrogates, tokenizers don't
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _rows(
    corpus: CorpusConfig, location: _Location, names: list[str], wanted: readers.Wanted
) -> readers.Rows:
    if location.kind == "files":
        ordinal = 0
        for path in location.files:
            if path.suffix.lower() == ".parquet":
                ordinal = yield from readers.parquet_rows(path, names, ordinal, wanted)
            else:
                ordinal = yield from readers.jsonl_rows(path, ordinal, wanted)
        return ordinal
    return (yield from _datasets_rows(corpus, location, names, wanted))


def _datasets_rows(
    corpus: CorpusConfig, location: _Location, names: list[str], wanted: readers.Wanted
) -> readers.Rows:
    """Those of the datasets library: of a folder that it saved, or of the hub."""
    import datasets

    index = first = wanted.next
    try:
        if location.kind == "saved":
            saved: Any = datasets.load_from_disk(str(location.path)).with_format(None)
            dataset = saved.select(range(first, len(saved)) or range(0))
        else:
            hub: Any = datasets.load_dataset(
                corpus.source,
                corpus.config_name,
                split=corpus.split,
                revision=corpus.revision,
                streaming=True,
            )
            dataset = hub.skip(first)
        for index, row in enumerate(dataset, first):
            if index == first:
                columns.require(names, list(row), corpus.source)
            if wanted.take(index):
                yield f"{corpus.source} row {index}", row
    except (LtError, MemoryError):
        raise
    except Exception as error:  # the library raises what it likes, while streaming too
        raise ConfigError(f"{corpus.source} near row {index}: {readers.first_line(error)}") from error
    return index
