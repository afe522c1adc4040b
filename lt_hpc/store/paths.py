"""Every path of a run folder, in one place.

runs/NAME/
  config.yaml  plans/  last_plan.json            what was asked
  jobs.jsonl  launch.lock  run_id.json           every submission and its end
  base/                                          base model with the four markers, layout.json
  corpus/  warm/  heldout/                       documents as token ids, manifest.json
  tokenised/shard-00003/documents-00011.parquet, manifest.json    of a corpus that tasks share
  thoughts/shard-00000/part-00000.parquet, asked-00000.jsonl, manifest.json     of a teacher
  iter-01/samples/shard-00007/part-00012.parquet, manifest.json
          selected/shard-00007.parquet, manifest.json
          checkpoints/FINGERPRINT/step-00000400-ATTEMPT/, data/    until there is the model
          model/
          measured/shard-00002/part-00005.parquet, manifest.json    where evaluation is in shards
          eval/part-00000.parquet, metrics.json, manifest.json
          answers/shard-00000/part-00000.parquet, manifest.json    to benchmarks
          benchmark/results.json, items.parquet, manifest.json
  progress/  logs/  trackers/                    for people; logs/train-*.jsonl
  report.json  report.html  comparison.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The paths of the run in folder `root`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs.jsonl"

    @property
    def run_id(self) -> Path:
        return self.root / "run_id.json"

    @property
    def lock(self) -> Path:
        return self.root / "launch.lock"

    @property
    def report_json(self) -> Path:
        return self.root / "report.json"

    @property
    def report_html(self) -> Path:
        return self.root / "report.html"

    @property
    def comparison_html(self) -> Path:
        """The run beside others."""
        return self.root / "comparison.html"

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def slurm(self) -> Path:
        """Logs and submission files of Slurm jobs."""
        return self.root / "slurm"

    @property
    def superseded(self) -> Path:
        """Outputs of other settings, moved out of the way and never deleted by the project."""
        return self.root / "superseded"

    def doctor(self, visit: str) -> Path:
        """What `lt-hpc doctor --probe` and its jobs tell each other; removed when all have answered."""
        return self.root / "doctor" / visit

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    @property
    def last_plan(self) -> Path:
        """Names the plan of the last launch."""
        return self.root / "last_plan.json"

    def plan(self, fingerprint: str) -> Path:
        return self.plans / f"{fingerprint}.json"

    def documents(self, corpus: str, iteration: int | None = None) -> Path:
        """Folder of `corpus`, `warm` or `heldout`; of one iteration's fresh documents, where it has
        its own."""
        return self.root / (corpus if iteration is None else f"{corpus}-{iteration:02d}")

    def tokenised(self, iteration: int | None = None) -> Path:
        """Parts of `corpus` by the tasks that tokenise it."""
        return self.documents("tokenised", iteration)

    @property
    def thoughts(self) -> Path:
        """What a teacher thought of the warm documents."""
        return self.root / "thoughts"

    def iteration(self, iteration: int) -> Path:
        return self.root / f"iter-{iteration:02d}"

    def samples(self, iteration: int) -> Path:
        return self.iteration(iteration) / "samples"

    def selected(self, iteration: int) -> Path:
        return self.iteration(iteration) / "selected"

    def checkpoints(self, iteration: int, fingerprint: str) -> Path:
        """Of one model: other settings never meet its checkpoints or its log."""
        return self.iteration(iteration) / "checkpoints" / fingerprint

    def training_data(self, iteration: int, fingerprint: str) -> Path:
        """Of one model, what it is trained on, as arrays; deleted with its checkpoints."""
        return self.checkpoints(iteration, fingerprint) / "data"

    def model(self, iteration: int) -> Path:
        return self.iteration(iteration) / "model"

    def measured(self, iteration: int) -> Path:
        """What the shards of an evaluation measured of held-out chunks."""
        return self.iteration(iteration) / "measured"

    def evaluation(self, iteration: int) -> Path:
        return self.iteration(iteration) / "eval"

    def answers(self, iteration: int) -> Path:
        """What the model said to the items of benchmarks."""
        return self.iteration(iteration) / "answers"

    def benchmark(self, iteration: int) -> Path:
        return self.iteration(iteration) / "benchmark"

    def log(self, task: str) -> Path:
        return self.root / "logs" / f"{task}.log"

    def train_log(self, stage: str, fingerprint: str) -> Path:
        """JSON lines on the steps of one model's training; outlives its checkpoints."""
        return self.root / "logs" / f"{stage}-{fingerprint}.jsonl"

    @property
    def trackers(self) -> Path:
        """Files of TensorBoard and Weights & Biases."""
        return self.root / "trackers"

    @property
    def progress_folder(self) -> Path:
        return self.root / "progress"

    def progress(self, task: str) -> Path:
        """Of a task: its stage's key, a dot, and what tells it from the others."""
        return self.progress_folder / f"{task}.json"


def relative_paths() -> RunPaths:
    """The paths relative to a run folder, as plans name them."""
    return RunPaths(Path())


def shard_map_file(folder: Path) -> Path:
    """Of the folder that a sharded stage fills."""
    return folder / "shards.json"


def shard_name(shard: int) -> str:
    """Of the folder of one shard of it."""
    return f"shard-{shard:05d}"


def shard_folder(folder: Path, shard: int) -> Path:
    return folder / shard_name(shard)


def documents_part(index: int) -> str:
    return f"documents-{index:05d}.parquet"


def block_part(block: int) -> str:
    """Of a block of chunks, of samples or of measures."""
    return f"part-{block:05d}.parquet"


def asked_file(part: Path) -> Path:
    """What a teacher was asked about the chunks of a block and what it answered, beside the block's part."""
    return part.with_name(part.name.replace("part-", "asked-")).with_suffix(".jsonl")


def selected_part(shard: int) -> str:
    return f"shard-{shard:05d}.parquet"


METRICS = "metrics.json"
RESULTS = "results.json"
ITEMS = "items.parquet"
LAYOUT = "layout.json"
