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
        evaluation.add(block)
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
    tokens: list[int] = field(default_factory=list)
    raw_tokens: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    raw_nll: list[float] = field(default_factory=list)
    marked_nll: list[float] = field(default_factory=list)
    bounds: list[np.ndarray] = field(default_factory=list)
    bound_tokens: list[int] = field(default_factory=list)
    bound_bytes: list[int] = field(default_factory=list)
    ess: list[float] = field(default_factory=list)
    undefined: int = 0
    correct: dict[str, list[bool]] = field(
        default_factory=lambda: {"thought": [], "sampled": [], "direct": []}
    )
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, chunks: list[Chunk]) -> None:
        """Measure one block of chunks."""
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
        for chunk, p in zip(chunks, propose(self.engine, layout, chunks, draws, params), strict=True):
            log_w = weights.log_weights(p.log_prior, p.log_likelihood, p.log_q, p.finished)
            if not p.finished.any():
                self.undefined += 1
                continue
            self.ess.append(float(weights.effective_sample_size(log_w)))
            self.bounds.append(weights.bounds_by_k(log_w))
            self.bound_tokens.append(len(chunk.suffix))
            self.bound_bytes.append(chunk.num_bytes)

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
        chunks; null where something can't be measured on this corpus."""
        raw = training_data(self.task.plan.config, self.task.stage.iteration) == "raw"
        correct = self.correct["direct" if raw else "thought"]
        bounds = np.array(self.bounds)
        whole = bounds[:, -1].tolist() if len(bounds) else []
        return {
            "iteration": self.task.stage.iteration,
            "accuracy": _ratio(correct, [1] * len(correct)),
            "accuracy_sampled": _ratio(self.correct["sampled"], [1] * len(correct)),
            "accuracy_direct": _ratio(self.correct["direct"], [1] * len(correct)),
            "nll": _ratio(self.raw_nll, self.raw_tokens),
            "nll_a_byte": _ratio(self.raw_nll, self.bytes),
            "nll_marked": _ratio(self.marked_nll, self.tokens),
            "bound": _ratio(whole, self.bound_tokens),
            "bound_a_byte": _ratio(whole, self.bound_bytes),
            "bound_by_k": [_ratio(column, self.bound_tokens) for column in bounds.T],
            "bound_undefined_chunks": self.undefined,
            "intervals": {
                "accuracy": self._interval(correct, [1] * len(correct)),
                "nll": self._interval(self.raw_nll, self.raw_tokens),
                "bound": self._interval(whole, self.bound_tokens),
                "bound_by_k": [self._interval(column, self.bound_tokens) for column in bounds.T],
            },
            "ess_mean": float(np.mean(self.ess)) if self.ess else None,
            "num_samples": self.task.plan.config.evaluate.num_samples,
            "tokens": sum(self.tokens),
            "bytes": sum(self.bytes),
            "examples": self.examples,
        }

    def _interval(self, numerators: Any, denominators: list[int]) -> list[float] | None:
        """[low, high] of a ratio of sums; the same resampled chunks for every measure."""
        if not len(numerators) or not np.isfinite(numerators).all():
            return None
        generator = seeds.generator(self.task.plan.config.seed, "bootstrap", self.task.stage.iteration)
        low, high = diagnostics.ratio_interval(
            np.asarray(numerators, np.float64), np.asarray(denominators), generator
        )
        return [float(low), float(high)]


def _ratio(numerators: Any, denominators: list[int]) -> float | None:
    """Sum over sum; None without chunks, or where one has no bound (no finished thought so far)."""
    if not len(numerators) or not np.isfinite(numerators).all():
        return None
    return float(np.sum(numerators)) / max(1, sum(denominators))
