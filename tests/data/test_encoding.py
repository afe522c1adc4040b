"""Whatever a text says stays text: its ids hold no special token and decode to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lt_hpc.data.encoding import Encoder, choose_bos
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import MARKERS

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
WORDS = ["Ann", "Bob", "has", "3", "apples", "is", "here", ".", "\n", "\n\n", "Why", "?", "he", "said"]
TRAINING = [
    f"{a} {b} is here.\n\n{c} has 3 apples.\n{a} said {b}?\n\n\n"
    for a in WORDS
    for b in WORDS
    for c in WORDS[:4]
]


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer, **names: str) -> PreTrainedTokenizerFast:
    tokenizer.train_from_iterator(TRAINING, trainer)
    return named(tokenizer, **names)


def named(tokenizer: Tokenizer, **names: str) -> PreTrainedTokenizerFast:
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **names}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    made.add_special_tokens({"additional_special_tokens": list(MARKERS)}, replace_extra_special_tokens=False)
    return made


def byte_level(prefix_space: bool = False) -> PreTrainedTokenizerFast:
    """As GPT-2's and Llama 3's, or RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL[1:], initial_alphabet=alphabet)
    )


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2's: a space before every text, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        TRAINING, trainers.BpeTrainer(vocab_size=420, special_tokens=[*SPECIAL, *every_byte])
    )
    raw = json.loads(tokenizer.to_str())  # where the bytes are no special tokens
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] in SPECIAL]
    return named(Tokenizer.from_str(json.dumps(raw)), unk_token="<unk>")


def metaspace() -> PreTrainedTokenizerFast:
    """A space before every text, and line breaks that merge with each other."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return trained(tokenizer, trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL), unk_token="<unk>")


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return trained(
        tokenizer,
        trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIAL, unk_token="<unk>"),
        unk_token="<unk>",
    )


def word_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return trained(tokenizer, trainers.WordLevelTrainer(special_tokens=SPECIAL), unk_token="<unk>")


def word_pieces() -> PreTrainedTokenizerFast:
    """Lower case, accents taken off, white space split away."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return trained(
        tokenizer, trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL), unk_token="<unk>"
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte level": byte_level,
    "byte level with a prefix space": lambda: byte_level(prefix_space=True),
    "sentencepiece": sentencepiece,
    "metaspace": metaspace,
    "unigram": unigram,
    "word level": word_level,
    "word pieces": word_pieces,
}
MADE = {name: make() for name, make in KINDS.items()}
LOSSLESS = ["byte level", "byte level with a prefix space", "sentencepiece", "metaspace", "unigram"]


def ids_of(tokenizer: PreTrainedTokenizerFast, chunks: Iterable[str]) -> list[int]:
    chunks = list(chunks)
    encoded = Encoder(tokenizer).encode(chunks, [index > 0 for index in range(len(chunks))])
    return [token for one in encoded for token in one.ids]


pieces = st.sampled_from(
    [*WORDS, *MARKERS, *SPECIAL, " ", "  ", "\t", "\U0001f600", "\u4f60", "caf\u00e9", "<", ">", "EOL"]
)
texts = st.lists(pieces, min_size=1, max_size=8).map("".join)


@pytest.mark.parametrize("kind", MADE)
@given(chunks=st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=60)
def test_no_text_becomes_a_special_token(kind: str, chunks: list[str]) -> None:
    tokenizer = MADE[kind]
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    assert special.isdisjoint(ids_of(tokenizer, chunks))


known = st.sampled_from([*WORDS, " ", "  ", ". ", "\n\n\n"])


@pytest.mark.parametrize("kind", LOSSLESS)
@given(chunks=st.lists(st.lists(known, min_size=1, max_size=8).map("".join), min_size=1, max_size=4))
@settings(max_examples=60)
def test_the_ids_of_chunks_decode_to_their_text(kind: str, chunks: list[str]) -> None:
    tokenizer, text = MADE[kind], "".join(chunks)
    found = tokenizer.decode(ids_of(tokenizer, chunks), clean_up_tokenization_spaces=False)
    whole = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert found == whole
    assert whole.strip(" ") == text.strip(" ")


@pytest.mark.parametrize("kind", ["byte level", "sentencepiece"])
@given(chunks=st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=60)
def test_strings_of_special_tokens_decode_to_themselves(kind: str, chunks: list[str]) -> None:
    assert MADE[kind].decode(ids_of(MADE[kind], chunks)) == "".join(chunks)


def test_what_the_vocabulary_does_not_know_is_counted_with_an_example() -> None:
    for kind in ("metaspace", "unigram", "word level", "word pieces"):
        encoder = Encoder(MADE[kind])
        one, other = encoder.encode(["Ann has 3 apples", "Ann \u4f60 Bob"], [False, False])
        assert (one.unknown, other.unknown) == (0, 1), kind
        assert encoder.unknown_example is not None and "\u4f60" in encoder.unknown_example
    for kind in ("byte level", "sentencepiece"):
        assert Encoder(MADE[kind]).encode(["\u4f60\U0001f600"], [False])[0].unknown == 0


def test_what_a_model_without_an_unknown_token_leaves_out_is_counted() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    encoder = Encoder(trained(tokenizer, trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL[1:])))
    one, other = encoder.encode(["Ann has 3", "Ann \u4f60\u597d Bob \u4f60"], [False, False])
    assert (one.unknown, other.unknown) == (0, 2)
    assert encoder.unknown_example == "\u4f60\u597d"


def test_a_special_token_that_is_a_word_of_the_vocabulary_is_unknown_in_text() -> None:
    encoder = Encoder(MADE["word level"])
    (one,) = encoder.encode(["Ann </s> has </s> <EOL>"], [False])
    assert one.unknown == 3 and encoder.unknown_example == "</s>"


def test_a_special_token_that_can_be_read_as_nothing_else_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"Ann": 0, "has": 1, "</s>": 2}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoder = Encoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>"))
    with pytest.raises(ConfigError, match="'</s>' in the text 'Ann </s> has'"):
        encoder.encode(["Ann </s> has"], [False])


def with_template(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def test_bos_follows_the_tokenizer_unless_chosen(tmp_path: Path) -> None:
    def reloaded(tokenizer: PreTrainedTokenizerFast) -> list[int]:
        tokenizer.save_pretrained(tmp_path)
        ids = PreTrainedTokenizerFast.from_pretrained(tmp_path)("Ann")["input_ids"]
        return [token for token in ids if token == tokenizer.bos_token_id]

    without, bos = byte_level(), byte_level().bos_token_id
    assert choose_bos(without, "auto") is None and reloaded(without) == []
    assert choose_bos(without, "always") == bos and reloaded(without) == [bos]
    has = with_template(byte_level())
    assert choose_bos(has, "auto") == bos and reloaded(has) == [bos]
    assert choose_bos(has, "never") is None and reloaded(has) == []
    nameless = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0})))
    with pytest.raises(ConfigError, match=r"model\.bos=always"):
        choose_bos(nameless, "always")
