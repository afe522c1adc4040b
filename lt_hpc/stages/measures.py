"""What is measured of each held-out chunk: log-probabilities, the weights of its thoughts, answers.

All in nats, markers never counted. Every draw's seed is the chunk's own, so blocks can be measured
in any order and attempt. Thoughts are drawn from the model as it is, half of them from its posterior and half
from its prior: what is measured does not depend on how the E-step samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lt_hpc.data import answers
from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.protocol import Engine, Ids, SamplingParams
from lt_hpc.latent import seeds
from lt_hpc.stages.estep import Proposals, Scheme, draw, propose
from lt_hpc.stages.task import Task, Vocabulary
from lt_hpc.store import tables

PRIOR_SHARE = 0.5
Columns = dict[str, list[Any]]


def text(tokenizer: Any, vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """Decoded, without the tokens that stand before and after a text."""
    begin = int(vocabulary.bos is not None and list(ids[:1]) == [vocabulary.bos])
    end = len(ids) - int(list(ids[-1:]) == [vocabulary.eos])
    return str(tokenizer.decode(list(ids[begin:end])))


def has_thoughts(task: Task) -> bool:
    """Whether the model that is measured was trained with markers; of one that was not trained in the run,
    the stage itself says so."""
    markers, plan, stage = task.stage.settings.get("markers"), task.plan, task.stage
    if markers is None:
        measuring = stage if stage.computes else plan.producer(stage.inputs["measured"])
        return bool(plan.producer(measuring.inputs["model"]).settings["data"] != "raw")
    return bool(markers)


def predicted(tokenizer: Any, chunk: Chunk) -> Chunk | None:
    """The chunk as it is measured: nothing predicts the first token of a text without any prefix, so it
    becomes the prefix. None where nothing is left."""
    if chunk.prefix:
        return chunk
    first, rest = chunk.suffix[:1], chunk.suffix[1:]
    if not rest:
        return None
    said = str(tokenizer.decode(first))
    # A part of a character can't be decoded: it counts as an average token.
    size = round(chunk.num_bytes / len(chunk.suffix)) if "\ufffd" in said else len(said.encode())
    return replace(chunk, prefix=first, suffix=rest, num_bytes=chunk.num_bytes - size)


class Measures:
    """Measures chunks with the model that `engine` holds; `tokenizer` is for answers alone."""

    def __init__(self, task: Task, engine: Engine, tokenizer: Any) -> None:
        self.config, self.iteration = task.plan.config, task.stage.iteration
        self.vocabulary, self.raw = task.vocabulary, not has_thoughts(task)
        self.engine, self.tokenizer = engine, tokenizer

    def block(self, chunks: list[Chunk], documents: list[int], estimated: list[bool]) -> Columns:
        """The columns of `tables.MEASURED` for chunks of these documents; `estimated`: which of them get an
        estimate of log p(x | c)."""
        columns: Columns = {
            **dict.fromkeys(tables.MEASURED.names, [None] * len(chunks)),
            "chunk": [chunk.chunk_id for chunk in chunks],
            "document": documents,
            "tokens": [len(chunk.suffix) for chunk in chunks],
            "bytes": [chunk.num_bytes for chunk in chunks],
        }
        columns["nll"] = self._nll([chunk.prefix for chunk in chunks], chunks)
        if self.raw:
            columns["many_log_weights"] = [
                [-nll] if some else None for nll, some in zip(columns["nll"], estimated, strict=True)
            ]
        else:
            columns |= self._thoughts(chunks, estimated)
        if self.config.chunking.mode == "given":
            columns |= self._direct_answers(chunks)
            if not self.raw:
                columns |= self._answers(chunks)
        return columns

    def proposals(self, purpose: str, chunks: list[Chunk], num_samples: int) -> list[Proposals]:
        """So many thoughts of each chunk."""
        draws = [[self._seed(purpose, chunk, k) for k in range(num_samples)] for chunk in chunks]
        return propose(self.engine, self.vocabulary.layout, chunks, draws, self.scheme)

    @property
    def scheme(self) -> Scheme:
        """What thoughts are drawn from."""
        params = SamplingParams(self.config.sample.max_thought_tokens, self.vocabulary.layout.eol)
        return Scheme(params, PRIOR_SHARE)

    def _text(self, ids: Sequence[int]) -> str:
        return text(self.tokenizer, self.vocabulary, ids)

    def _nll(self, prompts: list[list[int]], chunks: list[Chunk]) -> list[float]:
        scores = self.engine.score(prompts, [[chunk.suffix] for chunk in chunks])
        return [-float(one[0].astype(np.float64).sum()) for one in scores]

    def _thoughts(self, chunks: list[Chunk], estimated: list[bool]) -> Columns:
        marked = [self.vocabulary.layout.marked_prompt(chunk.prefix) for chunk in chunks]
        settings = self.config.evaluate
        found = self.proposals("bound", chunks, settings.num_samples)
        some = [chunk for chunk, chosen in zip(chunks, estimated, strict=True) if chosen]
        many = iter(self.proposals("estimate", some, settings.estimate_samples) if some else [])
        from_prior = self.scheme.num_prior(settings.num_samples)
        columns: Columns = {
            "nll_marked": self._nll(marked, chunks),
            "log_weights": [one.log_weights.tolist() for one in found],
            "cut": [int(one.cut.sum()) for one in found],
            "many_log_weights": [next(many).log_weights.tolist() if chosen else None for chosen in estimated],
        }
        if from_prior and self.config.chunking.mode == "given":
            columns["likelihood_prior"] = [
                min(1.0, float(np.exp(one.log_likelihood[-from_prior:]).mean())) for one in found
            ]
        return columns

    def _answers(self, chunks: list[Chunk]) -> Columns:
        """After a greedy thought, and after several sampled ones."""
        count = self.config.evaluate.answer_samples
        greedy = self._after_thoughts("thought", chunks, 1, 0.0)
        sampled = self._after_thoughts("sampled", chunks, count, 1.0)
        said = [[answer for _, answer in of_chunk] for of_chunk in sampled]
        right = [self._text(chunk.suffix) for chunk in chunks]
        pairs = list(zip(said, right, strict=True))
        return {
            "thought": [of_chunk[0][0] for of_chunk in greedy],
            "answer_thought": [of_chunk[0][1] for of_chunk in greedy],
            "correct_thought": [answers.same(one[0][1], x) for one, x in zip(greedy, right, strict=True)],
            "answers_sampled": said,
            "correct_sampled": [[answers.same(answer, x) for answer in many] for many, x in pairs],
            "correct_majority": [answers.same(answers.majority(many), x) for many, x in pairs],
        }

    def _direct_answers(self, chunks: list[Chunk]) -> Columns:
        layout = self.vocabulary.layout
        prompts = [list(c.prefix) if self.raw else layout.marked_prompt(c.prefix) for c in chunks]
        found = self._generate("direct answer", chunks, [[prompt] for prompt in prompts], 0.0)
        right = [self._text(chunk.suffix) for chunk in chunks]
        return {
            "answer_direct": [one[0] for one in found],
            "correct_direct": [answers.same(one[0], x) for one, x in zip(found, right, strict=True)],
        }

    def _after_thoughts(
        self, name: str, chunks: list[Chunk], count: int, temperature: float
    ) -> list[list[tuple[list[int], str]]]:
        """(thought with its <EOL>, answer after it), `count` of each chunk."""
        layout = self.vocabulary.layout
        prompts: list[Ids] = [layout.joint_prompt(chunk.prefix) for chunk in chunks]
        draws = [[self._seed(f"{name} thought", chunk, k) for k in range(count)] for chunk in chunks]
        free = SamplingParams(self.config.sample.max_thought_tokens - 1, layout.eol, temperature)
        thoughts = [[one.ids for one in of_chunk] for of_chunk in draw(self.engine, prompts, draws, free)]
        joint = [[[*p, *ids] for ids in many] for p, many in zip(prompts, thoughts, strict=True)]
        said = self._generate(f"{name} answer", chunks, joint, temperature)
        return [list(zip(ids, of_chunk, strict=True)) for ids, of_chunk in zip(thoughts, said, strict=True)]

    def _generate(
        self, purpose: str, chunks: list[Chunk], prompts: list[list[list[int]]], temperature: float
    ) -> list[list[str]]:
        """One answer for each prompt of each chunk."""
        stop = self.vocabulary.eos if self.vocabulary.eos is not None else -1
        params = SamplingParams(self.config.evaluate.max_answer_tokens, stop, temperature)
        draws = [
            [self._seed(purpose, chunk, k)]
            for chunk, many in zip(chunks, prompts, strict=True)
            for k in range(len(many))
        ]
        samples = iter(self.engine.sample([one for many in prompts for one in many], draws, params))
        return [[self._text(next(samples)[0].ids.tolist()) for _ in many] for many in prompts]

    def _seed(self, purpose: str, chunk: Chunk, sample: int) -> int:
        return seeds.derive(self.config.seed, purpose, self.iteration, chunk.chunk_id, sample)
