"""The one typed configuration tree: of each field its type, default, meaning and bounds, in one line.

`execution` fields say how or where a stage runs (batch sizes, processes, checkpoint intervals).
They never change what a result is and stay out of fingerprints: `identity_of(section)` returns
the rest. (Hardware and the number of threads change the last bits of floating-point sums;
manifests record host and threads.) docs/configuration.md is written from this file.
"""

# ruff: noqa: RUF009 (the calls in the defaults return dataclass fields)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from lt_hpc.config.fields import execution, setting
from lt_hpc.config.machines import EstimateConfig, HardwareConfig, LocalConfig, SlurmConfig
from lt_hpc.latent import allocation, resampling

EngineName = Literal["torch", "vllm"]
"""Each is the module lt_hpc/engines/NAME_engine.py."""
OPTIONAL_ENGINES = {"vllm": "vllm"}
"""Engine -> the package it needs that is not always installed; `tools/setup.sh PACKAGE` installs it, and
PACKAGE-cpu its build for CPUs."""
Dtype = Literal["float32", "bfloat16", "float16"]
TrainDtype = Literal["float32", "bfloat16"]
BosChoice = Literal["auto", "always", "never"]
Tracker = Literal["tensorboard", "wandb"]
Schedule = Literal["cosine", "wsd"]
"""Each is also the name of the package it needs."""
Matching = Literal["raw_tokens", "computed_tokens", "training_flops", "flops"]
"""flops: with the E-steps."""
CORPORA = ("corpus", "warm", "heldout")
"""Sections that say where documents come from."""


@dataclass
class ModelConfig:
    """The base language model; every M-step starts from it. Fingerprints have the content of a folder, not
    its path."""

    path: str = setting("builtin:demo_base", "Hugging Face folder, hub id, or builtin:demo_base")
    revision: str | None = setting(None, "of a hub id: branch, tag or commit")
    context_length: int = setting(128, "tokens per sequence at most, in every stage", ge=16)
    bos: BosChoice = setting(
        "auto", "its bos token before every sequence; auto: as its tokenizer", neutral=True
    )
    resize_embeddings: bool = setting(True, "false: the four markers must fit in free embedding rows")
    trust_remote_code: bool = execution(False, "run Python code that comes with the model")


@dataclass
class CorpusConfig:
    """Where documents come from: text in `text_column`, or questions and answers in the two columns. A dotted
    name, as `chunks.suffix`, is a field of the structs in a column: of a list of them one text per chunk.
    Files are `.jsonl`, plain or compressed, or `.parquet`; a folder holds these, or is of `save_to_disk`.
    Fingerprints have what identifies the content of a file, not its path. `slices` share out the documents of
    one source at random: of every 20 consecutive ones each slice from `0 of 20` to `19 of 20` has one; which
    one, `seed` and the total decide. They stay in the order of the source, and `offset`, `num_documents` and
    `fresh` count within the slices."""

    source: str = setting(
        "builtin:chain",
        "builtin: chain, routes, gsm or wordproblems (as builtin:chain), or a file, folder or hub name",
    )
    config_name: str | None = setting(None, "of a hub data set: its configuration")
    revision: str | None = setting(None, "of a hub data set: branch, tag or, best, a commit", neutral=True)
    split: str = setting("train", "of a hub data set, or of files that name theirs")
    text_column: str = setting("text", "column of the text, where chunking.mode=sentences")
    question_column: str | None = setting(None, "column of the question; chunking.mode=given needs it")
    answer_column: str | None = setting(None, "column of the answer; chunking.mode=given needs it")
    thought_column: str | None = setting(None, "column of teacher thoughts; the warm start needs it")
    seed: int = setting(0, "of a built-in corpus, and of slices", ge=0)
    slices: str | None = setting(
        None, "the documents taken, as 0 of 20 or 13-17 of 20, numbered from 0; null: all", neutral=True
    )
    offset: int = setting(0, "documents skipped at the start", ge=0)
    max_dropped: float = execution(
        1.0,
        "share of documents that may be dropped, and of chunks that may be left out of others",
        ge=0,
        le=1,
    )
    max_unknown: float = execution(0.1, "share of tokens that the tokenizer may not know", ge=0, le=1)
    num_documents: int | None = setting(None, "null: all; a built-in corpus is endless and needs it", ge=1)
    fresh: bool = setting(False, "corpus alone: each iteration takes the next num_documents documents")


