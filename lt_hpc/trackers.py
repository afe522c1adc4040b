"""Where figures also go when `train.trackers` asks for it: TensorBoard, Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Some curves over steps, or over iterations. Made from (folder of the tracker's files, name of the
    curves, first step that this attempt makes)."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, name: str, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier attempt showed from the first step on is replaced.
        self.writer = SummaryWriter(str(folder / "tensorboard" / name), purge_step=first)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    def __init__(self, folder: Path, name: str, first: int) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        # The same id after a restart: one run there for one set of curves. Project and entity come from
        # WANDB_*.
        self.run = wandb.init(dir=folder, name=name, id=name, resume="allow")

    def log(self, values: Mapping[str, float], step: int) -> None:
        if step >= self.run.starting_step:  # it has the others, and takes nothing for them any more
            self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, str, int], Tracker]] = {"tensorboard": _TensorBoard, "wandb": _Wandb}
