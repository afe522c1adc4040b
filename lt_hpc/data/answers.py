"""When two answers are the same: what each says in the end, as numbers where both are numbers, else as text.

A worked solution says its answer after `####`, in `\\boxed{}`, or after "the answer is"; where it has none of
these, all of it is the answer. Nothing is guessed from numbers that merely stand in a text.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"[-+]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)", flags=re.ASCII)
_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}|([-+]?\d+)\s*/\s*(\d+)", flags=re.ASCII)
_LARGEST = 1000
"""Digits of a number; longer ones are compared as text."""
_HASHES = re.compile(r"####[ \t]*([^\n]*\S)")
_SAID = re.compile(r"\banswer(?:\s+is\s*:?|\s*[:=])\s*(?=([^\n]*\S))", flags=re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_UNIT = re.compile(r"(\s*(%|\\%)|\s+[^\W\d_][^\d]*)$")
_SPACING = re.compile(r"\\(left|right|,|!|;|:|quad|qquad|displaystyle)(?![a-zA-Z])|\s")
_MATHS = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}")


def final(text: str) -> str:
    """What a text says in the end, without white space around it: the last of its marked answers, or all
    of it where it marks none."""
    marked = _marked(text)
    return text.strip() if marked is None else marked


def same(given: str, expected: str) -> bool:
    """True for equal numbers ("1,200" and "1200.0", "1/2" and "0.5") and for equal text apart from white
    space and spellings of LaTeX, of what each text says in the end."""
    left, right = _value(given), _value(expected)
    if left is not None and right is not None:
        return left == right
    texts = [final(given), final(expected)]
    if any("\\" in text or _MATHS.search(text) for text in texts):
        texts = [_said_by_latex(text) for text in texts]
    return " ".join(texts[0].split()) == " ".join(texts[1].split())


def majority(answers: list[str]) -> str:
    """The answer that most of them are the same as; of several such the first."""
    return max(answers, key=lambda one: sum(same(one, other) for other in answers))


def _marked(text: str) -> str | None:
    found = [(match.start(), match[1]) for match in _HASHES.finditer(text)]
    found += _boxed(text)
    for match in _SAID.finditer(text):
        sentence = match[1]
        end = _SENTENCE_END.search(sentence)
        found.append((match.start(), sentence[: end.start()] if end else sentence))
    if not found:
        return None
    last = max(found)[1].strip()
    inner = _boxed(last)
    return (inner[-1][1] if inner else last).strip(" \t*")


def _boxed(text: str) -> list[tuple[int, str]]:
    """Where each \\boxed{...} begins and what it holds, braces inside it included."""
    found = []
    for match in re.finditer(r"\\(?:boxed|fbox)\{", text):
        depth = 1
        for index in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                found.append((match.start(), text[match.end() : index]))
                break
    return found


def _value(text: str) -> Fraction | None:
    """The number that a text says in the end; of a marked answer without its unit."""
    words = " ".join(final(text).replace("\u2212", "-").split())
    if _marked(text) is not None:
        words = _UNIT.sub("", words)
    return _number(_said_by_latex(words) if "\\" in words else words)


def _number(words: str) -> Fraction | None:
    """A number with an optional dollar sign and full stop, and commas only between groups of three digits."""
    fraction = _FRACTION.fullmatch(words)
    if fraction:
        sign, above, below, over, under = fraction.groups()
        above, below = (over, under) if above is None else (f"{sign or ''}{above}".replace("--", ""), below)
        return None if len(words) > _LARGEST or int(below) == 0 else Fraction(int(above), int(below))
    bare = re.sub(r"^([-+]?)\\?\$", r"\1", words).removesuffix("$")
    bare = bare[:-1] if bare.endswith(".") and len(bare) > 1 else bare
    if not _NUMBER.fullmatch(bare) or len(bare) > _LARGEST:
        return None
    return Fraction(bare.replace(",", "").removesuffix(".") or "0")


def _said_by_latex(text: str) -> str:
    """What LaTeX says, not how it is set."""
    text = _TEXT.sub(r"\1", _MATHS.sub(r"\1", text))
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", _SPACING.sub("", text))
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
