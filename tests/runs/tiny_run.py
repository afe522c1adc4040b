"""A run on a tiny random model, up to its M-step, all stages in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.launch import make_plan
from lt_hpc.config.schema import CORPORA
from lt_hpc.stages import merge, prepare, sample
from lt_hpc.cluster.place import Place
from lt_hpc.run.progress import Progress
from lt_hpc.stages.task import Task
from lt_hpc.store import manifest
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.paths import RunPaths

TEXTS = [
    f"The {a} sat on the {b}. Then the {b} was gone."
    for a in ("cat", "dog", "hen", "fox")
    for b in ("mat", "log")
]
CONTEXT, THOUGHT, SAMPLES = 96, 24, 4


def make_model(folder: Path) -> Path:
    """A random Llama with a byte-level BPE tokenizer: most id sequences it draws are not what the
    tokenizer would make of their text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    names = {"bos_token": "<eos>", "eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
            max_position_embeddings=CONTEXT,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


def halves(text: str) -> tuple[str, str]:
    """A text's two sentences."""
    first, _, second = text.partition(". ")
    return f"{first}. ", second


def tasks(
    folder: Path, *more: str, edit: Callable[[Path], object] = lambda model: None, iterations: int = 1
) -> Callable[..., Task]:
    """What makes the task of a stage of a run in `folder`, from its key; `edit` is given the folder of the
    base model before the run is planned."""
    corpus = folder / "corpus.jsonl"
    rows = [
        {"text": t, "thought": t} | dict(zip(("question", "answer"), halves(t), strict=True)) for t in TEXTS
    ]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    source = {"source": str(corpus), "thought_column": "thought"}
    overrides = [f"{name}.{key}={value}" for name in CORPORA for key, value in source.items()]
    make_model(folder / "model")
    edit(folder / "model")
    config = load_config(
        demo_file(),
        [
            *overrides, f"model.path={folder / 'model'}", f"model.context_length={CONTEXT}",
            "chunking.mode=sentences", "chunking.mean_sentences=1", f"sample.max_thought_tokens={THOUGHT}",
            "corpus.num_documents=null", "warm.num_documents=null", "heldout.num_documents=null",
            f"sample.num_samples={SAMPLES}", "sample.num_shards=2", "sample.block_chunks=4",
            f"train.batch_tokens={4 * CONTEXT}", f"warm_start.batch_tokens={4 * CONTEXT}",
            *more,
        ],
    )  # fmt: skip
    paths = RunPaths(folder / "run")
    plan = make_plan(config, iterations, paths)

    def task(key: str, should_stop: Callable[[], bool] = lambda: False) -> Task:
        progress = Progress(folder / f"{key}.json")
        return Task(plan, plan.stage(key), paths, Place(), (0, 1), progress, should_stop)

    return task


def run_e_step(folder: Path, *more: str) -> Task:
    """Prepare, sample and merge; returns the task of the M-step, which is not started."""
    task = tasks(folder, *more)
    prepare_untrained(task)
    sample.run(task("sample-01"))
    merge.run(task("merge-01"))
    return task("train-01")


def prepare_untrained(task: Callable[..., Task]) -> None:
    """Prepare, with the untrained base as the model of iteration 0."""
    prepare.run(task("prepare"))
    put_untrained(task, 0)


def put_untrained(
    task: Callable[..., Task], iteration: int, edit: Callable[[Path], object] = lambda model: None
) -> None:
    """The base as the model of an iteration; `edit` is given its folder."""
    plan, paths = task("prepare").plan, task("prepare").paths
    folder = paths.model(iteration)
    shutil.copytree(paths.base, folder)
    edit(folder)
    files = tuple(
        manifest.describe(path) for path in sorted(folder.iterdir()) if path.name != manifest.NAME
    )
    output = plan.output(str(folder.relative_to(paths.root)))
    manifest.write(folder, Manifest("model", output, True, files))
