"""How a document becomes chunks: sentences, groups of sentences, pieces of long chunks.

Everything here is lossless: joining the parts gives the text back. Whitespace between two
sentences belongs to the start of the second one, because byte-pair tokenizers attach a space
to the word after it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence

from lt_hpc.latent.seeds import generator

_LATIN_ENDS = ".!?…"
_CLOSERS = "\"'”’»›)]}*_$」』】》〉〕）］"
# Every alternative consumes at least its first character and can't fail after it, so that one
# pass over the text is linear, whatever it holds.
_SPACE_OR_END = re.compile(rf"\s+|[。！？｡।॥؟۔։።။។][。！？｡।॥؟۔։።။។!?…]*[{re.escape(_CLOSERS)}]*")
_NEWLINE = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029]")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # e.g, i.e, U.S, a.m, z.B

_LONGEST_ABBREVIATION = 12  # characters
_NEVER_AN_END = frozenset(
    [
        "dr",
        "mr",
        "mrs",
        "ms",
        "mx",
        "prof",
        "st",
        "rev",
        "hon",
        "gen",
        "col",
        "capt",
        "lt",
        "sgt",
        "sen",
        "rep",
        "gov",
        "mt",
        "vs",
        "cf",
        "viz",
        "approx",
        "ph.d",
    ]
)
_END_BEFORE_CAPITAL = frozenset(
    ["etc", "inc", "ltd", "co", "corp", "jr", "sr", "al", "dept", "est", "min", "max"]
)
_NOT_BEFORE_DIGIT = frozenset(
    ["no", "nos", "fig", "figs", "eq", "eqs", "p", "pp", "sec", "vol", "ch", "art", "ca", "c"]
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order; ``"".join`` of them is the text.

    A sentence ends after ``. ! ? …`` (with closing quotes and brackets) before whitespace, after
    the full stops of scripts that write no space, and before a run of whitespace with a newline.
    Every sentence holds something besides whitespace; a text of whitespace only gives ``[]``.
    Takes time linear in the length of the text.
    """
    sentences: list[str] = []
    start = word = 0  # where the current sentence (with its leading whitespace) and word begin
    is_first = True  # whether that word is the first of its sentence
    for match in _SPACE_OR_END.finditer(text):
        begin, end = match.span()
        if not text[begin].isspace():
            sentences.append(text[start:end])
            start = word = end
            is_first = True
            continue
        if begin > start:  # otherwise it is the whitespace a sentence begins with
            is_first = bool(_NEWLINE.search(text, begin, end)) or _ends_sentence(
                text[word:begin], text[end : end + 1], is_first
            )
            if is_first:
                sentences.append(text[start:begin])
                start = begin
        word = end
    rest = text[start:]
    if rest and not rest.isspace():
        sentences.append(rest)
    elif rest and sentences:
        sentences[-1] += rest
    return sentences


def _ends_sentence(word: str, following: str, is_first: bool) -> bool:
    """Whether a Latin sentence ends after `word`, given the next visible character."""
    stem = word.rstrip(_CLOSERS)
    if not stem or stem[-1] not in _LATIN_ENDS or (following and following in _LATIN_ENDS):
        return False
    if following.islower() and (stem != word or stem.endswith(("..", "…"))):
        return False  # '"Why?" he asked', 'I was ... thinking'
    if not stem.endswith(".") or len(stem) > _LONGEST_ABBREVIATION:
        return True
    core = stem.rstrip(".").lstrip("\"'“‘«‹([{*_$「『")
    name = core.lower()
    if name in _NEVER_AN_END or _DOTTED.fullmatch(core):
        return False
    if len(core) == 1 and core.isupper() and core != "I":
        return False  # the initial of a name
    if core.isdecimal() and is_first:
        return False  # the number of a list item
    if name in _NOT_BEFORE_DIGIT and following.isdecimal():
        return False
    return not (name in _END_BEFORE_CAPITAL and following.islower())


def chunk_text(text: str, *, mean: float, low: int, high: int, shifted: bool = False) -> list[str]:
    """Consecutive groups of Poisson(`mean`) sentences, or `shifted` ones of `low` + Poisson(`mean` - `low`),
    clipped to [`low`, `high`].

    The seed is a hash of the text, so that a document is cut the same way in every run and
    shard. Only the last group may have fewer than `low` sentences. The chunks join to the text;
    an empty text or one of whitespace only gives ``[]``.

    Raises:
        ValueError: unless mean > 0 (mean >= low for shifted ones) and 1 <= low <= high.
    """
    if not mean > 0 or not 1 <= low <= high:
        raise ValueError(f"mean={mean}, low={low}, high={high}: need mean > 0 and 1 <= low <= high")
    if shifted and mean < low:
        raise ValueError(f"mean={mean}, low={low}: shifted sizes need mean >= low")
    sentences = split_sentences(text)
    # surrogatepass: a lone surrogate is no reason to fail where only a hash is wanted
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    rng = generator(int.from_bytes(digest, "little"), "chunk sizes")
    chunks: list[str] = []
    start = 0
    while start < len(sentences):
        drawn = low + rng.poisson(mean - low) if shifted else rng.poisson(mean)
        size = min(max(int(drawn), low), high)
        chunks.append("".join(sentences[start : start + size]))
        start += size
    return chunks


def join_blank(texts: Sequence[str]) -> list[str]:
    """As many texts, with those that are only whitespace empty and their whitespace where it belongs: at the
    start of the next text, or at the end of the last one."""
    joined, blank, last = [""] * len(texts), "", None
    for index, text in enumerate(texts):
        if text.strip():
            joined[index], blank, last = blank + text, "", index
        else:
            blank += text
    if last is not None:
        joined[last] += blank
    return joined


def split_long(ids: Sequence[int], limit: int) -> list[list[int]]:
    """The token ids of a chunk in the fewest consecutive pieces of at most `limit` tokens.

    The lengths of the pieces differ by at most one; no ids give no pieces.

    Raises:
        ValueError: when limit < 1.
    """
    if limit < 1:
        raise ValueError(f"limit={limit}: must be at least 1 token")
    num_pieces = -(-len(ids) // limit)
    edges = [len(ids) * piece // num_pieces for piece in range(num_pieces + 1)] if num_pieces else []
    return [list(ids[begin:end]) for begin, end in itertools.pairwise(edges)]