@dataclass
class PrepareConfig:
    """Documents as token ids. One task makes them (stage `prepare`); where `num_shards` is above 1, the tasks
    of an array make those of `corpus` (`tokenise`), and one task counts their chunks through (`gather`)."""

    num_shards: int = execution(1, "pieces of corpus that tasks work on at the same time", ge=1, le=10**6)


@dataclass
class ChunkingConfig:
    """How a document becomes (prefix, suffix) chunks."""

    mode: Literal["sentences", "given"] = setting("sentences", "given: one chunk per document, the answer")
    mean_sentences: float = setting(8.0, "sentences per chunk, mean of a Poisson distribution", gt=0)
    law: Literal["clipped", "shifted"] = setting(
        "clipped", "shifted: min_sentences and a Poisson number of others, as published", neutral=True
    )
    min_sentences: int = setting(1, "fewest sentences per chunk, but for the last of a document", ge=1)
    max_sentences: int = setting(20, "most sentences per chunk", ge=1)
    max_chunk_tokens: int = setting(512, "longer chunks are split after this many tokens", ge=1)
    prefix_chunks: int = setting(3, "chunks per prefix at most, those before the chunk", ge=0)
    prefix_stride: int = setting(
        1, "a prefix begins at every so-manyth chunk, so that neighbours begin alike", ge=1, neutral=True
    )


@dataclass
class VllmConfig:
    """The vLLM engine; a task of the E-step has one, on as many GPUs as it is parallel. Weights and KV cache
    get a share of each GPU; `sample.precision_chunks` needs some of the rest."""

    tensor_parallel_size: int = setting(1, "GPUs per engine", ge=1)
    max_num_seqs: int = setting(256, "samples decoded together", ge=1)
    enforce_eager: bool = setting(False, "no compilation and no CUDA graphs; on a CPU there never are")
    gpu_memory_utilization: float = execution(0.9, "share of a GPU for weights and KV cache", gt=0, le=1)
    kv_cache_gb: float | None = execution(None, "GiB; null: what is left on a GPU, 2 on a CPU", gt=0)


@dataclass
class TeacherConfig:
    """Who writes the thoughts of the warm documents: they have them already, a model behind an endpoint, or
    an instruct model that is run here. Documents need no thoughts then. `use=surface` and `use=rewrite` are
    baselines, models without markers, and go with `objective=warm`."""

    kind: Literal["corpus", "openai", "local"] = setting(
        "corpus", "openai: any OpenAI-compatible endpoint; local: by the engine of the E-step"
    )
    model: str | None = setting(None, "its name at the endpoint, or its folder")
    prompt: str = setting("thought", "configs/prompts/NAME.jinja, or a path to a .jinja file")
    use: Literal["thought", "surface", "rewrite"] = setting(
        "thought", "of an answer: between markers before its chunk; as plain text there; in place of it",
        neutral=True,
    )  # fmt: skip
    answers: int = setting(
        1, "accepted answers per chunk; epoch e trains on number e mod this", ge=1, le=1000, neutral=True
    )
    temperature: float = setting(0.7, "of its answers; 0: greedy", ge=0, le=2)
    top_p: float = setting(1.0, "of its answers", gt=0, le=1)
    max_tokens: int = setting(512, "tokens of an answer at most, as it counts them", ge=1)
    attempts: int = setting(3, "asked per accepted answer at most", ge=1, le=100)
    num_shards: int = execution(1, "pieces that tasks work on at the same time", ge=1, le=10**6)
    base_url: str | None = execution(None, "of the endpoint; null: OpenAI's own")
    api_key_name: str = execution("OPENAI_API_KEY", "environment variable that holds the key")
    concurrency: int = execution(16, "requests under way at once, per task", ge=1, le=10_000)
    requests_per_minute: float | None = execution(None, "at most, per task", gt=0)
    retries: int = execution(8, "of a request that failed, with growing delays", ge=0, le=1000)
    timeout_seconds: float = execution(300.0, "seconds for one answer", gt=0)
    price_prompt: float | None = execution(None, "USD per million tokens of questions", ge=0)
    price_answer: float | None = execution(None, "USD per million tokens of answers", ge=0)
    context_length: int = execution(4096, "tokens of a question and its answer, of a local teacher", ge=2)


