"""What the stage asks of a trainer and of the ranks it runs on: DeepSpeed's trainer is zero.py, and
another one (FSDP2, say) would stand beside it and share the ranks of ranks.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from lt_hpc.latent.cost import ModelShape
from lt_hpc.training.batches import Batch


class Ranks(Protocol):
    """The processes of one training, seen from one of them. Every rank makes the same calls of
    `all_sum` and `from_first` in the same order; each waits there for the others."""

    @property
    def rank(self) -> int:
        """This process, in [0, count)."""
        ...

    @property
    def count(self) -> int: ...

    def all_sum(self, *values: float) -> list[float]:
        """The sum over all ranks of each value, in float64, in one exchange."""
        ...

    def from_first(self, text: str) -> str:
        """Rank 0's text, of at most 512 bytes in UTF-8, on every rank."""
        ...

    def peak_memory(self) -> int:
        """Bytes: the most this rank has used so far, of its GPU or else of the machine."""
        ...

    def leave(self) -> None:
        """Take part in nothing any more; the last call."""
        ...


class Done(NamedTuple):
    """One optimizer step. `nll`, `raw_nll`: of this rank, nats, summed over all tokens that take a loss, each
    with its weight, and over those of raw text, without. `norm`: of the gradient over all ranks, before
    clipping, None where the trainer does not tell; it is not finite where the step was left out because the
    gradient is not."""

    nll: float
    raw_nll: float
    norm: float | None


class Trainer(Protocol):
    """A model in training, as one rank holds it. Every rank calls the same methods in the same order."""

    @property
    def attention(self) -> str:
        """The kernel it takes, for the log."""
        ...

    @property
    def shape(self) -> ModelShape:
        """The whole model's, not this rank's share; tied parameters count once."""
        ...

    def step(self, batches: list[Batch], global_tokens: float, learning_rate: float, seed: int) -> Done:
        """One optimizer step on this rank's micro-batches, as many on every rank. The loss is the
        summed NLL of all ranks divided by `global_tokens`, the loss tokens of all ranks; in both each token
        counts as much as its loss weighs.

        `seed` is of the model's own draws (dropout) in this step: nothing of a generator's state has
        to be kept in checkpoints.
        """
        ...

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Copies in host memory of this rank's share of float32 weights and moments, and the metadata
        that says what they are: what `restore` finds in the files of a checkpoint."""
        ...

    def restore(self, files: list[Path], step: int) -> None:
        """Go back to the state after `step` steps, from one safetensors file per rank that wrote it,
        in the order of ranks; their number may be another than now."""
        ...

    def export(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder (rank 0 alone writes)."""
        ...
