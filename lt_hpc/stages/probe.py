"""Whether training and the E-step compute a model as it is: asked once, of the base, before anything is done.

Both replace a model's attention by their own. A layer that passes it by (a convolution, a recurrence, an
attention with a bias of its own) makes documents of one row see each other, or a continuation not see its
prefix, and nothing fails. So the base computes a few short documents plainly, packed as in training, and
over a shared prefix as in the E-step, and the log-probabilities have to be the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lt_hpc.config.schema import Config
from lt_hpc.engines.protocol import Engine
from lt_hpc.errors import ConfigError

LENGTHS = (9, 4, 13, 6)
"""Tokens of the documents."""
TOLERANCE = 1e-3
"""Nats; float32 on a CPU gives 1e-6 in small models and some 1e-4 in large ones."""
LEAK = 1e-5
"""Nats by which a document may move when another one of its row changes: experts that get other tokens
round otherwise."""


def check(folder: Path, network: Any, config: Config) -> str:
    """A line on how exact both are. `network`: the base in `folder`, in float32, as transformers runs it.

    Raises:
        ConfigError: naming the kind of model, who computes it wrongly, and what does work.
    """
    documents, kind = documents_for(network), network.config.model_type
    expected = plain(network, documents)
    users = []
    if config.objective != "none":
        users.append(
            ("training", "choose another model", functools.partial(_packed, folder, config, documents))
        )
    if config.sample.engine == "torch":
        advice = "use sample.engine=vllm if that knows it"
        users.append(("sample.engine=torch", advice, functools.partial(_shared, folder, config, documents)))
    parts = []
    for name, advice, compute in users:
        error = _largest_error(compute, expected)
        if isinstance(error, str) or not error <= TOLERANCE:
            wrong = error if isinstance(error, str) else f"log-probabilities are off by {error:.1e} nats"
            raise ConfigError(
                f"model.path={config.model.path!r}: {name} can't compute {kind} exactly ({wrong}); {advice}"
            )
        parts.append(f"{name} {error:.0e}")
    return f"{kind}: largest error in nats of {', '.join(parts)}"


def documents_for(network: Any) -> list[list[int]]:
    """Token ids of a few short documents in the vocabulary of a model."""
    generator, vocabulary = np.random.default_rng(0), network.config.get_text_config().vocab_size
    return [generator.integers(0, vocabulary, length).tolist() for length in LENGTHS]


def plain(network: Any, documents: list[list[int]]) -> list[np.ndarray]:
    """Log-probabilities of each token of each document but its first, by plain forwards of one document
    each: float64 [T - 1], nats."""
    network.set_attn_implementation("eager")  # the one that has caps and sinks of every kind
    with torch.inference_mode():
        return [_log_probabilities(network.eval(), ids) for ids in documents]


def scored(engine: Engine, documents: list[list[int]]) -> list[np.ndarray]:
    """The same by an engine: each document as the continuation of its own start, two of them sharing one,
    as in the E-step."""
    half = [len(ids) // 2 for ids in documents]
    prefixes = [ids[:cut] for ids, cut in zip(documents, half, strict=True)]
    ends = [ids[cut:] for ids, cut in zip(documents, half, strict=True)]
    starts = engine.score([ids[:1] for ids in documents], [[ids[1:]] for ids in prefixes])
    rests = engine.score(prefixes, [[ids, ids[::-1]] for ids in ends])
    return [np.concatenate([start[0], one[0]]) for start, one in zip(starts, rests, strict=True)]


def _log_probabilities(network: Any, ids: list[int]) -> np.ndarray:
    logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].double()
    return np.asarray(logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]])


def _largest_error(compute: Callable[[], list[np.ndarray]], plain: list[np.ndarray]) -> float | str:
    """In nats, or why there is none."""
    try:
        computed = compute()
    except ConfigError as error:
        return str(error)
    except Exception as error:  # whatever a model's code says to arguments that it does not know
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:120]}"
    return max(float(np.abs(a - b).max()) for a, b in zip(computed, plain, strict=True))


def _packed(folder: Path, config: Config, documents: list[list[int]]) -> list[np.ndarray]:
    """All documents in one row, as in training.

    Raises:
        ConfigError: when one moves with another.
    """
    from transformers import AutoModelForCausalLM

    from lt_hpc.training import packed_attention

    network = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        trust_remote_code=config.model.trust_remote_code,
        attn_implementation=packed_attention.NAME,
    ).eval()

    def forward(ids: np.ndarray) -> torch.Tensor:
        positions = np.concatenate([np.arange(length) for length in LENGTHS])[None]
        flat = packed_attention.flatten(ids, positions, ids)
        with torch.inference_mode():
            logits = network(
                input_ids=torch.from_numpy(flat.ids)[None],
                position_ids=torch.from_numpy(flat.positions)[None],
                use_cache=False,
                **packed_attention.boundaries(packed_attention.NAME, flat, torch.device("cpu")),
            ).logits[0]
        return torch.log_softmax(logits.double(), -1)

    row = np.concatenate(documents)[None]
    first, changed = forward(row), row.copy()
    changed[0, : LENGTHS[0]] = changed[0, : LENGTHS[0]][::-1]
    leak = (forward(changed) - first)[LENGTHS[0] :].abs().max()
    if not leak <= LEAK:
        raise ConfigError(f"documents of one row move each other by {leak:.1e} nats")
    ends = np.cumsum(LENGTHS)
    return [
        np.asarray(first[end - len(ids) : end - 1][range(len(ids) - 1), ids[1:]])
        for end, ids in zip(ends, documents, strict=True)
    ]


def _shared(folder: Path, config: Config, documents: list[list[int]]) -> list[np.ndarray]:
    from lt_hpc.engines.torch_engine import TorchEngine

    return scored(TorchEngine(folder, "float32", 64, config.model.trust_remote_code), documents)