@dataclass
class SampleConfig:
    """E-step: K thoughts per chunk from the posterior prompt, and their log-weights."""

    engine: EngineName = setting("torch", "what samples and scores; evaluation uses it too")
    dtype: Dtype = setting("float32", "of weights and activations")
    num_samples: int = setting(4, "K, thoughts per chunk", ge=1, le=100_000)
    allocation: Literal["uniform", "ess"] = setting(
        "uniform", "ess: K on average, more for chunks whose ESS was low the iteration before", neutral=True
    )
    reuse: int = setting(
        0, "earlier iterations whose thoughts are weighed again beside the new ones", ge=0, le=100,
        neutral=True,
    )  # fmt: skip
    prior_share: float = setting(
        0.0, "share of the K drawn from p(z | c), which does not know x; all weighted by the mixture",
        ge=0, le=0.9, neutral=True,
    )  # fmt: skip
    temperature: float = setting(1.0, "of the proposal distribution", ge=0.01)
    top_p: float = setting(1.0, "probability mass that sampling keeps; 1: all", gt=0, le=1)
    top_k: int = setting(0, "most likely tokens that sampling keeps; 0: all", ge=0)
    max_thought_tokens: int = setting(
        24, "tokens per thought at most; a longer one is cut, and ended there", ge=1
    )
    block_chunks: int = setting(128, "chunks sampled and committed together; fixes every batch", ge=1)
    num_shards: int = execution(8, "pieces of the E-step; pinned when the first one starts", ge=1)
    precision_chunks: int = execution(4, "chunks scored again in float32 where dtype is lower; 0: none", ge=0)
    batch_tokens: int = setting(65536, "tokens per forward; fixes batches in a block", ge=1, engine="torch")
    vllm: VllmConfig = setting(VllmConfig, "settings of this engine", engine="vllm")

    @property
    def most_samples(self) -> int:
        """Thoughts of a chunk at most."""
        return self.num_samples * (allocation.MOST if self.allocation == "ess" else 1)

    @property
    def devices_per_engine(self) -> int:
        """GPUs that one engine of the E-step takes."""
        match self.engine:
            case "torch":
                return 1
            case "vllm":
                return self.vllm.tensor_parallel_size
            case _:
                assert_never(self.engine)


@dataclass
class MergeConfig:
    """Selection among a chunk's K thoughts by their log-weights."""

    method: resampling.Method = setting(
        "multinomial", "selection rule; two are controls: argmax is biased, uniform goes by no weight"
    )
    select: Literal["one", "weighted"] = setting(
        "one", "weighted: train on all different thoughts, losses weighted by their probability", neutral=True
    )
    num_selected: int = setting(1, "thoughts per chunk; epoch e trains on number e mod this", ge=1, le=1000)
    weights: Literal["exact", "tempered", "length_normalised"] = setting(
        "exact", "what selection goes by; all but exact are biased"
    )
    target_ess: float = setting(2.0, "of tempered weights: alpha in w^alpha makes the mean ESS this", ge=1)
    unfinished: Literal["raw", "drop"] = setting(
        "raw", "chunks all of whose thoughts were cut: train raw, or drop"
    )


