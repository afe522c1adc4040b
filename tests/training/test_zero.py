"""Training under DeepSpeed: the same curve as plain PyTorch under every ZeRO stage, and resumed
on the same or other ranks and stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from lt_hpc.errors import ConfigError
from tests.runs.tiny_models import make_gpt2, make_llama
from tests.training import zero_worker

STEPS, SAVED = 8, 4
KINDS = [(stage, "float32") for stage in range(4)] + [(stage, "bfloat16") for stage in (1, 2, 3)]
REDUCED = [(1, False), (2, True), (3, True), (2, False), (3, False)]
"""(ZeRO stage, train.float32_reduction)."""
MOVES = [(1, 2, 2), (1, 0, 3), (2, 2, 3), (2, 3, 1), (2, 1, 0), (4, 2, 2)]
"""(ranks, ZeRO stage that wrote the checkpoint on two ranks, stage that goes on from it)."""
TIMEOUT_SECONDS = 240


def train(folder: Path, count: int, jobs: list[dict[str, Any]]) -> None:
    """Run jobs one after the other on `count` new processes."""
    folder.mkdir()
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"rendezvous": str(folder), "jobs": jobs}))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.zero_worker", str(spec)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(count)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(outputs)[-3000:]


def losses(path: Path, first: int = 0) -> list[float]:
    found = json.loads(path.read_text())["losses"]
    assert list(found) == [str(step) for step in range(first, STEPS)]
    return list(found.values())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict())


def job(root: Path, model: str, stage: int, dtype: str, name: str, **more: Any) -> dict[str, Any]:
    folder = root / f"{model}-{stage}-{dtype}"
    return {
        "name": name, "model": str(root / model), "stage": stage, "dtype": dtype, "steps": STEPS,
        "folder": str(folder), "export": str(folder / f"export-{name}"), **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind trained on two ranks, with a checkpoint on the way from which it is trained
    again: on two ranks, and on other ranks and under other stages. GPT-2 has dropout."""
    root = tmp_path_factory.mktemp("zero")
    make_llama(root / "llama", 32)
    make_gpt2(root / "gpt2", 32)
    models = [("llama", *kind) for kind in KINDS] + [("gpt2", 2, "float32")]
    first = [job(root, *kind, "whole", save_at=SAVED) for kind in models]
    for index in (2, 6):  # recomputed activations must change nothing
        first[index]["recompute"] = True
    again = [job(root, *kind, "again", resume=True) for kind in models]
    forgetful = job(root, "llama", 2, "float32", "forgetful", resume=True, forget=True)
    whole = sharing(root, 2, "whole", save_at=SAVED)
    train(root / "first", 2, [*first, whole, *(reduced(root, *kind) for kind in REDUCED)])
    for count in (1, 2, 4):
        moved = [
            {**job(root, "llama", after, "float32", moved_name(count, after), resume=True)}
            | {"folder": str(root / f"llama-{before}-float32")}
            for ranks, before, after in MOVES
            if ranks == count
        ]
        others = [*(alone(root, rank) for rank in range(2)), sharing(root, 3, "moved", resume=True)]
        more = {1: others, 2: [*again, forgetful]}.get(count, [])
        train(root / f"again-{count}", count, [*more, *moved])
    return root


def sharing(root: Path, stage: int, name: str, **more: Any) -> dict[str, Any]:
    """Prefixes computed once, with a loss as raw text."""
    folder = root / "sharing"
    given = job(root, "llama", stage, "float32", name, shared=True, **more)
    return given | {"folder": str(folder), "export": str(folder / f"export-{name}")}


def reduced(root: Path, stage: int, exact: bool, **more: Any) -> dict[str, Any]:
    """One step in bfloat16, whose gradients are not clipped; Adam's first moment is a tenth of them."""
    name = f"reduced-{'exact' if exact else 'rounded'}"
    given = job(root, "llama", stage, "bfloat16", name, moments=True, exact=exact, clip=1e9)
    return {**given, "steps": 1} | more


def alone(root: Path, rank: int) -> dict[str, Any]:
    """The gradient of one of two ranks, which nobody else adds to."""
    return reduced(root, 1, True, only=[rank, 2], name=f"alone-{rank}")


def moments(root: Path, stage: int, name: str) -> dict[str, np.ndarray]:
    """Of each parameter, from the files of all ranks: float32, flat."""
    parts: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for path in (root / f"llama-{stage}-bfloat16").glob(f"{name}-?.safetensors"):
        for key, value in load_file(path).items():
            parameter, start = key.split()
            parts[parameter][int(start)] = value
    return {key: np.concatenate([found[at] for at in sorted(found)]) for key, found in parts.items()}


def moved_name(ranks: int, stage: int) -> str:
    return f"moved-to-{stage}-on-{ranks}"


def plain_nll(model: Any, ids: list[int], first: int) -> torch.Tensor:
    """Of a document alone, from its token `first` on."""
    logits = model(torch.tensor([ids])).logits[0, first - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[first:]), reduction="sum")


