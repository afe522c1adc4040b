"""Text to token ids: whatever a text says it stays text, and its ids decode to it.

A tokenizer finds its special tokens in any text; here an `<EOL>` in a paper or a `</s>` in code is
spelled out like any other word. Where a vocabulary has no such spelling it counts as unknown.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import Any

from lt_hpc.config.schema import BosChoice
from lt_hpc.errors import ConfigError

_SPACES = ("\u2581", "\u0120")
"""How SentencePiece and byte-level vocabularies write a space at the start of a token."""
_LEADS = tuple(dict.fromkeys("\n.0x" + string.printable))


@dataclass(frozen=True)
class Encoded:
    """A text as token ids. `unknown`: how often it has something that the vocabulary has not."""

    ids: list[int]
    unknown: int


class Encoder:
    """Encodes the texts of a corpus with a run's tokenizer (a fast one).

    Attributes:
        unknown_example: the first piece of text that the vocabulary had no token for, or None.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._unknown = _unknown_id(tokenizer)
        added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = frozenset({*added, *tokenizer.all_special_ids} - {self._unknown})
        # Without an unknown token and without bytes a model leaves out what it does not know.
        self._leaves_out = self._unknown is None and "ByteLevel" not in tokenizer.backend_tokenizer.to_str()
        self._leads = self._usable_leads()
        self.unknown_example: str | None = None

    def encode(self, texts: list[str], inside: list[bool]) -> list[Encoded]:
        """Texts, of which those that lie `inside` of a document follow an earlier chunk of it.

        Raises:
            ConfigError: when a text can only be read as a special token.
        """
        encoded = self._plain(texts)
        waiting = [index for index, later in enumerate(inside) if later and encoded[index]]
        for lead, ids in self._leads:
            led = self._plain([lead + texts[index] for index in waiting])
            merged = []
            for index, found in zip(waiting, led, strict=True):
                if found[: len(ids)] == ids:
                    encoded[index] = found[len(ids) :]
                else:
                    merged.append(index)
            waiting = merged
        return [self._checked(text, ids) for text, ids in zip(texts, encoded, strict=True)]

    def _plain(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        try:
            encoded = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        except Exception as error:
            if type(error) is not Exception:  # that of the tokenizers library
                raise
            raise ConfigError(f"model.path: its tokenizer can't read a text: {error}") from error
        return [list(ids) for ids in encoded["input_ids"]]

    def _usable_leads(self) -> list[tuple[str, list[int]]]:
        """Texts, with their ids, behind which a later chunk can be encoded and which are taken off again:
        a tokenizer as Llama 2's puts a space before every text, which would stand between two chunks. Each
        serves where it does not merge with the chunk. None for tokenizers that put nothing before texts."""
        try:
            leads = list(zip(_LEADS, self._plain(list(_LEADS)), strict=True))
        except ConfigError:  # a few words and nothing else
            return []
        first = self._tokenizer.convert_ids_to_tokens([ids[0] for _, ids in leads if ids])
        if not any(token.startswith(_SPACES) for token in first):
            return []
        return [(lead, ids) for lead, ids in leads if ids and self._unknown not in ids]

    def _checked(self, text: str, ids: list[int]) -> Encoded:
        if not self._special.isdisjoint(ids):
            if self._unknown is None:
                token = next(index for index in ids if index in self._special)
                raise ConfigError(
                    f"model.path: its tokenizer can read {self._tokenizer.convert_ids_to_tokens(token)!r} "
                    f"in the text {text[:60]!r} only as that special token, and it has no unknown token to "
                    "put in its place; leave such documents out"
                )
            ids = [self._unknown if index in self._special else index for index in ids]
        if self._leaves_out:
            pieces = self._left_out(text)
            unknown = len(pieces)
        else:
            unknown = ids.count(self._unknown) if self._unknown is not None else 0
            pieces = self._unknown_pieces(text) if unknown and self.unknown_example is None else []
        if pieces and self.unknown_example is None:
            self.unknown_example = pieces[0]
        return Encoded(ids, unknown)

    def _spans(self, text: str) -> list[tuple[int, tuple[int, int]]]:
        """Of each token its id and where in the text it stands."""
        found = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        return list(zip(found["input_ids"], found["offset_mapping"], strict=True))

    def _unknown_pieces(self, text: str) -> list[str]:
        special = {self._unknown, *self._special}
        return [text[slice(*span)] for index, span in self._spans(text) if index in special]

    def _left_out(self, text: str) -> list[str]:
        """What no token stands for, between tokens that do."""
        edges = [0, *(edge for _, span in self._spans(text) for edge in span), len(text)]
        gaps = (text[begin:end].strip() for begin, end in zip(edges[::2], edges[1::2], strict=True))
        return [gap for gap in gaps if gap]


def _unknown_id(tokenizer: Any) -> int | None:
    """Of the tokenizer's model itself: the files of some tokenizers name it nowhere else, and others name
    one that their model never uses."""
    backend = tokenizer.backend_tokenizer
    model = json.loads(backend.to_str())["model"]
    if model.get("unk_token") is not None:
        found = backend.token_to_id(model["unk_token"])
    else:
        found = model.get("unk_id")
    return None if found is None else int(found)


def choose_bos(tokenizer: Any, choice: BosChoice) -> int | None:
    """The id that stands before every sequence, or None; the tokenizer puts the same before a text.

    auto: as the tokenizer does it already, which is how its model was trained.

    Raises:
        ConfigError: for always, when the tokenizer has no bos token.
    """
    if choice != "auto":
        if choice == "always" and tokenizer.bos_token_id is None:
            raise ConfigError(
                "model.bos=always: the tokenizer of model.path has no bos_token; use auto or never"
            )
        tokenizer.add_bos_token = choice == "always"
        tokenizer.init_kwargs["add_bos_token"] = choice == "always"  # what is saved
    begin, plain = (tokenizer("x", add_special_tokens=special)["input_ids"] for special in (True, False))
    bos = tokenizer.bos_token_id
    return int(bos) if bos is not None and begin[:1] == [bos] and plain[:1] != [bos] else None
