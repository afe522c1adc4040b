"""What is measured of each held-out chunk: log-probabilities, the weights of its thoughts, answers.

All in nats, markers never counted. Every draw's seed is the chunk's own, so blocks can be measured
in any order and attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_hpc.data import answers
from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.protocol import Engine, SamplingParams
from lt_hpc.latent import seeds, weights
from lt_hpc.stages.estep import propose
from lt_hpc.stages.task import Task, Vocabulary
from lt_hpc.store import tables

Columns = dict[str, list[Any]]


def text(tokenizer: Any, vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """Decoded, without the tokens that stand before and after a text."""
    begin = int(vocabulary.bos is not None and list(ids[:1]) == [vocabulary.bos])
    end = len(ids) - int(list(ids[-1:]) == [vocabulary.eos])
    return str(tokenizer.decode(list(ids[begin:end])))


def trained_on(task: Task) -> str:
    """What the model that is measured was trained on: teacher | selected | raw."""
    return str(task.plan.producer(task.stage.inputs["model"]).settings["data"])


class Measures:
    """Measures chunks with the model that `engine` holds; `tokenizer` is for answers alone."""

    def __init__(self, task: Task, engine: Engine, tokenizer: Any) -> None:
        self.config, self.iteration = task.plan.config, task.stage.iteration
        self.vocabulary, self.raw = task.vocabulary, trained_on(task) == "raw"
        self.engine, self.tokenizer = engine, tokenizer

    def block(self, chunks: list[Chunk], documents: list[int]) -> Columns:
        """The columns of `tables.MEASURED` for chunks of these documents."""
        columns: Columns = {
            **dict.fromkeys(tables.MEASURED.names, [None] * len(chunks)),
            "chunk": [chunk.chunk_id for chunk in chunks],
            "document": documents,
            "tokens": [len(chunk.suffix) for chunk in chunks],
            "bytes": [chunk.num_bytes for chunk in chunks],
            **self._likelihood(chunks),
            "log_weights": self._log_weights(chunks),
        }
        if self.config.chunking.mode == "given":
            return columns | self._answers(chunks)
        return columns

    def _text(self, ids: Sequence[int]) -> str:
        return text(self.tokenizer, self.vocabulary, ids)

    def _likelihood(self, chunks: list[Chunk]) -> Columns:
        # Without any prefix the first token has nothing to be predicted from: not counted.
        split = [(c.prefix, c.suffix) if c.prefix else (c.suffix[:1], c.suffix[1:]) for c in chunks]
        raw = self.engine.score([prefix for prefix, _ in split], [[suffix] for _, suffix in split])
        marked = self.engine.score(
            [self.vocabulary.layout.marked_prompt(c.prefix) for c in chunks], [[c.suffix] for c in chunks]
        )
        return {
            "raw_tokens": [len(suffix) for _, suffix in split],
            "raw_bytes": [
                c.num_bytes * len(suffix) / len(c.suffix)
                for c, (_, suffix) in zip(chunks, split, strict=True)
            ],
            "nll": [-float(scores[0].astype(np.float64).sum()) for scores in raw],
            "nll_marked": [-float(scores[0].astype(np.float64).sum()) for scores in marked],
        }

    def _log_weights(self, chunks: list[Chunk]) -> list[list[float]]:
        settings, num_samples = self.config.sample, self.config.evaluate.num_samples
        layout = self.vocabulary.layout
        params = SamplingParams(
            settings.max_thought_tokens, layout.eol, settings.temperature, settings.top_p, settings.top_k
        )
        draws = [[self._seed("bound", chunk, k) for k in range(num_samples)] for chunk in chunks]
        return [
            weights.log_weights(p.log_prior, p.log_likelihood, p.log_q, p.finished).tolist()
            for p in propose(self.engine, layout, chunks, draws, params)
        ]

    def _answers(self, chunks: list[Chunk]) -> Columns:
        """After a greedy thought, after a sampled one, and without any."""
        layout = self.vocabulary.layout
        columns: Columns = {}
        for name, temperature in (("thought", 0.0), ("sampled", 1.0)):
            prompts = [layout.joint_prompt(chunk.prefix) for chunk in chunks]
            thoughts = self._generate(
                f"{name} thought",
                chunks,
                prompts,
                layout.eol,
                self.config.sample.max_thought_tokens,
                temperature,
            )
            done = [i for i, thought in enumerate(thoughts) if thought[-1:] == [layout.eol]]
            joint = [[*prompts[i], *thoughts[i]] for i in done]
            found = self._answer(name, [chunks[i] for i in done], joint, temperature)
            by_chunk = dict(zip(done, found, strict=True))
            columns[f"answer_{name}"] = [by_chunk.get(i) for i in range(len(chunks))]
            if name == "thought":
                columns["thought"] = thoughts
        direct = [list(c.prefix) if self.raw else layout.marked_prompt(c.prefix) for c in chunks]
        columns["answer_direct"] = self._answer("direct", chunks, direct, 0.0)
        expected = [self._text(chunk.suffix) for chunk in chunks]
        for name in ("thought", "sampled", "direct"):
            columns[f"correct_{name}"] = [
                answer is not None and answers.same(answer, right)
                for answer, right in zip(columns[f"answer_{name}"], expected, strict=True)
            ]
        return columns

    def _answer(
        self, name: str, chunks: list[Chunk], prompts: list[list[int]], temperature: float
    ) -> list[str]:
        stop = self.vocabulary.eos if self.vocabulary.eos is not None else -1
        tokens = self.config.evaluate.max_answer_tokens
        ids = self._generate(f"{name} answer", chunks, prompts, stop, tokens, temperature)
        return [self._text(one) for one in ids]

    def _generate(
        self,
        purpose: str,
        chunks: list[Chunk],
        prompts: list[list[int]],
        stop: int,
        tokens: int,
        temperature: float,
    ) -> list[list[int]]:
        """One continuation a prompt, with the stop token where it came to that."""
        draws = [[self._seed(purpose, chunk, 0)] for chunk in chunks]
        samples = self.engine.sample(prompts, draws, SamplingParams(tokens, stop, temperature))
        return [one[0].ids.tolist() for one in samples]

    def _seed(self, purpose: str, chunk: Chunk, sample: int) -> int:
        return seeds.derive(self.config.seed, purpose, self.iteration, chunk.chunk_id, sample)
