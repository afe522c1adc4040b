"""prepare: documents -> chunks -> token ids, once. Every later stage works on these ids.

Writes base/ (the base model with the markers) and the folders corpus/, warm/ and heldout/, but for a corpus
that an array tokenises.
A part file holds a fixed number of documents, so a run that was stopped goes on after the
last part that is complete.
"""

from __future__ import annotations

import time
from pathlib import Path

from lt_hpc.config.schema import Config
from lt_hpc.data import base_model
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import longest_chunk
from lt_hpc.stages import probe
from lt_hpc.stages.documents import Documents, refuse_changed
from lt_hpc.stages.task import Task, Vocabulary
from lt_hpc.stages.tokenised import Tokeniser, Tokenisers
from lt_hpc.store import manifest
from lt_hpc.store.atomic import atomic_folder
from lt_hpc.store.manifest import Manifest
from lt_hpc.store.parts import Parts
from lt_hpc.store.paths import relative_paths


def run(task: Task) -> None:
    """Write whatever of base/ and the corpora is missing."""
    outputs = task.stage.outputs
    base = relative_paths().base
    if str(base) in outputs:
        _prepare_base(task, task.paths.base, outputs[str(base)])
    names = [name for name in outputs if name != str(base)]
    if not names:  # the base alone is benchmarked
        return
    tokeniser = Tokeniser(task.paths.base, task.plan.config)
    _check_layout(task.plan.config, tokeniser.vocabulary)
    folders = {name: task.paths.documents(name) for name in names}
    missing = [name for name in names if manifest.problem(folders[name], outputs[name], checksums=True)]
    task.progress.start(len(names), "corpora", len(names) - len(missing))
    with Tokenisers(tokeniser) as tokenisers:
        for name in missing:
            refuse_changed(task, name)
            parts, documents = Parts(folders[name], "documents", outputs[name]), Documents(task, name)
            documents.fill(parts, tokenisers)
            documents.finish(parts, is_last=name == missing[-1])
            task.progress.advance()


def _check_layout(config: Config, vocabulary: Vocabulary) -> None:
    """What can't be known before the tokenizer is there."""
    chunking, bos = config.chunking, vocabulary.bos is not None
    room = longest_chunk(config.model.context_length, config.sample.max_thought_tokens) - bos
    if chunking.mode == "given" and vocabulary.eos is None:
        raise ConfigError(
            f"model.path={config.model.path!r}: its tokenizer has no eos_token, so no answer could end; name "
            "one in its tokenizer_config.json, or use chunking.mode=sentences"
        )
    if chunking.max_chunk_tokens > room:
        raise ConfigError(
            f"chunking.max_chunk_tokens={chunking.max_chunk_tokens}: with a bos token before every sequence "
            f"(model.bos) a chunk may have at most {room} tokens"
        )


def _prepare_base(task: Task, folder: Path, fingerprint: str) -> None:
    if manifest.problem(folder, fingerprint, checksums=True) is None:
        return
    started = time.monotonic()
    with atomic_folder(folder) as temporary:
        model = task.plan.config.model
        markers = task.plan.config.objective != "none" or base_model.has_markers(model)
        network = base_model.build(model, temporary, markers)
        refuse_changed(task, folder.name)
        print(probe.check(temporary, network, task.plan.config), flush=True)
        files = tuple(manifest.describe(path) for path in sorted(temporary.iterdir()))
        manifest.write(
            temporary,
            Manifest(
                "base", fingerprint, True, files, seconds=time.monotonic() - started,
                provenance=manifest.provenance(),
            ),
        )  # fmt: skip
