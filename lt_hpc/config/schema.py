"""The one typed configuration tree.

Fields marked `_execution` say how or where a stage runs (batch sizes, processes,
checkpoint intervals). They never change what a result is and stay out of fingerprints:
`identity(section)` returns the rest. (Hardware and the number of threads change the last bits of
floating-point sums; manifests record host and threads.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from lt_hpc import kinds

T = TypeVar("T")


def _execution(default: Any) -> Any:
    return field(default=default, metadata={"execution": True})


@dataclass
class ModelConfig:
    """The base language model; every M-step starts from it."""

    path: str = "builtin:demo_base"  # Hugging Face folder, hub id, or builtin:demo_base
    revision: str | None = None
    context_length: int = 128  # tokens; the budget of every layout
    resize_embeddings: bool = True  # False: the four markers must fit in free embedding rows
    trust_remote_code: bool = False


@dataclass
class CorpusConfig:
    """Where documents come from. Plain text: text_column. Question -> answer: the other two."""

    source: str = "builtin:chain"  # builtin:chain|gsm, *.jsonl, *.parquet, a folder, a hub name
    config_name: str | None = None
    split: str = "train"
    text_column: str = "text"
    question_column: str | None = None
    answer_column: str | None = None
    thought_column: str | None = None  # teacher thoughts; needed for the warm start
    seed: int = 0  # of a built-in corpus
    offset: int = 0  # documents skipped at the start
    num_documents: int | None = None  # None: all (a built-in corpus is endless and needs it)
    fresh: bool = False  # corpus only: each iteration takes the next num_documents documents


@dataclass
class ChunkingConfig:
    """How a document becomes (prefix, suffix) chunks."""

    mode: str = "sentences"  # sentences | given (one chunk a document: question -> answer)
    mean_sentences: float = 8.0
    min_sentences: int = 1
    max_sentences: int = 20
    max_chunk_tokens: int = 512  # longer chunks are split at this many tokens
    prefix_chunks: int = 3


@dataclass
class VllmConfig:
    """The vllm engine; a task of the E-step has one, on as many GPUs as it is parallel."""

    tensor_parallel_size: int = 1
    max_num_seqs: int = 256  # samples decoded together
    enforce_eager: bool = False  # no compilation and no CUDA graphs; on a CPU there never are
    # Share of a GPU for weights and KV cache; sample.precision_chunks needs some of the rest.
    gpu_memory_utilization: float = _execution(0.9)
    kv_cache_gb: float | None = _execution(None)  # null: what is left on a GPU, 2 on a CPU


@dataclass
class SampleConfig:
    """E-step: K thoughts a chunk from the posterior prompt, and their log-weights."""

    engine: str = "torch"  # torch | vllm; evaluation uses it too
    dtype: str = "float32"
    num_samples: int = 4  # K
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    max_thought_tokens: int = 24
    block_chunks: int = 128  # chunks sampled and committed together; fixes every batch
    num_shards: int = _execution(8)  # pieces of the E-step; pinned when the first one starts
    precision_chunks: int = _execution(4)  # scored again in float32 when dtype is lower; 0: none
    batch_tokens: int = 65536  # torch: tokens in one forward; fixes the batches inside a block
    vllm: VllmConfig = field(default_factory=VllmConfig)


@dataclass
class MergeConfig:
    """Selection among a chunk's K thoughts by their log-weights."""

    method: str = "multinomial"  # multinomial | systematic | argmax
    num_selected: int = 1  # thoughts a chunk; epoch e trains on number e modulo this
    weights: str = "exact"  # exact | tempered | length_normalised; the last two are biased
    target_ess: float = 2.0  # of tempered weights: alpha in w^alpha makes the mean ESS this
    unfinished: str = "raw"  # a chunk with no finished thought: train it raw | drop it