def plain_losses(model_path: Path, shared: bool = False) -> list[float]:
    """The reference: each document alone, one forward each, torch.optim.AdamW, no framework."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    packed, found = zero_worker.epoch(shared), []
    for step in range(STEPS):
        total, count = torch.zeros(()), 0.0
        for member in [m for row in zero_worker.rows_of(step) for m in packed.rows[row]]:
            example = packed.examples[member]
            ids = example.tokens(zero_worker.LAYOUT, bool(packed.thought_first[member]))
            first = int(packed.examples.unscored[member])
            total = total + plain_nll(model, ids, first)
            count += len(ids) - first
            if shared and member % 3 == 0:  # the first of three that have the same
                total = total + zero_worker.RAW_WEIGHT * plain_nll(model, example.chunk.prefix, 1)
                count += zero_worker.RAW_WEIGHT * (len(example.chunk.prefix) - 1)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = zero_worker.RATES[step]
        optimizer.step()
        optimizer.zero_grad()
        found.append(total.item() / count)
    return found


def test_each_zero_stage_gives_the_losses_of_plain_pytorch(root: Path) -> None:
    expected = plain_losses(root / "llama")
    assert expected[-1] < expected[0] - 0.1
    for stage in range(4):
        found = losses(root / f"llama-{stage}-float32" / "whole.json")
        assert found == pytest.approx(expected, abs=2e-5), f"ZeRO-{stage}"
    for stage in (1, 2, 3):
        assert losses(root / f"llama-{stage}-bfloat16" / "whole.json") == pytest.approx(expected, abs=0.15)


def test_positions_are_turned_in_float32_under_every_stage_and_dtype(root: Path) -> None:
    found = {
        path.parent.name: json.loads(path.read_text())["buffers"] for path in root.glob("llama*/whole.json")
    }
    assert len(found) == len(KINDS)
    assert set(map(tuple, found.values())) == {("torch.float32",)}


def test_gradients_in_bfloat16_are_added_between_ranks_in_float32_where_that_is_said(root: Path) -> None:
    one, other = (moments(root, 1, f"alone-{rank}") for rank in range(2))
    largest = max(np.abs(value).max() for value in one.values())
    errors = {}
    for stage, exact in REDUCED:
        found = moments(root, stage, f"reduced-{'exact' if exact else 'rounded'}")
        assert found.keys() == one.keys()
        gaps = [np.abs(found[name] - (one[name] + other[name])).max() for name in found]
        errors[stage, exact] = max(gaps) / largest
    assert max(errors[kind] for kind in ((1, False), (2, True), (3, True))) < 1e-6
    assert min(errors[kind] for kind in ((2, False), (3, False))) > 1e-4, "so the bound means something"


class Turned(torch.nn.Module):
    """A model with a buffer made from its configuration, under no name that tells."""

    def __init__(self, config: float) -> None:
        super().__init__()
        self.config = config
        self.inner = torch.nn.Linear(2, 2)
        self.inner.register_buffer("turns", torch.tensor([1.0, config]), persistent=False)


def test_rounded_buffers_become_what_they_were_or_are_refused() -> None:
    from lt_hpc.training.zero import restore_buffers

    model = Turned(1 / 3).to(torch.bfloat16)
    restore_buffers(model)
    assert torch.equal(model.inner.turns, torch.tensor([1.0, 1 / 3]))
    assert model.inner.weight.dtype == torch.bfloat16 and not model.inner.weight.is_meta
    learned = Turned(1 / 3)
    learned.inner.turns += 1  # not what the configuration says
    with pytest.raises(ConfigError, match=r"inner\.turns of Turned.*train\.dtype=float32"):
        restore_buffers(learned.to(torch.bfloat16))


def test_resumed_on_the_same_ranks_losses_and_weights_are_the_same_to_the_bit(root: Path) -> None:
    folders = sorted(path.parent for path in root.glob("*/again.json"))
    assert len(folders) == len(KINDS) + 1
    for folder in folders:
        assert losses(folder / "again.json", SAVED) == losses(folder / "whole.json")[SAVED:], folder.name
        whole, again = weights(folder / "export-whole"), weights(folder / "export-again")
        assert all(torch.equal(whole[name], again[name]) for name in whole), folder.name


@pytest.mark.parametrize(("ranks", "before", "after"), MOVES)
def test_resumed_on_other_ranks_and_stages_the_curve_goes_on(
    root: Path, ranks: int, before: int, after: int
) -> None:
    name, folder = moved_name(ranks, after), root / f"llama-{before}-float32"
    expected = losses(folder / "whole.json")[SAVED:]
    assert losses(folder / f"{name}.json", SAVED) == pytest.approx(expected, abs=1e-4)
    moved = weights(root / f"llama-{after}-float32" / f"export-{name}")
    whole = weights(folder / "export-whole")
    assert all(torch.allclose(moved[key], whole[key], atol=2e-4) for key in whole)


def test_so_it_does_where_prefixes_are_shared_and_take_a_loss_as_raw_text(root: Path) -> None:
    folder = root / "sharing"
    whole = losses(folder / "whole.json")
    assert whole == pytest.approx(plain_losses(root / "llama", shared=True), abs=2e-5)
    assert losses(folder / "moved.json", SAVED) == pytest.approx(whole[SAVED:], abs=1e-4)
    moved, expected = weights(folder / "export-moved"), weights(folder / "export-whole")
    assert all(torch.allclose(moved[key], expected[key], atol=2e-4) for key in expected)


def test_without_the_moments_the_curve_would_differ_by_far_more(root: Path) -> None:
    """So the bounds above mean something."""
    folder = root / "llama-2-float32"
    expected = losses(folder / "whole.json")[SAVED:]
    found = losses(folder / "forgetful.json", SAVED)
    assert found[0] == expected[0]
    assert abs(found[-1] - expected[-1]) > 5e-3
