"""One data-parallel trainer with DeepSpeed's ZeRO.

The loss of a step is the sum over its tokens, each with its weight, divided by the sum of the weights of
the global batch, whatever the micro-batches and ranks. Tokens weigh 1 but for those of weighted thoughts
(together 1 a chunk) and of raw text (`train.raw_loss_weight`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig

from lt_hpc import host_memory, versions
from lt_hpc.config.schema import TrainConfig
from lt_hpc.errors import ConfigError
from lt_hpc.latent.cost import ModelShape
from lt_hpc.training import deepspeed_api, packed_attention, partitions, ranks
from lt_hpc.training.batches import Batch
from lt_hpc.training.loss import summed_nll
from lt_hpc.training.protocol import Done
from lt_hpc.training.ranks import ProcessGroup


class ZeroTrainer:
    """A model under DeepSpeed. Every rank constructs it after `init_process_group`.

    `micro_batches` is how many batches this rank gives to each step, the same on every rank. Weights
    are loaded in float32; the optimizer keeps them so, whatever `config.dtype` computes in.
    """

    def __init__(
        self, model_path: Path, config: TrainConfig, micro_batches: int, trust_remote_code: bool
    ) -> None:
        deepspeed_api.check_version()
        versions.check("transformers", transformers.__version__)
        if ranks.device() == "cpu":
            host_memory.keep_freed()
        # cuDNN's attention, which torch prefers on recent GPUs, plans anew for every new shape, and each
        # group of documents has its own: 3 ms of CPU time per call, twice the rest of a step (H200).
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.config = config
        self.micro_batches = micro_batches
        self.world_size = dist.get_world_size()
        self.attention = packed_attention.implementation(config.dtype, config.prefixes == "shared")
        settings = self._deepspeed_config()
        # Seen by from_pretrained: under ZeRO-3 no rank ever holds the whole model.
        self._sharded_loading = HfDeepSpeedConfig(settings) if config.zero_stage == 3 else None
        model = AutoModelForCausalLM.from_pretrained(
            model_path,
            dtype=torch.float32,
            trust_remote_code=trust_remote_code,
            attn_implementation=self.attention,
        )
        if config.activation_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.adam = torch.optim.AdamW(
            _decayed_groups(model, config.weight_decay),
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            fused=True,
        )
        self.engine, _, _, _ = deepspeed_api.initialize(model=model, optimizer=self.adam, config=settings)
        restore_buffers(self.engine.module)
        self.engine.train()

    def _deepspeed_config(self) -> dict[str, Any]:
        # Without ZeRO, and under ZeRO-1, gradients go between ranks once a step: float32 costs little.
        exact = self.config.zero_stage <= 1 or self.config.float32_reduction
        return {
            **({"communication_data_type": "fp32"} if exact else {}),
            "train_micro_batch_size_per_gpu": 1,  # rows are batched by the caller
            "gradient_accumulation_steps": self.micro_batches,
            "gradient_clipping": self.config.clip_norm,
            "bf16": {"enabled": self.config.dtype == "bfloat16"},
            "data_types": {"grad_accum_dtype": "fp32"},
            "zero_optimization": {"stage": self.config.zero_stage},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31,
        }

    @property
    def shape(self) -> ModelShape:
        """See `protocol.Trainer.shape`."""
        module = self.engine.module
        settings = module.config.get_text_config()
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in module.parameters())
        width = getattr(settings, "intermediate_size", None)
        sizes = (settings.num_hidden_layers, settings.hidden_size, settings.vocab_size)
        return ModelShape(parameters, *sizes, intermediate_size=width)

    def step(self, batches: list[Batch], global_tokens: float, learning_rate: float, seed: int) -> Done:
        """See `protocol.Trainer.step`; the norm is None without ZeRO."""
        torch.manual_seed(seed)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        total, of_raw = torch.zeros(2, device=self.engine.device)
        for batch in batches:
            nll, raw = summed_nll(self.engine, self.attention, batch, self.engine.device)
            # DeepSpeed divides by the micro-batches and averages over ranks: undone here.
            self.engine.backward(nll * (self.world_size * self.micro_batches / global_tokens))
            self.engine.step()
            total += nll.detach()
            of_raw += raw
        norm = self.engine.get_global_grad_norm()
        return Done(total.item(), of_raw.item(), float(norm) if norm is not None else None)

    def snapshot(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """See `protocol.Trainer.snapshot` and partitions.py."""
        return partitions.snapshot(self.engine, self.adam, self.config.zero_stage)

    def restore(self, files: list[Path], step: int) -> None:
        """See `protocol.Trainer.restore`; any ZeRO stage may have written the files."""
        partitions.restore(self.engine, self.adam, self.config.zero_stage, files, step)
        dist.barrier()

    def export(self, folder: Path) -> None:
        """See `protocol.Trainer.export`; the weights are written in the training dtype."""
        if self.config.zero_stage == 3:
            state = self.engine._zero3_consolidated_16bit_state_dict()
        else:
            state = self.engine.module.state_dict()
        if dist.get_rank() == 0:
            self.engine.module.save_pretrained(folder, state_dict=state)
        dist.barrier()


def restore_buffers(module: torch.nn.Module) -> None:
    """DeepSpeed rounds floating-point buffers to the training dtype, and a rotary frequency in bfloat16
    turns position 4096 by some radians too far. They become float32 again, with the values that a
    new instance of the model computes from its configuration.

    Raises:
        ConfigError: for a buffer whose values the configuration does not give.
    """
    rounded = {n: b for n, b in module.named_buffers() if b.dtype in (torch.bfloat16, torch.float16)}
    if not rounded:
        return
    with init_empty_weights(include_buffers=False):
        exact = dict(type(module)(module.config).named_buffers())
    for name, buffer in rounded.items():
        fresh = exact[name].float().to(buffer.device)
        if not torch.equal(fresh.to(buffer.dtype), buffer):
            raise ConfigError(
                f"train.dtype: DeepSpeed rounds the buffer {name} of {type(module).__name__}, which can't be "
                "computed from the model's config.json; use train.dtype=float32"
            )
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, fresh)


def _decayed_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices, none on norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    # Under ZeRO-3 a parameter is already cut up and flat: ds_shape is what it was.
    chosen = [(p, len(getattr(p, "ds_shape", p.shape)) >= 2) for p in parameters]
    return [
        {"params": [p for p, matrix in chosen if matrix], "weight_decay": weight_decay},
        {"params": [p for p, matrix in chosen if not matrix], "weight_decay": 0.0},
    ]


def init_process_group(store: Any, rank: int, count: int) -> ProcessGroup:
    """Join the other ranks through a store and tell DeepSpeed about it."""
    joined = ranks.join(store, rank, count)
    deepspeed_api.init_distributed(dist_backend=dist.get_backend())
    return joined
