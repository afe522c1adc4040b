"""Maps parameters to the pieces this rank's optimizer holds under each ZeRO stage, and restores
them from a checkpoint written on any number of ranks under any stage.

A `Partition` is one flat float32 tensor of master weights with its two Adam moments, as the
optimizer itself holds them. Its pieces say which elements of which (flattened) parameter lie
where in it. Saving writes the flat tensors as they are; loading copies for each own piece the
elements that overlap it. So no rank ever holds more than its share: nothing is gathered, and
8B parameters on 32 ranks are 32 files of 3 GB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open

KEYS = ("master", "exp_avg", "exp_avg_sq")
"""The flat tensors of a partition: weights in float32, Adam's first and second moments."""


@dataclass(frozen=True)
class Piece:
    """Elements start .. start + size of a flattened parameter, at `offset` of a flat tensor."""

    name: str
    start: int
    size: int
    offset: int


@dataclass(frozen=True)
class Partition:
    """A flat float32 tensor that the optimizer steps, and the pieces in it."""

    parameter: torch.Tensor  # key of the optimizer's state
    pieces: tuple[Piece, ...]

    def tensors(self, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        """The three flat tensors, sharing memory with the optimizer's own."""
        state = optimizer.state[self.parameter]
        if "exp_avg" not in state:
            self.reset(optimizer, 0)
            state = optimizer.state[self.parameter]
        flat = self.parameter.detach().view(-1)
        return {
            "master": flat,
            "exp_avg": state["exp_avg"].view(-1),
            "exp_avg_sq": state["exp_avg_sq"].view(-1),
        }

    def reset(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Give the optimizer zero moments, as torch.optim.AdamW makes them at its first step."""
        device = self.parameter.device if optimizer.defaults["fused"] else torch.device("cpu")
        optimizer.state[self.parameter] = {
            "step": torch.tensor(float(step), device=device),
            "exp_avg": torch.zeros_like(self.parameter),
            "exp_avg_sq": torch.zeros_like(self.parameter),
        }


def partitions(engine: Any, stage: int) -> list[Partition]:
    """This rank's partitions. Without ZeRO every rank holds everything, one partition per parameter."""
    named = [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]
    if stage == 0:
        return [Partition(p, (Piece(name, 0, p.numel(), 0),)) for name, p in named]
    if stage == 3:
        return _partitions_of_stage_3(engine.optimizer, named)
    zero = engine.optimizer
    # ZeRO-1 with bfloat16 is another class in DeepSpeed, with another name for the same list.
    flats = getattr(zero, "single_partition_of_fp32_groups", None) or zero.fp32_groups_flat_partition
    pieces: list[list[Piece]] = [[] for _ in flats]
    for name, parameter in named:
        mapping = parameter._hp_mapping
        if mapping is not None:  # none of it lies on this rank
            here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
            pieces[mapping.param_group_index].append(Piece(name, here.start, here.numel, there.start))
    return [Partition(flat, tuple(found)) for flat, found in zip(flats, pieces, strict=True)]


def _partitions_of_stage_3(zero: Any, named: Sequence[tuple[str, Any]]) -> list[Partition]:
    pieces: list[list[Piece]] = [[] for _ in zero.fp32_partitioned_groups_flat]
    for name, parameter in named:
        group, offset, size = zero.grad_position[zero.get_param_id(parameter)]
        start = dist.get_rank() * parameter.partition_numel()
        size = min(size, parameter.ds_numel - start)  # the last rank's share is padded
        if size > 0:
            pieces[group].append(Piece(name, start, size, offset))
    flats = zero.fp32_partitioned_groups_flat
    return [Partition(flat, tuple(found)) for flat, found in zip(flats, pieces, strict=True)]


def snapshot(
    engine: Any, optimizer: torch.optim.Optimizer, stage: int
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Copies in host memory of what this rank saves, and the metadata that says what they are.

    Without ZeRO the parameters are dealt out over the ranks, each saved once.
    """
    own = partitions(engine, stage)
    if stage == 0:
        own = own[dist.get_rank() :: dist.get_world_size()]
    tensors = {
        f"{index}.{key}": value.to("cpu", copy=True)
        for index, partition in enumerate(own)
        for key, value in partition.tensors(optimizer).items()
    }
    pieces = [[asdict(piece) for piece in partition.pieces] for partition in own]
    return tensors, {"pieces": json.dumps(pieces)}


def restore(
    engine: Any, optimizer: torch.optim.Optimizer, stage: int, files: Sequence[Path], step: int
) -> None:
    """Fill this rank's partitions from the files of a checkpoint, reading only what overlaps.

    Raises:
        ValueError: when the files lack some element of a parameter.
    """
    stored = _index(files)
    handles = {path: safe_open(path, framework="pt") for path in files}
    for partition in partitions(engine, stage):
        partition.reset(optimizer, step)
        flat = partition.tensors(optimizer)
        for piece in partition.pieces:
            found = 0
            for path, index, there in stored.get(piece.name, []):
                first = max(piece.start, there.start)
                size = min(piece.start + piece.size, there.start + there.size) - first
                if size <= 0:
                    continue
                source = there.offset + first - there.start
                target = piece.offset + first - piece.start
                for key in KEYS:
                    values = handles[path].get_slice(f"{index}.{key}")[source : source + size]
                    flat[key][target : target + size].copy_(values)
                found += size
            if found != piece.size:
                raise ValueError(f"the checkpoint holds {found} of {piece.size} elements of {piece.name}")
    _refresh(engine, stage)


def _index(files: Sequence[Path]) -> dict[str, list[tuple[Path, int, Piece]]]:
    """Parameter -> where its pieces lie: (file, partition in it, piece)."""
    found: dict[str, list[tuple[Path, int, Piece]]] = {}
    for path, index, piece in _stored_pieces(files):
        found.setdefault(piece.name, []).append((path, index, piece))
    return found


def _stored_pieces(files: Sequence[Path]) -> Iterator[tuple[Path, int, Piece]]:
    for path in files:
        with safe_open(path, framework="pt") as handle:
            for index, pieces in enumerate(json.loads(handle.metadata()["pieces"])):
                for piece in pieces:
                    yield path, index, Piece(**piece)


def _refresh(engine: Any, stage: int) -> None:
    """Bring the weights that the forward pass uses up to the master weights, as a step does."""
    if stage == 0:
        return  # they are the same tensors
    zero = engine.optimizer
    if stage < 3:
        zero.update_lp_params()
        return
    persistent = zero.persistent_parameters
    if persistent:
        persistent[0].partition(persistent)
    for group in range(len(zero.fp32_partitioned_groups_flat)):
        zero._reassign_or_swap_out_partitioned_parameters(group)
    if persistent:
        persistent[0].all_gather(persistent)
