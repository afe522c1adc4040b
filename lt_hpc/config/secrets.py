"""What looks like a secret: a value that must not reach files and logs which others read. Pure."""

from __future__ import annotations

import re

_KNOWN = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_NAMED = re.compile(
    r"(?i)\b(?P<name>[\w-]*(?:token|secret|passw(?:or)?d|api_?key|access_?key|credentials?)[\w-]*)"
    r"(?:\s*=\s*|\s*:\s+|\s+(?=\S{16,}\s*$))(?P<quote>['\"]?)(?P<value>[^\s'\"$`/~.<;&|][^\s'\"]{5,})"
)
_NO_SECRET = re.compile(r"(?i)(path|file|dir|folder|column|tokens|tokens_per_second|name|id)$")
"""How names end whose value only says where a secret is, or none at all."""
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/:@]+:(?P<value>[^\s/@$]{3,})@")
MASK = "***"


def _spans(text: str) -> list[tuple[int, int]]:
    found = [match.span() for match in _KNOWN.finditer(text)]
    found += [match.span("value") for match in _IN_ADDRESS.finditer(text)]
    for match in _NAMED.finditer(text):
        if not _NO_SECRET.search(match["name"]):
            found.append(match.span("value"))
    return sorted(found)


def has_secret(text: str) -> bool:
    """Whether some part of a text looks like a secret: `NAME=value` with a telling name and a literal
    value (not `$VARIABLE`, `$(command)` or a path), or a token in the form that a service gives it."""
    return bool(_spans(text))


def masked(text: str) -> str:
    """The text with a mask in place of what looks like a secret."""
    for begin, end in reversed(_spans(text)):
        text = text[:begin] + MASK + text[end:]
    return text
