"""The only file that imports deepspeed: one data-parallel trainer with ZeRO.

The loss of a step is the sum over its tokens divided by the number of loss tokens of the
global batch, whatever the micro-batches and ranks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cuda" if os.path.exists("/dev/nvidia0") else "cpu")

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import logger
from transformers import AutoModelForCausalLM

from lt_hpc.config import TrainConfig
from lt_hpc.data.examples import IGNORED, Batch

logger.setLevel("WARNING")
# On CPU DeepSpeed would compile a shared-memory all-reduce at the first start: minutes, a C++
# compiler, and a build lock that blocks every later start if this one is killed. Gloo does it.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class ZeroTrainer:
    """A model under DeepSpeed. Every rank constructs it after `init_process_group`."""

    def __init__(
        self, model_path: Path, config: TrainConfig, micro_batches: int, trust_remote_code: bool
    ) -> None:
        self.config = config
        self.micro_batches = micro_batches
        self.world_size = dist.get_world_size()
        model = AutoModelForCausalLM.from_pretrained(
            model_path, dtype=torch.float32, trust_remote_code=trust_remote_code
        )
        optimizer = torch.optim.AdamW(
            _decayed_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, config.beta2)
        )
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=self._deepspeed_config()
        )
        self.engine.train()

    def _deepspeed_config(self) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": 1,  # rows are batched by the caller
            "gradient_accumulation_steps": self.micro_batches,
            "gradient_clipping": self.config.clip_norm,
            "bf16": {"enabled": self.config.dtype == "bfloat16"},
            "zero_optimization": {"stage": self.config.zero_stage},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31,
        }

    def step(
        self, batches: list[Batch], global_tokens: int, learning_rate: float
    ) -> tuple[float, float | None]:
        """One optimizer step on this rank's micro-batches; returns (summed NLL of this rank in
        nats, global gradient norm before clipping; None where the ZeRO stage does not tell)."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        total = 0.0
        for batch in batches:
            nll = self._nll(batch)
            # DeepSpeed divides by the micro-batches and averages over ranks: undone here.
            self.engine.backward(nll * (self.world_size * self.micro_batches / global_tokens))
            self.engine.step()
            total += nll.item()
        norm = self.engine.get_global_grad_norm()
        return total, float(norm) if norm is not None else None

    def _nll(self, batch: Batch) -> torch.Tensor:
        device = self.engine.device
        # No mask and no cache: transformers then sees the restarted positions as documents.
        logits = self.engine(
            input_ids=torch.from_numpy(batch.ids).to(device),
            position_ids=torch.from_numpy(batch.positions).to(device),
            use_cache=False,
        ).logits
        labels = torch.from_numpy(batch.labels).to(device)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def save(self, folder: Path, tag: str) -> None:
        """Write this step's state under a tag of its own; all ranks call it. `latest` is never
        written by DeepSpeed: rank 0 may write it before another rank is done."""
        self.engine.save_checkpoint(str(folder), tag=tag, save_latest=False)
        dist.barrier()

    def load(self, folder: Path, tag: str) -> None:
        """Read the state back; same world size and ZeRO stage."""
        path, _ = self.engine.load_checkpoint(str(folder), tag=tag)
        if path is None:
            raise RuntimeError(f"DeepSpeed could not load checkpoint {tag}")

    def export(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder (rank 0; all ranks call it)."""
        if self.config.zero_stage == 3:
            state = self.engine._zero3_consolidated_16bit_state_dict()
        else:
            state = self.engine.module.state_dict()
        if dist.get_rank() == 0:
            self.engine.module.save_pretrained(folder, state_dict=state)
        dist.barrier()


def _decayed_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices, none on norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def init_process_group(store: Any, rank: int, world_size: int) -> None:
    """Join the other ranks through a store and tell DeepSpeed about it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size))
    os.environ.setdefault(
        "LOCAL_RANK", str(rank if not torch.cuda.is_available() else rank % torch.cuda.device_count())
    )
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    deepspeed.init_distributed(dist_backend=backend)


def all_max(value: int) -> int:
    """The largest value over all ranks: how they agree to stop or save at the same step."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.tensor([value], device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor.item())


def all_sum(value: float) -> float:
    """The sum over all ranks, in float64."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return float(tensor.item())


def leave() -> None:
    """Leave the process group; without it gloo may abort at exit."""
    dist.destroy_process_group()
