"""Builds the base model of the word problems: a small Llama pretrained on EASY problems and English prose.

    python tools/make_wordproblems_base.py --out models/wordproblems

The base plays the part of a pretrained language model: it has read prose, and problems of reasoning-gym with
and without their worked solutions, half of these with the answer BEFORE the work (what the posterior needs).
The problems of `builtin:wordproblems` have larger numbers, and their solutions are hidden. Each document ends
with <eos>; the four special tokens of the method are added later, by the project.

    prose    a paragraph of a story that reasoning-gym ships, or of Python's own reference
    raw      question, answer                                     easy problems
    worked   question, "Solution: " work, answer                  easy problems
    after    question, answer, "Solution: " work                  easy problems
    work     work alone                                           hard problems

The tokenizer is a byte-level BPE of the same documents, in which every digit is a token. The result is an
ordinary Hugging Face folder, the same for the same seed, machine and versions.
"""

from __future__ import annotations

import argparse
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lt_hpc.data.word_task import CORPUS, FAMILIES, problem
from tools.pretraining import Phase, pretrain, save
from tools.prose import texts

PAD, EOS = "<pad>", "<eos>"
VOCABULARY = 1024
ROW_LENGTH = 256
SHARES = {"prose": 0.15, "raw": 0.10, "worked": 0.30, "after": 0.30, "work": 0.15}
TOKENIZER_DOCUMENTS = 4000


def prose() -> list[str]:
    """English paragraphs that packages ship."""
    text = "\n\n".join(texts())
    paragraphs = (" ".join(one.split()) for one in re.split(r"\n\s*\n", text))
    return [one for one in paragraphs if len(one) > 80 and not one.startswith((">>>", "|", ".."))]


def draw_documents(seed: int, families: Sequence[str]) -> Iterator[str]:
    """Endless random documents, without <eos>."""
    paragraphs = prose()
    rng = np.random.default_rng(seed)
    kinds, shares = list(SHARES), list(SHARES.values())
    for index in itertools.count():
        kind, family = rng.choice(kinds, p=shares), rng.choice(families)
        if kind == "prose":
            yield paragraphs[rng.integers(len(paragraphs))]
            continue
        one = problem(family, "hard" if kind == "work" else "easy", seed, index)
        yield {
            "raw": f"{one.question}{one.answer}",
            "worked": f"{one.question}Solution: {one.thought}\n{one.answer}",
            "after": f"{one.question}{one.answer}\nSolution: {one.thought}",
            "work": one.thought,
        }[kind]


def build_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE: no text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A randomly initialised Llama of about 1.4 million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=160,
            intermediate_size=432,
            num_hidden_layers=4,
            num_attention_heads=5,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def main() -> None:
    """Reads the options, pretrains, saves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("models/wordproblems"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(CORPUS))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--rows", type=int, default=16, help=f"rows of {ROW_LENGTH} tokens per step")
    args = parser.parse_args()

    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    texts = draw_documents(args.seed, args.families)
    tokenizer = build_tokenizer(itertools.islice(texts, TOKENIZER_DOCUMENTS))
    model = build_model(tokenizer, args.seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    documents = ([*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts)
    short = (ids[:ROW_LENGTH] for ids in documents)
    loss = pretrain(model, short, Phase(args.steps, 3e-3, args.rows, ROW_LENGTH))
    save(model, tokenizer, args.out)
    print(f"saved {args.out}: loss {loss:.4f}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
