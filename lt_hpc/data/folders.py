"""Which files of a folder are its documents. Every other file is named, so that none is missed in silence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_hpc.errors import ConfigError

DATA = re.compile(r"(?i)(?P<stem>.*)\.(jsonl|ndjson|parquet)(\.(gz|bz2|xz|zst|lz4))?$")
"""Names of files of documents: JSON Lines, compressed or not, or Parquet."""
_MAYBE = re.compile(r"(?i)(?P<stem>.*)\.json(\.(gz|bz2|xz|zst|lz4))?$")
"""JSON Lines under a name that other things have too: taken where a folder has nothing else."""
_NO_DATA = re.compile(
    r"(?i)(readme|licen[cs]e|notice|citation|changelog|\.).*|.*\.(md|rst|cff|bib|lock|crc)|_success"
)
"""What stands beside data and is not worth a word."""
_SPLITS = {
    "train": "train training",
    "validation": "validation valid dev val",
    "test": "test testing eval evaluation",
}
"""Names of splits as the datasets library finds them in names of files."""
_SPLIT = {word: split for split, words in _SPLITS.items() for word in words.split()}


@dataclass(frozen=True)
class Chosen:
    """The files of a folder that are read, in order, and those that are not, with the reason in words."""

    files: tuple[Path, ...]
    passed_over: tuple[str, ...]


def is_documents(name: str) -> bool:
    """Whether a single file that was named can be read."""
    return bool(DATA.fullmatch(name) or _MAYBE.fullmatch(name))


def split_of(name: str) -> str | None:
    """The split in the name of a file, between delimiters: train-00000-of-00002 is of train."""
    words = re.split(r"[-._ ]|(?<=[a-z])(?=\d)", name.lower())
    return next((_SPLIT[word] for word in words if word in _SPLIT), None)


def choose(folder: Path, split: str, where: str) -> Chosen:
    """The documents of a folder; where its files name several splits, those of `split`.

    Raises:
        ConfigError: when a file is there in two forms, or files of a split stand beside others of none.
    """
    shown = sorted(path for path in folder.iterdir() if not _NO_DATA.fullmatch(path.name))
    files = [path for path in shown if path.is_file() and DATA.fullmatch(path.name)]
    files = files or [path for path in shown if path.is_file() and _MAYBE.fullmatch(path.name)]
    reasons = {path: _reason(path) for path in shown if path not in files}
    _refuse_twice(files, where)
    files, others = _of_split(files, split, where)
    reasons |= {path: f"split {split_of(_stem(path.name))}" for path in others}
    return Chosen(tuple(files), tuple(f"{path.name} ({reason})" for path, reason in sorted(reasons.items())))


def _of_split(files: list[Path], split: str, where: str) -> tuple[list[Path], list[Path]]:
    """The files of a split and the others, where their names tell several apart."""
    named = {path: split_of(_stem(path.name)) for path in files}
    if len(set(named.values())) < 2 or set(named.values()) == {None, "train"}:
        return files, []
    if None in named.values():
        other = [path.name for path, one in named.items() if one not in (None, "train")]
        rest = [path.name for path in files if path.name not in other]
        raise ConfigError(
            f"{where}: {_listed(other)} looks like another split than {_listed(rest)}; name the file, or put "
            "each split into a folder of its own"
        )
    wanted = [path for path in files if named[path] == _SPLIT.get(split, split)]
    if not wanted:
        found = ", ".join(sorted(set(map(str, named.values()))))
        raise ConfigError(f"{where}: no file of split={split!r}; there are: {found}")
    return wanted, [path for path in files if path not in wanted]


def _stem(name: str) -> str:
    found = DATA.fullmatch(name) or _MAYBE.fullmatch(name)
    return found["stem"] if found else name


def _reason(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    if not path.exists():
        return "a link to nothing"
    return "may be JSON of another kind" if _MAYBE.fullmatch(path.name) else "another kind of file"


def _refuse_twice(files: Iterable[Path], where: str) -> None:
    forms: dict[str, list[str]] = defaultdict(list)
    for path in files:
        forms[_stem(path.name)].append(path.name)
    for names in forms.values():
        if len(names) > 1:
            raise ConfigError(f"{where}: {_listed(names)} are one part in two forms; keep one of them")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
