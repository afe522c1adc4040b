"""evaluate: held-out measures of one model.

Accuracy by generating thought, then answer; accuracy without a thought; NLL of the raw
text; and the K-sample bound with the model's own posterior as the proposal. All in nats,
markers never counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lt_hpc.cluster.plan import training_data
from lt_hpc.data import answers
from lt_hpc.data import corpus as corpora
from lt_hpc.data.corpus import Chunk
from lt_hpc.engines.load import load
from lt_hpc.engines.protocol import Engine, SamplingParams
from lt_hpc.latent import diagnostics, seeds, weights
from lt_hpc.stages.context import Task, Vocabulary
from lt_hpc.stages.estep import propose
from lt_hpc.store import manifest
from lt_hpc.store.atomic import clean_temporaries, write_json
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import METRICS

NUM_EXAMPLES = 5


def run(task: Task) -> None:
    """Write eval/metrics.json for the model of the iteration."""
    from transformers import AutoTokenizer

    started = time.monotonic()
    config, iteration = task.plan.config, task.stage.iteration
    model = task.paths.model(iteration)
    manifest.verified(model, task.plan.output(f"iter-{iteration:02d}/model"))
    engine = load(config, model, config.evaluate.dtype)
    corpus = corpora.read(task.paths.documents("heldout"), task.plan.output("heldout"), task.view)
    chunks = list(corpus.chunks())
    evaluation = _Evaluation(task, engine, AutoTokenizer.from_pretrained(model), task.vocabulary())
    task.progress.start(len(chunks), "chunks")
    for start in range(0, len(chunks), config.sample.block_chunks):
        task.stop_if_asked()
        block = chunks[start : start + config.sample.block_chunks]
        evaluation.add(block, corpus.document[start : start + len(block)].tolist())
        task.progress.advance(len(block))
    folder = task.paths.evaluation(iteration)
    folder.mkdir(parents=True, exist_ok=True)
    clean_temporaries(folder)
    write_json(folder / METRICS, evaluation.metrics())
    record = Manifest(
        "evaluation", task.stage.fingerprint, True, (manifest.describe(folder / METRICS),),
        {"chunks": len(chunks)}, time.monotonic() - started, provenance=manifest.provenance(),
    )  # fmt: skip
    manifest.write(folder, record)


@dataclass
class _Evaluation:
    """What was measured of each held-out chunk, in chunk order."""

    task: Task
    engine: Engine
    tokenizer: Any
    vocabulary: Vocabulary
    documents: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    raw_tokens: list[int] = field(default_factory=list)
    raw_bytes: list[float] = field(default_factory=list)
    raw_nll: list[float] = field(default_factory=list)
    marked_nll: list[float] = field(default_factory=list)
    bounds: list[np.ndarray] = field(default_factory=list)
    ess: list[float] = field(default_factory=list)
    correct: dict[str, list[bool]] = field(
        default_factory=lambda: {"thought": [], "sampled": [], "direct": []}
    )
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, chunks: list[Chunk], documents: list[int]) -> None:
        """Measure one block of chunks, each of one of these documents."""
        self.documents += documents
        self._likelihood(chunks)
        self._bound(chunks)
        if self.task.plan.config.chunking.mode == "given":
            self._answers(chunks)

    def _likelihood(self, chunks: list[Chunk]) -> None:
        layout = self.vocabulary.layout
        # Without any prefix the first token has nothing to be predicted from: not counted.
        split = [(c.prefix, c.suffix) if c.prefix else (c.suffix[:1], c.suffix[1:]) for c in chunks]
        raw = self.engine.score([prefix for prefix, _ in split], [[suffix] for _, suffix in split])
        marked = self.engine.score(
            [layout.marked_prompt(c.prefix) for c in chunks], [[c.suffix] for c in chunks]
        )
        self.raw_nll += [-float(scores[0].astype(np.float64).sum()) for scores in raw]
        self.marked_nll += [-float(scores[0].astype(np.float64).sum()) for scores in marked]
        self.raw_tokens += [len(suffix) for _, suffix in split]
        self.raw_bytes += [
            c.num_bytes * len(suffix) / len(c.suffix) for c, (_, suffix) in zip(chunks, split, strict=True)
        ]
        self.tokens += [len(c.suffix) for c in chunks]
        self.bytes += [c.num_bytes for c in chunks]

    def _seed(self, purpose: str, chunk: Chunk, sample: int) -> int:
        return seeds.derive(
            self.task.plan.config.seed, purpose, self.task.stage.iteration, chunk.chunk_id, sample
        )

    def _params(self, stop: int, tokens: int, temperature: float) -> SamplingParams:
        return SamplingParams(tokens, stop, temperature)

    def _bound(self, chunks: list[Chunk]) -> None:
        settings, num_samples = self.task.plan.config.sample, self.task.plan.config.evaluate.num_samples
        layout = self.vocabulary.layout
        params = SamplingParams(
            settings.max_thought_tokens, layout.eol, settings.temperature, settings.top_p, settings.top_k
        )
        draws = [[self._seed("bound", chunk, k) for k in range(num_samples)] for chunk in chunks]
        for p in propose(self.engine, layout, chunks, draws, params):
            log_w = weights.log_weights(p.log_prior, p.log_likelihood, p.log_q, p.finished)
            self.bounds.append(weights.bounds_by_k(log_w))
            if p.finished.any():
                self.ess.append(float(weights.effective_sample_size(log_w)))

    def _answers(self, chunks: list[Chunk]) -> None:
        settings, evaluate = self.task.plan.config.sample, self.task.plan.config.evaluate
        layout = self.vocabulary.layout
        for name, temperature in (("thought", 0.0), ("sampled", 1.0)):
            prompts = [layout.joint_prompt(chunk.prefix) for chunk in chunks]
            params = self._params(layout.eol, settings.max_thought_tokens, temperature)
            draws = [[self._seed(f"{name} thought", chunk, 0)] for chunk in chunks]
            thoughts = [one[0] for one in self.engine.sample(prompts, draws, params)]
            done = [i for i, thought in enumerate(thoughts) if thought.finished]
            joint = [[*prompts[i], *thoughts[i].ids.tolist()] for i in done]
            texts = self._generate(
                [chunks[i] for i in done], joint, name, temperature, evaluate.max_answer_tokens
            )
            answered = dict(zip(done, texts, strict=True))
            self._judge(name, chunks, [answered.get(i, "") for i in range(len(chunks))])
            if name == "thought" and len(self.examples) < NUM_EXAMPLES:
                self._keep_examples(chunks, [thought.ids.tolist() for thought in thoughts], answered)
        raw = training_data(self.task.plan.config, self.task.stage.iteration) == "raw"
        direct = [list(c.prefix) if raw else layout.marked_prompt(c.prefix) for c in chunks]
        self._judge(
            "direct", chunks, self._generate(chunks, direct, "direct", 0.0, evaluate.max_answer_tokens)
        )

    def _generate(
        self, chunks: list[Chunk], prompts: list[list[int]], name: str, temperature: float, tokens: int
    ) -> list[str]:
        stop = self.vocabulary.eos if self.vocabulary.eos is not None else -1
        draws = [[self._seed(f"{name} answer", chunk, 0)] for chunk in chunks]
        samples = self.engine.sample(prompts, draws, self._params(stop, tokens, temperature))
        return [self._text(one[0].ids.tolist()) for one in samples]

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode([i for i in ids if i != self.vocabulary.eos]))

    def _judge(self, name: str, chunks: list[Chunk], texts: list[str]) -> None:
        self.correct[name] += [
            answers.same(text, self._text(chunk.suffix)) for chunk, text in zip(chunks, texts, strict=True)
        ]

    def _keep_examples(
        self, chunks: list[Chunk], thoughts: list[list[int]], answered: dict[int, str]
    ) -> None:
        for i, chunk in enumerate(chunks[: NUM_EXAMPLES - len(self.examples)]):
            self.examples.append(
                {
                    "prefix": self._text(chunk.prefix),
                    "suffix": self._text(chunk.suffix),
                    "thought": self._text(thoughts[i]),
                    "answer": answered.get(i),
                }
            )

    def metrics(self) -> dict[str, Any]:
        """JSON-able measures, nats a token unless named otherwise, with 95% bootstrap intervals over
        documents; null where something can't be measured on this corpus.

        The bound leaves out chunks without any finished thought, where it is -inf; the bound by K
        also those whose first thought is unfinished, so that every K is of the same chunks.
        """
        raw = training_data(self.task.plan.config, self.task.stage.iteration) == "raw"
        correct = self.correct["direct" if raw else "thought"]
        bounds = np.array(self.bounds)
        defined, every_k = np.isfinite(bounds[:, -1]), np.isfinite(bounds[:, 0])
        ones = np.ones(len(self.tokens))
        by_k = [self._ratio(column, self.tokens, every_k) for column in bounds.T]
        found = {
            "accuracy": self._ratio(correct, ones),
            "accuracy_sampled": self._ratio(self.correct["sampled"], ones),
            "accuracy_direct": self._ratio(self.correct["direct"], ones),
            "nll": self._ratio(self.raw_nll, self.raw_tokens),
            "nll_a_byte": self._ratio(self.raw_nll, self.raw_bytes),
            "nll_marked": self._ratio(self.marked_nll, self.tokens),
            "nll_marked_a_byte": self._ratio(self.marked_nll, self.bytes),
            "bound": self._ratio(bounds[:, -1], self.tokens, defined),
            "bound_a_byte": self._ratio(bounds[:, -1], self.bytes, defined),
        }
        return {
            "iteration": self.task.stage.iteration,
            **{name: measure[0] for name, measure in found.items()},
            "bound_by_k": [measure[0] for measure in by_k],
            "bound_undefined_chunks": int((~defined).sum()),
            "bound_by_k_undefined_chunks": int((~every_k).sum()),
            "intervals": {
                **{name: measure[1] for name, measure in found.items()},
                "bound_by_k": [measure[1] for measure in by_k],
            },
            "ess_mean": float(np.mean(self.ess)) if self.ess else None,
            "num_samples": self.task.plan.config.evaluate.num_samples,
            "chunks": len(self.tokens),
            "tokens": sum(self.tokens),
            "bytes": sum(self.bytes),
            "examples": self.examples,
        }

    def _ratio(
        self, numerators: Any, denominators: Any, kept: np.ndarray | None = None
    ) -> tuple[float | None, list[float] | None]:
        """Sum over sum of the kept chunks, and [low, high] of it; the same documents are drawn again for
        every measure. None and None without chunks."""
        if not len(numerators):
            return None, None
        # A text of one token and no prefix predicts nothing.
        kept = (np.asarray(denominators) > 0) & (True if kept is None else kept)
        if not kept.any():
            return None, None
        documents, place = np.unique(np.asarray(self.documents)[kept], return_inverse=True)
        sums = np.zeros((2, len(documents)))
        np.add.at(sums[0], place, np.asarray(numerators, np.float64)[kept])
        np.add.at(sums[1], place, np.asarray(denominators, np.float64)[kept])
        generator = seeds.generator(self.task.plan.config.seed, "bootstrap", self.task.stage.iteration)
        low, high = diagnostics.ratio_interval(sums[0], sums[1], generator)
        return float(sums[0].sum() / sums[1].sum()), [float(low), float(high)]
