"""What stages that ask a model will take of it: tokens to sample and to score, and the pace of an engine, as
the run has measured it or as it is set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from lt_hpc.config import prompts
from lt_hpc.config.schema import Config
from lt_hpc.latent.cost import ModelShape, prompt_bytes, reference_bytes
from lt_hpc.run.plan import Plan, Stage
from lt_hpc.store import manifest, shards
from lt_hpc.store.paths import RunPaths, relative_paths, shard_folder


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of one engine that samples and scores, medians over the shards that were measured.

    Attributes:
        source: the stage whose shards these are, or the setting that says so.
        shards: how many; 0 for a setting.
        sampled_range, scored_range: lowest and highest of the shards.
    """

    source: str
    shards: int
    sampled: float
    scored: float
    sampled_range: tuple[float, float]
    scored_range: tuple[float, float]

    def hours(self, sampled_tokens: float, scored_tokens: float) -> float:
        """Of one engine."""
        return (sampled_tokens / self.sampled + scored_tokens / self.scored) / 3600


@dataclass(frozen=True)
class Sampling:
    """One E-step.

    Attributes:
        stage: its key.
        more: later E-steps that cost the same.
        num_samples: K, thoughts per chunk.
        sampled_tokens: tokens of all thoughts.
        scored_tokens: tokens of all thoughts and of the chunk after each of them, without prefixes.
        throughput: of one engine; None: not measured and not set.
        prompt_bytes: bytes of a GPU that vLLM takes for scoring beside what it plans with; None: not known,
            or another engine.
        reference_bytes: bytes of the float32 check beside it; None likewise, or where there is none.
    """

    stage: str
    more: int
    num_samples: int
    sampled_tokens: float
    scored_tokens: float
    throughput: Throughput | None
    prompt_bytes: float | None
    reference_bytes: float | None


@dataclass(frozen=True)
class Synthesis:
    """What a teacher is asked: one answer per chunk, more where some are refused. None: not known.

    Attributes:
        stage: its key.
        chunks: of the warm documents.
        prompt_tokens: tokens of all questions by the run's tokenizer: chunk, prefix, the prompt around.
        answer_tokens: tokens of all answers, each as long as `estimate.thought_tokens` says, or at the limit.
    """

    stage: str
    chunks: int | None
    prompt_tokens: float | None
    answer_tokens: float | None


@dataclass(frozen=True)
class Evaluation:
    """Of one model. None: not known.

    Attributes:
        stage: its key.
        more: later ones that cost the same; a model without thoughts costs less.
        sampled_tokens: tokens of all thoughts, and of answers at their limit.
        scored_tokens: tokens of the thoughts that are weighed and of the chunk after each of them, and of the
            text twice, without prefixes.
        throughput: of one engine; None: not measured and not set.
    """

    stage: str
    more: int
    sampled_tokens: float | None
    scored_tokens: float | None
    throughput: Throughput | None


@dataclass(frozen=True)
class Answering:
    """Answers to benchmarks of one model. How many items a task has is known once its data are loaded.

    Attributes:
        stage: its key.
        more: later stages that cost the same.
        item_tokens: tokens of a thought and an answer at most; None: the tasks say how long an answer may be.
        tokens: of all items of one task that is no group, in all trials, at most; None: not known.
        pace: sampled tokens per second of one engine, as measured or set; None: neither.
    """

    stage: str
    more: int
    item_tokens: int | None
    tokens: int | None
    pace: float | None


def raw_tokens(plan: Plan, folder: str, paths: RunPaths) -> float | None:
    """Tokens of the documents in a folder of the run, without thoughts and prefixes: from the finished
    corpus where there is one, else from `estimate`."""
    given = plan.config.estimate
    record = manifest.read(paths.root / folder)
    if record is not None and record.complete and "tokens" in record.counts:
        return record.counts["tokens"]
    for corpus, tokens in (("warm", given.warm_tokens), ("heldout", given.heldout_tokens)):
        if folder == str(relative_paths().documents(corpus)):
            return tokens
    return given.corpus_tokens


