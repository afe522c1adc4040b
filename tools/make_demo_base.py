"""Builds the demo's base model: a tiny Llama pretrained on EASY arithmetic modulo 17.

    OMP_NUM_THREADS=1 python tools/make_demo_base.py --out lt_hpc/data/demo_base

The base plays the part of a pretrained language model in the demo: it knows single operations,
can copy, and has seen short worked problems, half of them with the answer BEFORE the work (what
the posterior needs). The demo's problems have 3-6 steps; the base fails at 5 and 6 even when asked
to work, and without work it guesses from 2 steps on. Each document ends with <eos>; the four
special tokens of the method are added later, by the project.

    run     run 5 +3 8 x7 5 -2 3                running arithmetic, 1-6 steps
    raw     5 +3 x7 = 5                         question and answer, 1-2 steps
    worked  5 +3 x7 work 5 +3 8 x7 5 = 5        work first, 1-4 steps
    after   5 +3 x7 = 5 work 5 +3 8 x7 5        answer first, 1-4 steps
    copy    copy 5 +3 x7 -2 copy 5 +3 x7 -2     1-6 operations

The result is an ordinary Hugging Face folder, the same for the same seed, machine and versions.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lt_hpc.data.chain_task import WORDS, Problem, draw_problem
from tools.pretraining import Phase, pretrain, save

PAD, EOS = "<pad>", "<eos>"
ROW_LENGTH = 128  # packed rows; a document is never split

# The phases of pretraining: (most steps of worked documents, training steps, learning rate).
# The first teaches arithmetic and copying; the second, short one stretches the worked problems
# by a step. How long these are decides how good the warm start is: the model copies by position
# and fails at the first length it has not seen.
PHASES: tuple[tuple[int, int, float], ...] = ((3, 800, 3e-3), (4, 200, 1.5e-3))

# kind of document -> (share of documents, most steps (None: the phase says), its text)
MATERIAL: dict[str, tuple[float, int | None, Callable[[Problem], str]]] = {
    "run": (0.25, 6, lambda p: f"run {p.thought}"),
    "raw": (0.10, 2, lambda p: f"{p.question} {p.answer}"),
    "worked": (0.225, None, lambda p: f"{p.question} work {p.thought} {p.answer}"),
    "after": (0.225, None, lambda p: f"{p.question} {p.answer} work {p.thought}"),
    "copy": (0.20, 6, lambda p: f"copy {p.question} copy {p.question}"),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; no unknown words by construction, so none is mapped to <pad>."""
    vocabulary = {word: index for index, word in enumerate((PAD, EOS, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS)


def build_model(vocab_size: int, eos_id: int, pad_id: int, seed: int) -> LlamaForCausalLM:
    """A randomly initialised Llama of about a third of a million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=eos_id,
            pad_token_id=pad_id,
        )
    )


def draw_document(rng: np.random.Generator, worked_steps: int) -> str:
    """The text of one random pretraining document, without <eos>."""
    kinds = list(MATERIAL)
    shares = np.array([MATERIAL[kind][0] for kind in kinds])
    _, max_steps, text_of = MATERIAL[kinds[rng.choice(len(kinds), p=shares / shares.sum())]]
    return text_of(draw_problem(rng, 1, max_steps or worked_steps))


def draw_documents(rng: np.random.Generator, token_ids: dict[str, int], steps: int) -> Iterator[list[int]]:
    """Endless random documents as token ids."""
    while True:
        yield [token_ids[word] for word in draw_document(rng, steps).split()] + [token_ids[EOS]]


def main() -> None:
    """Reads the options, pretrains, saves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("lt_hpc/data/demo_base"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=20, help=f"rows of {ROW_LENGTH} tokens per step")
    args = parser.parse_args()

    torch.set_num_threads(1)  # a model this small is slower on two
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, args.seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    for phase, (worked_steps, steps, lr) in enumerate(PHASES):
        rng = np.random.default_rng(args.seed if phase == 0 else (args.seed, phase))
        print(f"phase {phase + 1}: worked problems of 1-{worked_steps} steps")
        documents = draw_documents(rng, tokenizer.get_vocab(), worked_steps)
        loss = pretrain(model, documents, Phase(steps, lr, args.rows, ROW_LENGTH))
    save(model, tokenizer, args.out)
    print(f"saved {args.out}: loss {loss:.4f}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
