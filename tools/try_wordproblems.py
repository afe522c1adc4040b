"""python tools/try_wordproblems.py MODEL [--families legs letters gsm] [--problems 200]

How many problems of each family and level a base model of `make_wordproblems_base.py` answers right: at once,
and when it is asked to work first. Greedy decoding; 95% intervals over problems.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from lt_hpc.data import answers
from lt_hpc.data.chain_task import Problem
from lt_hpc.data.word_task import FAMILIES, Level, problem
from lt_hpc.latent import intervals

SEED = 20_000
"""Not of a configuration, nor of a base."""
LONGEST = 320
BATCH = 50


def continued(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], longest: int
) -> list[str]:
    """What the model writes after each prompt, up to its end of text."""
    found = []
    for start in range(0, len(prompts), BATCH):
        batch = tokenizer(list(prompts[start : start + BATCH]), return_tensors="pt", padding=True)
        with torch.inference_mode():
            ids = model.generate(**batch, max_new_tokens=longest, do_sample=False)
        found += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def right(said: Sequence[str], problems: Sequence[Problem]) -> str:
    """The share of right answers, with its interval."""
    hits = np.array([answers.same(one, of.answer) for one, of in zip(said, problems, strict=True)], float)
    share, interval = intervals.mean_share(hits, np.ones(len(hits)))
    return f"{share:.3f}" if interval is None else f"{share:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--problems", type=int, default=200)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(args.model).eval()
    print("| family | level | at once | after work | median tokens of work |\n|---|---|---|---|---|")
    for family in args.families:
        for level in get_args(Level):
            problems = [problem(family, level, SEED, index) for index in range(args.problems)]
            direct = continued(model, tokenizer, [one.question for one in problems], 16)
            worked = continued(model, tokenizer, [f"{one.question}Solution:" for one in problems], LONGEST)
            tokens = np.median([len(tokenizer(one.thought)["input_ids"]) for one in problems])
            cells = [family, level, right(direct, problems), right(worked, problems), f"{tokens:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