def prefix_copies(config: Config, shared: bool = False) -> float:
    """How often the text of a long document is computed as the prefix of its chunks: with each of them, or
    once where they are `shared` by all that begin alike."""
    chunking = config.chunking
    if chunking.mode != "sentences":
        return 0.0
    if shared:
        return chunking.prefix_chunks / chunking.prefix_stride
    return chunking.prefix_chunks - (chunking.prefix_stride - 1) / 2


def synthesis(plan: Plan, paths: RunPaths) -> Synthesis | None:
    stage = next((stage for stage in plan.stages if "teacher" in stage.settings), None)
    if stage is None:
        return None
    config = plan.config
    record = manifest.read(paths.root / stage.inputs["documents"])
    chunks = record.counts.get("chunks") if record is not None and record.complete else None
    raw = raw_tokens(plan, stage.inputs["documents"], paths)
    if chunks is None or raw is None:
        return Synthesis(stage.key, None, None, None)
    copies = 1 + prefix_copies(config)
    # A token is about four characters of English.
    around = chunks * len(prompts.read(config.teacher.prompt)) / 4
    thought = config.estimate.thought_tokens
    answers = chunks * config.teacher.max_tokens if thought is None else thought * raw
    wanted = config.teacher.answers
    return Synthesis(stage.key, chunks, wanted * (raw * copies + around), wanted * answers)


def answering(plan: Plan, paths: RunPaths) -> Answering | None:
    stages = [stage for stage in plan.stages if "benchmark" in stage.settings]
    if not stages:
        return None
    config, settings = plan.config, plan.config.benchmark
    item = settings.max_answer_tokens
    if item is not None and settings.thoughts:
        item += config.benchmark_thought_tokens
    limited = settings.limit is not None and item is not None
    records = [
        record
        for stage in stages
        for folder in (paths.root / stage.output).glob("shard-*")
        if (record := manifest.read(folder)) is not None and record.complete and record.seconds
    ]
    tokens = sum(record.counts.get(f"{of}_tokens", 0) for record in records for of in ("thought", "answer"))
    engine = throughput(plan, paths)
    pace = engine.sampled if engine else config.hardware.sampled_tokens_per_second
    return Answering(
        stage=stages[0].key,
        more=len(stages) - 1,
        item_tokens=item,
        tokens=settings.trials * settings.limit * item if limited and settings.limit and item else None,
        pace=tokens / sum(record.seconds for record in records) if tokens else pace,
    )


def sampling(plan: Plan, shape: ModelShape | None, paths: RunPaths) -> Sampling | None:
    stages = _sampling_stages(plan)
    thought = plan.config.estimate.thought_tokens
    raw = raw_tokens(plan, stages[0].inputs["corpus"], paths) if stages else None
    if raw is None or thought is None:
        return None
    settings, length = plan.config.sample, plan.config.model.context_length
    count = settings.num_samples
    prompts = reference = None
    if shape is not None and settings.engine == "vllm":
        prompts = prompt_bytes(length, shape.vocabulary)
        if settings.dtype != "float32" and settings.precision_chunks:
            reference = reference_bytes(shape.parameters, length, shape.vocabulary)
    return Sampling(
        stage=stages[0].key,
        more=len(stages) - 1,
        num_samples=count,
        sampled_tokens=count * thought * raw,
        scored_tokens=count * (1 + thought) * raw,
        throughput=_throughput(plan, stages, paths),
        prompt_bytes=prompts,
        reference_bytes=reference,
    )


def pooled(found: Sampling, earlier: int) -> Sampling:
    """The E-step with the thoughts of so many earlier ones weighed again: every model but the one that drew
    them scores all of them, and the new one the old ones once more with their chunk after them."""
    more = earlier * ((earlier + 1) * found.sampled_tokens + found.scored_tokens)
    return replace(found, scored_tokens=found.scored_tokens + more)


def measures(stage: Stage) -> bool:
    """Whether a stage measures a model on the held-out documents."""
    return stage.computes and "heldout" in stage.inputs