@dataclass
class TrainConfig:
    """M-step on packed documents. `warm_start` is that of iteration 0, on teacher thoughts; `start=previous`
    goes on from the model of the iteration before."""

    start: Literal["base", "previous"] = setting("base", "model to start from; warm_start takes base alone")
    epochs: float = setting(2.0, "passes over the documents", gt=0, le=10_000)
    steps: int | None = setting(None, "optimizer steps; overrides epochs", ge=1, le=10**8)
    raw_share: float = setting(
        0.0, "share of the tokens that is whole documents without thoughts", ge=0, le=0.9, neutral=True
    )
    prefixes: Literal["separate", "shared"] = setting(
        "separate", "shared: those of one row that begin alike are computed once", neutral=True
    )
    raw_loss_weight: float = setting(
        0.0, "of the loss of a shared prefix as raw text, against 1 of other tokens", ge=0, neutral=True
    )
    row_tokens: int | None = setting(
        None, "of a packed row; null: model.context_length; longer ones share more", ge=16, neutral=True
    )
    batch_tokens: int = setting(2048, "tokens per optimizer step, over all ranks", ge=1)
    learning_rate: float = setting(1e-4, "at its peak", gt=0)
    schedule: Schedule = setting("cosine", "after warmup; wsd: warmup-stable-decay")
    warmup_steps: int = setting(0, "optimizer steps in which the learning rate rises", ge=0)
    final_learning_rate: float = setting(0.1, "share of the peak left after the last step", ge=0, le=1)
    weight_decay: float = setting(0.01, "of AdamW", ge=0)
    beta2: float = setting(0.95, "of AdamW", gt=0, le=0.99999)
    clip_norm: float = setting(1.0, "largest norm of the gradient", gt=0)
    dtype: TrainDtype = setting("float32", "of weights and activations; the optimizer's are float32")
    zero_stage: int = execution(2, "of DeepSpeed's ZeRO; 0: none", ge=0, le=3)
    float32_reduction: bool = execution(
        False, "under ZeRO-2 and 3 too, gradients go between ranks in float32: twice the bytes"
    )
    micro_batch_rows: int = execution(8, "packed sequences per forward and rank", ge=1)
    checkpoint_seconds: float = execution(600.0, "seconds from one checkpoint to the next", gt=0)
    checkpoint_steps: int | None = execution(None, "steps per checkpoint; overrides checkpoint_seconds", ge=1)
    keep_checkpoints: int = execution(2, "checkpoints kept, the newest", ge=1)
    activation_checkpointing: bool = execution(False, "less memory for a third more time")
    log_steps: int = execution(1, "steps per line of the training log", ge=1)
    trackers: list[Tracker] = execution(list, "where figures also go: of training, the E-step, evaluation")


@dataclass
class EvaluateConfig:
    """Held-out measures of a model. One task measures them (stage `evaluate`); where `num_shards` is above 1,
    the tasks of an array (`measure`), and one task that needs no model makes the figures (`aggregate`)."""

    num_samples: int = setting(8, "K of the held-out bound, thoughts per chunk", ge=1, le=100_000)
    estimate_chunks: int = setting(64, "chunks whose log p(x | c) is estimated from many thoughts", ge=0)
    estimate_samples: int = setting(128, "thoughts for each of these", ge=2, le=100_000)
    answer_samples: int = setting(4, "sampled thoughts and answers per question", ge=1, le=1000)
    max_answer_tokens: int = setting(16, "tokens per generated answer at most", ge=1)
    num_shards: int = execution(1, "pieces that tasks work on at the same time", ge=1, le=10**6)
    dtype: Dtype = setting("float32", "of weights and activations")