@dataclass
class TrainConfig:
    """M-step on packed documents."""

    start: str = "base"  # base | previous: go on from the previous iteration's model
    epochs: float = 2.0
    steps: int | None = None  # optimizer steps; overrides epochs
    batch_tokens: int = 2048  # tokens in one optimizer step over all ranks
    learning_rate: float = 1e-4
    schedule: str = "cosine"  # cosine | wsd
    warmup_steps: int = 0
    final_learning_rate: float = 0.1  # of the peak, where the schedule ends, after the last step
    weight_decay: float = 0.01
    beta2: float = 0.95
    clip_norm: float = 1.0
    dtype: str = "float32"
    zero_stage: int = _execution(2)
    micro_batch_rows: int = _execution(8)  # packed sequences in one forward of one rank
    checkpoint_seconds: float = _execution(600.0)
    checkpoint_steps: int | None = _execution(None)
    keep_checkpoints: int = _execution(2)
    activation_checkpointing: bool = _execution(False)  # less memory, a third more time
    log_steps: int = _execution(1)  # steps from one line of the training log to the next
    trackers: list[str] = field(default_factory=list, metadata={"execution": True})  # tensorboard, wandb


@dataclass
class EvaluateConfig:
    """Held-out measures of a model."""

    num_samples: int = 8  # K of the held-out bound
    max_answer_tokens: int = 16
    dtype: str = "float32"


@dataclass
class HardwareConfig:
    """One GPU, for the dry run's estimates and the MFU in training logs; no result depends on it."""

    peak_tflops: float | None = _execution(None)  # dense, of the training dtype; A100 bf16: 312
    memory_gb: float | None = _execution(None)
    expected_mfu: float = _execution(0.4)  # model FLOPs utilisation that hours are estimated with


@dataclass
class EstimateConfig:
    """What a dry run can't look up before anything is prepared or downloaded. Null: not known."""

    parameters: int | None = _execution(None)  # of a model that is not in a local folder
    layers: int | None = _execution(None)
    hidden_size: int | None = _execution(None)
    vocabulary: int | None = _execution(None)
    warm_tokens: int | None = _execution(None)  # raw tokens of the documents
    corpus_tokens: int | None = _execution(None)
    thought_tokens: float | None = _execution(None)  # tokens of thoughts for each raw token


@dataclass
class LocalConfig:
    """The back-end for one machine."""

    processes: int = _execution(2)  # tasks that run at the same time; at most one a GPU where there are any
    train_ranks: int = _execution(2)  # likewise
    threads: int = _execution(1)  # torch threads of a process


@dataclass
class JobConfig:
    """What one stage asks of Slurm. Null: as in the `slurm` section."""

    nodes: int = 1
    tasks_per_node: int = 1  # ranks, for training
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    memory: str | None = None  # of a node, for example 200GB
    minutes: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    options: dict[str, str] = field(default_factory=dict)  # further sbatch options


def _with_a_section_per_kind(cls: type[T]) -> type[T]:
    """A field of type JobConfig for every row of the table of kinds."""
    for name in kinds.NAMES:
        cls.__annotations__[name] = "JobConfig"
        setattr(cls, name, field(default_factory=JobConfig))
    return cls


@dataclass
@_with_a_section_per_kind
class SlurmConfig:
    """The back-end for a cluster; site profiles under configs/cluster/ fill it in. Each kind of stage has a
    section of its own: slurm.prepare, slurm.sample, ..."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    options: dict[str, str] = field(default_factory=dict)  # further sbatch options, every stage
    setup: list[str] = field(default_factory=list)  # shell lines before the stage (module load ...)
    srun_options: list[str] = field(default_factory=list)  # for example --container-image=...
    array_parallelism: int = 64  # array tasks that run at the same time
    max_array_size: int = 1001  # longer arrays are split; the cluster's own limit holds too
    max_array_tasks: int | None = None  # of one E-step; with more shards a task handles several
    signal_seconds: int = 120  # warning before the time limit

    def job(self, kind: str) -> JobConfig:
        """What stages of a kind ask for: the section `slurm.KIND`."""
        found = getattr(self, kind)
        assert isinstance(found, JobConfig)
        return found


@dataclass
class Config:
    """The whole tree. `seed` is the run seed that every draw comes from."""

    name: str = _execution("run")
    seed: int = 0
    objective: str = "em"  # em | raw (control: c x) | warm (control: teacher thoughts only)
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    warm: CorpusConfig = field(default_factory=CorpusConfig)
    heldout: CorpusConfig = field(default_factory=CorpusConfig)
    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)
    warm_start: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