def evaluation(plan: Plan, paths: RunPaths) -> Evaluation | None:
    stages = [stage for stage in plan.stages if measures(stage)]
    if not stages:
        return None
    config, settings, folder = plan.config, plan.config.evaluate, stages[0].inputs["heldout"]
    record = manifest.read(paths.root / folder)
    prepared = record is not None and record.complete and record.counts.get("chunks")
    chunks = prepared or config.estimate.heldout_chunks
    raw, thought = raw_tokens(plan, folder, paths), config.estimate.thought_tokens
    engine = throughput(plan, paths)
    thinks = stages[0].settings.get("markers", True)
    if raw is None or (thought is None and thinks) or not chunks:
        return Evaluation(stages[0].key, len(stages) - 1, None, None, engine)
    if thought is None or not thinks:
        answers = chunks * settings.max_answer_tokens if config.chunking.mode == "given" else 0
        return Evaluation(stages[0].key, len(stages) - 1, answers, raw, engine)
    estimated = min(chunks, settings.estimate_chunks)
    weighed = chunks * settings.num_samples + estimated * settings.estimate_samples
    answered = chunks * (1 + settings.answer_samples) if config.chunking.mode == "given" else 0
    answers = answered + chunks if answered else 0  # some without a thought
    return Evaluation(
        stage=stages[0].key,
        more=len(stages) - 1,
        sampled_tokens=(weighed + answered) * thought * raw / chunks + answers * settings.max_answer_tokens,
        scored_tokens=weighed * (1 + thought) * raw / chunks + 2 * raw,
        throughput=engine,
    )


def throughput(plan: Plan, paths: RunPaths) -> Throughput | None:
    """Of one engine, as measured by the newest E-step of the run, or as it is set; None for neither."""
    return _throughput(plan, _sampling_stages(plan), paths)


def _sampling_stages(plan: Plan) -> list[Stage]:
    return [stage for stage in plan.stages if stage.kind.sharded and "corpus" in stage.inputs]


def thought_tokens(plan: Plan, paths: RunPaths) -> tuple[str, float] | None:
    """Key of the newest E-step with finished shards, and the tokens of its thoughts per raw token; one that
    scores old thoughts does not say."""
    for stage in reversed([one for one in _sampling_stages(plan) if not one.earlier]):
        records = [record for record in _records(stage, paths) if record.complete]
        sampled, scored = (
            sum(record.counts.get(f"{of}_tokens", 0) for record in records) for of in ("sampled", "scored")
        )
        if 0 < sampled < scored:  # what is scored is the thoughts, and a chunk after each of them
            return stage.key, sampled / (scored - sampled)
    return None


def _records(stage: Stage, paths: RunPaths) -> list[manifest.Manifest]:
    """The manifests of the shards that there are."""
    folder = paths.root / stage.output
    shard_map = shards.read(folder)
    numbers = range(shard_map.num_shards) if shard_map is not None else ()
    found = (manifest.read(shard_folder(folder, number)) for number in numbers)
    return [record for record in found if record is not None]


def _throughput(plan: Plan, stages: list[Stage], paths: RunPaths) -> Throughput | None:
    """As the newest E-step with finished shards measured it, else as the settings say."""
    for stage in reversed(stages):
        found = [
            (record.statistics["sampled_tokens_per_second"], record.statistics["scored_tokens_per_second"])
            for record in _records(stage, paths)
            if record.statistics.get("scored_tokens_per_second")
        ]
        if found:
            sampled, scored = ([pair[side] for pair in found] for side in (0, 1))
            return Throughput(
                stage.key, len(found), median(sampled), median(scored),
                (min(sampled), max(sampled)), (min(scored), max(scored)),
            )  # fmt: skip
    hardware = plan.config.hardware
    given = hardware.sampled_tokens_per_second, hardware.scored_tokens_per_second
    if given[0] is None or given[1] is None:
        return None
    return Throughput("hardware", 0, given[0], given[1], (given[0],) * 2, (given[1],) * 2)