@dataclass
class BenchmarkConfig:
    """Tasks of lm-evaluation-harness that the model of each iteration answers. Answers are taken in blocks,
    by any number of tasks of the cluster; what is right in them the harness itself says. Items: documents
    of a task, each once per trial."""

    tasks: list[str] = setting(list, "names the harness knows, or of files in configs/benchmarks; []: none")
    few_shot: int | None = setting(None, "examples before each question; null: as the task says", ge=0)
    thoughts: bool = setting(True, "answer after a thought between the markers; false: without one")
    trials: int = setting(1, "times that each item is answered, with seeds of its own", ge=1, le=1000)
    thought_temperature: float = setting(0.0, "of thoughts; 0: greedy", ge=0)
    temperature: float | None = setting(None, "of answers; 0: greedy; null: as the task says", ge=0)
    max_thought_tokens: int | None = setting(
        None, "tokens per thought at most; null: as sample.max_thought_tokens", ge=1
    )
    max_answer_tokens: int | None = setting(None, "tokens per answer at most; null: as the task says", ge=1)
    limit: int | None = setting(None, "items per task, the first ones; null: all", ge=1)
    block_items: int = setting(64, "items answered and committed together; fixes every batch", ge=1)
    num_shards: int = execution(1, "pieces that tasks work on at the same time", ge=1, le=10**6)
    dtype: Dtype = setting("float32", "of weights and activations")


@dataclass
class Config:
    """The whole tree. Two values of `objective` are controls: after the warm start, `raw` trains on whole
    documents without thoughts, `warm` on the teacher's thoughts alone. `none` trains nothing: the base
    itself is benchmarked, and measured on held-out documents where the section `heldout` names some."""

    name: str = execution("run", "of the run: its folder is runs/NAME unless --run-dir names one")
    seed: int = setting(0, "of the run: every draw comes from it", ge=0)
    objective: Literal["em", "raw", "warm", "none"] = setting("em", "what is trained on")
    matched: Matching | None = execution(
        None, "what a control takes as much of as the run it is compared with; report CONTROL RUN checks it"
    )
    model: ModelConfig = setting(ModelConfig, "the base language model")
    corpus: CorpusConfig = setting(CorpusConfig, "documents of the EM iterations")
    warm: CorpusConfig = setting(CorpusConfig, "documents of the warm start, with teacher thoughts")
    heldout: CorpusConfig = setting(CorpusConfig, "documents of the evaluation")
    chunking: ChunkingConfig = setting(ChunkingConfig, "how documents are cut")
    prepare: PrepareConfig = setting(PrepareConfig, "how documents become token ids")
    teacher: TeacherConfig = setting(TeacherConfig, "who writes the thoughts of the warm documents")
    warm_start: TrainConfig = setting(TrainConfig, "training of iteration 0")
    sample: SampleConfig = setting(SampleConfig, "E-step: sampling")
    merge: MergeConfig = setting(MergeConfig, "E-step: selection")
    train: TrainConfig = setting(TrainConfig, "M-step")
    evaluate: EvaluateConfig = setting(EvaluateConfig, "held-out measures")
    benchmark: BenchmarkConfig = setting(BenchmarkConfig, "benchmarks of each iteration's model")
    hardware: HardwareConfig = execution(HardwareConfig, "for estimates")
    estimate: EstimateConfig = execution(EstimateConfig, "for estimates")
    local: LocalConfig = execution(LocalConfig, "the back-end for one machine")
    slurm: SlurmConfig = execution(SlurmConfig, "the back-end for a cluster")

    @property
    def corpora(self) -> tuple[str, ...]:
        """Sections whose documents are prepared. Where nothing is trained, the held-out ones alone, and those
        only where anything is said of them: the default, a built-in corpus without an end, is none."""
        if self.objective != "none":
            return CORPORA
        return ("heldout",) if self.heldout != CorpusConfig() else ()

    @property
    def warm_is_taught(self) -> bool:
        """Whether the warm documents bring their thoughts with them."""
        return self.teacher.kind == "corpus"

    def row_tokens(self, training: TrainConfig) -> int:
        """Tokens of a packed row."""
        return training.row_tokens or self.model.context_length

    @property
    def benchmark_thought_tokens(self) -> int:
        """Tokens of a thought before a benchmark's answer, at most."""
        return self.benchmark.max_thought_tokens or self.sample.max_thought_tokens
