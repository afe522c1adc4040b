"""Whether an answer can be the thought behind a chunk, or stand for it in other words. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from lt_hpc.teachers.protocol import Answer

DECLINED = "declined by the endpoint"
"""For good: the question is not asked again."""
COPIED = 0.9
"""Likeness of an answer to its chunk from which on it counts as a copy (1: the same words in order)."""
_REFUSAL = re.compile(
    r"((unfortunately|sorry|i apologi[sz]e)[ ,]+(but )?)?((i'?m|i am) (very |so |really )?sorry\b"
    r"|(i|we) (can'?t|can ?not|won'?t|am unable to|am not able to|'m unable to|'m not able to) "
    r"(help|assist|provide|comply|fulfil|write|answer|continue|generate|create|do (that|this)|discuss|share)"
    r"|as an? (ai|artificial|language model|large language)\b)"
)
"""A thought may well begin with "we cannot divide by 0"."""
_OPENING = 160
"""Characters at the start in which a refusal says that it is one."""


def problem(answer: Answer, chunk: str, markers: Sequence[str]) -> str | None:
    """Why an answer is none that can be trained on, or None: `empty`, `too long`, `refusal`, `markers` (the
    spelled-out markers of the run), `copy` of the chunk, or `declined`."""
    if answer.declined:
        return DECLINED
    said = text(answer)
    if not said:
        return "empty"
    if not answer.finished:
        return "too long"
    if any(marker in said for marker in markers):
        return "markers"
    opening = said[:_OPENING].lower().replace("\u2019", "'")
    if _REFUSAL.match(opening.lstrip(" \"'*")):
        return "refusal"
    return "copy" if _copies(said, chunk) else None


def text(answer: Answer) -> str:
    """The text that is trained on."""
    return answer.text.strip()


def _copies(said: str, chunk: str) -> bool:
    own, other = said.lower().split(), chunk.lower().split()
    if min(len(own), len(other)) < COPIED * max(len(own), len(other)):
        return False
    return difflib.SequenceMatcher(None, own, other, autojunk=False).ratio() >= COPIED
