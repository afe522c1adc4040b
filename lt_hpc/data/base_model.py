"""The base model a run starts from: where it lies, whether the markers fit, and `base/`,
the same model with the four markers in its tokenizer and embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lt_hpc.config.schema import ModelConfig
from lt_hpc.data import encoding
from lt_hpc.data.readers import ends_hash
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import MARKERS
from lt_hpc.store.atomic import write_json
from lt_hpc.store.paths import LAYOUT

BUILTIN = {"builtin:demo_base": Path(__file__).parent / "demo_base"}


def resolve(model: ModelConfig) -> Path | str:
    """The folder of a local or built-in model, or the hub id as it is.

    Raises:
        ConfigError: when it is neither a model folder nor something that looks like a hub id.
    """
    if model.path.startswith("builtin:"):
        if model.path not in BUILTIN:
            raise ConfigError(f"model.path={model.path!r}: choose one of {', '.join(BUILTIN)}")
        return BUILTIN[model.path]
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.path={model.path!r}: the folder has no config.json")
        return folder
    parts = model.path.split("/")
    if len(parts) == 2 and all(parts) and not model.path.startswith((".", "~")):
        return model.path
    raise ConfigError(
        f"model.path={model.path!r}: no such folder; give a Hugging Face folder, a hub id "
        f"owner/name, or {', '.join(BUILTIN)}"
    )


def identity(model: ModelConfig) -> dict[str, Any]:
    """What identifies the weights: the content of a folder, or a hub id and revision."""
    source = resolve(model)
    if isinstance(source, str):
        return {"hub": source, "revision": model.revision}
    files = sorted(p for p in source.iterdir() if p.suffix in {".json", ".safetensors", ".bin", ".model"})
    return {"files": [[p.name, p.stat().st_size, ends_hash(p, overlap=True)] for p in files]}


def check(model: ModelConfig) -> None:
    """Fast check before any work: the folder exists and has room for the markers and context.

    Raises:
        ConfigError: naming the field.
    """
    source = resolve(model)
    if isinstance(source, str):
        return
    settings = json.loads((source / "config.json").read_text())
    longest = settings.get("max_position_embeddings")
    if longest and model.context_length > longest:
        raise ConfigError(
            f"model.context_length={model.context_length}: {model.path} has positions for {longest} tokens"
        )
    tokenizer = source / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(f"model.path={model.path!r}: the folder has no tokenizer.json (a fast tokenizer)")
    rows = settings.get("vocab_size")
    if model.resize_embeddings or rows is None:
        return
    raw = json.loads(tokenizer.read_text(encoding="utf-8"))
    entries = raw["model"]["vocab"]
    names = set(entries if isinstance(entries, dict) else (token for token, _ in entries))
    names |= {token["content"] for token in raw.get("added_tokens", [])}
    missing = len(set(MARKERS) - names)
    if len(names) + missing > rows:
        raise ConfigError(
            f"model.resize_embeddings=false: {model.path} has {rows - len(names)} free embedding rows and "
            f"the markers {' '.join(MARKERS)} need {missing}; set model.resize_embeddings=true"
        )


def build(model: ModelConfig, folder: Path) -> None:
    """Write the base model with the markers, its tokenizer and layout.json into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = resolve(model)
    options = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
    # A model that has the markers, a trained one of this project, keeps their ids and rows.
    new = [marker for marker in MARKERS if marker not in tokenizer.get_vocab()]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(MARKERS)}, replace_extra_special_tokens=False
    )
    old_rows = network.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > old_rows:
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    markers = tokenizer.convert_tokens_to_ids(list(MARKERS))
    if new:
        _initialise_rows(network, tokenizer.convert_tokens_to_ids(new))
    bos = encoding.choose_bos(tokenizer, model.bos)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    names = ("sol", "eol", "prior", "post")
    values: dict[str, int | None] = dict(zip(names, markers, strict=True))
    write_json(folder / LAYOUT, {**values, "bos": bos, "eos": tokenizer.eos_token_id, "pad": pad or 0})


def _initialise_rows(network: Any, rows: list[int]) -> None:
    """New rows start at the mean of the old ones with a little fixed noise, so that the
    markers are told apart from the first step and draw no probability at the start."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tables = {
        id(m.weight): m.weight for m in (network.get_input_embeddings(), network.get_output_embeddings())
    }
    with torch.no_grad():
        for weight in tables.values():
            old = weight[: min(rows)]
            noise = torch.randn(len(rows), weight.shape[1], generator=generator) * old.std(dim=0) * 0.1
            weight[torch.tensor(rows)] = old.mean(dim=0) + noise
