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

from lt_hpc.training.deepspeed_api import safe_get_local_fp32_param, safe_get_local_optimizer_state

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
    """Flat float32 tensors by KEYS, sharing memory with the optimizer's own, and the pieces in them."""

    tensors: dict[str, torch.Tensor]
    pieces: tuple[Piece, ...]


def partitions(engine: Any, optimizer: torch.optim.Optimizer, stage: int) -> list[Partition]:
    """This rank's partitions: one per parameter without ZeRO, where every rank holds everything, and
    under ZeRO-3; one per parameter group under ZeRO-1 and 2. Makes zero moments where none are yet."""
    for stepped in _stepped(engine, stage):
        if "exp_avg" not in optimizer.state[stepped]:
            _reset(optimizer, stepped, 0)
    if stage == 3:
        return [
            Partition(_local(parameter), (piece,))
            for name, parameter in _named(engine)
            if (piece := _local_piece(name, parameter)).size > 0
        ]
    pieces: list[list[Piece]] = [[] for _ in _stepped(engine, stage)]
    for index, (name, parameter) in enumerate(_named(engine)):
        if stage == 0:
            pieces[index].append(Piece(name, 0, parameter.numel(), 0))
        elif (mapping := parameter._hp_mapping) is not None:  # else none of it lies on this rank
            here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
            pieces[mapping.param_group_index].append(Piece(name, here.start, here.numel, there.start))
    return [
        Partition(_flat(optimizer, stepped), tuple(found))
        for stepped, found in zip(_stepped(engine, stage), pieces, strict=True)
    ]


def reset(engine: Any, optimizer: torch.optim.Optimizer, stage: int, step: int) -> None:
    """Give the optimizer zero moments after `step` steps, as torch.optim.AdamW makes them at its first."""
    for stepped in _stepped(engine, stage):
        _reset(optimizer, stepped, step)


def _reset(optimizer: torch.optim.Optimizer, stepped: torch.Tensor, step: int) -> None:
    device = stepped.device if optimizer.defaults["fused"] else torch.device("cpu")
    optimizer.state[stepped] = {
        "step": torch.tensor(float(step), device=device),
        "exp_avg": torch.zeros_like(stepped),
        "exp_avg_sq": torch.zeros_like(stepped),
    }


def _named(engine: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]


def _stepped(engine: Any, stage: int) -> list[torch.Tensor]:
    """The tensors that the optimizer steps: the keys of its state."""
    if stage == 0:
        return [parameter for _, parameter in _named(engine)]
    zero = engine.optimizer
    if stage == 3:
        # deepspeed.utils finds moments that exist and has nothing to make them with.
        return list(zero.fp32_partitioned_groups_flat)
    # ZeRO-1 with bfloat16 is another class in DeepSpeed, with another name for the same list.
    return list(getattr(zero, "single_partition_of_fp32_groups", None) or zero.fp32_groups_flat_partition)


def _flat(optimizer: torch.optim.Optimizer, stepped: torch.Tensor) -> dict[str, torch.Tensor]:
    state = optimizer.state[stepped]
    return {"master": stepped.detach().view(-1)} | {key: state[key].view(-1) for key in KEYS[1:]}


def _local(parameter: Any) -> dict[str, torch.Tensor]:
    """This rank's share of a parameter under ZeRO-3; the last one is padded. Nothing is gathered."""
    # As nothing is offloaded these are views, and `restore` writes through them; safe_set_local_* take
    # whole shares and would copy each onto itself.
    moments = {key: safe_get_local_optimizer_state(parameter, key) for key in KEYS[1:]}
    return {"master": safe_get_local_fp32_param(parameter).detach()} | moments


def _local_piece(name: str, parameter: Any) -> Piece:
    """The elements in `_local`; none, or fewer than that, where the share has no more than padding."""
    share = parameter.ds_tensor.numel()
    start = dist.get_rank() * share
    return Piece(name, start, min(share, parameter.ds_numel - start), 0)


def snapshot(
    engine: Any, optimizer: torch.optim.Optimizer, stage: int
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Copies in host memory of what this rank saves, and the metadata that says what they are.

    Without ZeRO the parameters are dealt out over the ranks, each saved once.
    """
    own = partitions(engine, optimizer, stage)
    if stage == 0:
        own = own[dist.get_rank() :: dist.get_world_size()]
    tensors = {
        f"{index}.{key}": value.to("cpu", copy=True)
        for index, partition in enumerate(own)
        for key, value in partition.tensors.items()
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
    reset(engine, optimizer, stage, step)
    for partition in partitions(engine, optimizer, stage):
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
                    partition.tensors[key][target : target + size].copy_(values)
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
    for _, parameter in _named(engine):
        parameter.ds_tensor.data.copy_(_local(parameter)["master"])
    if persistent:
        persistent[0].all_gather(persistent)
