"""The base model a run starts from: where it lies, whether the markers fit, and `base/`,
the same model with the four markers in its tokenizer and embeddings."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from lt_hpc.config.schema import ModelConfig
from lt_hpc.data import encoding
from lt_hpc.data.readers import ends_hash
from lt_hpc.errors import ConfigError, did_you_mean
from lt_hpc.latent.cost import longest_sequence
from lt_hpc.latent.layout import MARKERS
from lt_hpc.store.atomic import write_json
from lt_hpc.store.paths import LAYOUT

NO_MARKER = -1
"""In place of the ids of markers that a model does not have."""
BUILTIN = {"builtin:demo_base": Path(__file__).parent / "demo_base"}


def resolve(model: ModelConfig) -> Path | str:
    """The folder of a local or built-in model, or the hub id as it is.

    Raises:
        ConfigError: when it is neither a model folder nor something that looks like a hub id.
    """
    if model.path.startswith("builtin:"):
        if model.path not in BUILTIN:
            near = did_you_mean(model.path, BUILTIN)
            raise ConfigError(f"model.path={model.path!r}: choose one of {', '.join(BUILTIN)}{near}")
        return BUILTIN[model.path]
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"model.path={model.path!r}: the folder has no config.json; give the folder that "
                "save_pretrained wrote (of a run: RUN/iter-NN/model)"
            )
        return folder
    parts = model.path.split("/")
    if len(parts) == 2 and Path(parts[0]).is_dir():
        raise ConfigError(f"model.path={model.path!r}: {parts[0]}/ is here, and no such folder in it")
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
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    _check_positions(model, settings)
    tokenizer = source / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(f"model.path={model.path!r}: the folder has no tokenizer.json (a fast tokenizer)")
    rows = (settings.get("text_config") or settings).get("vocab_size")
    if model.resize_embeddings or rows is None:
        return
    raw = json.loads(tokenizer.read_text(encoding="utf-8"))
    entries = raw["model"]["vocab"]
    missing = len(set(MARKERS) - _names(raw))
    ids = list(entries.values()) if isinstance(entries, dict) else range(len(entries))
    used = max([*ids, *(token["id"] for token in raw.get("added_tokens", []))], default=-1) + 1
    if used + missing > rows:
        raise ConfigError(
            f"model.resize_embeddings=false: {model.path} has {rows - used} free embedding rows and "
            f"the markers {' '.join(MARKERS)} need {missing}; set model.resize_embeddings=true"
        )


def _names(raw: dict[str, Any]) -> set[str]:
    """Of all tokens of a tokenizer.json."""
    entries = raw["model"]["vocab"]
    names = set(entries if isinstance(entries, dict) else (token for token, _ in entries))
    return names | {token["content"] for token in raw.get("added_tokens", [])}


def tokenise_alike(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether texts are the same token ids for two models, the markers aside; where one of them is on the hub
    and another id or revision, that is not known, and they count as other."""
    if identity(one) == identity(other):
        return True
    folders = resolve(one), resolve(other)
    if any(isinstance(folder, str) for folder in folders):
        return False
    first, second = (_tokens(Path(folder) / "tokenizer.json") for folder in folders)
    return first == second


def _tokens(path: Path) -> list[Any]:
    """What decides token ids in a tokenizer.json, as the present release of tokenizers would write it: one
    that was saved by another has other fields."""
    from tokenizers import Tokenizer

    raw = json.loads(Tokenizer.from_file(str(path)).to_str())
    added = {token["content"]: token["id"] for token in raw["added_tokens"]}
    own = {token: number for token, number in added.items() if token not in MARKERS}
    return [own, raw["model"], raw["normalizer"], raw["pre_tokenizer"]]


def has_markers(model: ModelConfig) -> bool:
    """Whether the tokenizer of a model in a folder has the markers already, as those trained here do; of one
    on the hub that is not known, and it counts as without."""
    source = resolve(model)
    if isinstance(source, str):
        return False
    return set(MARKERS) <= _names(json.loads((source / "tokenizer.json").read_text(encoding="utf-8")))


def positions(model: ModelConfig) -> int | None:
    """Tokens that a model in a folder has positions for; None where it sets no limit, or is on the hub."""
    source = resolve(model)
    if isinstance(source, str):
        return None
    return longest_sequence(json.loads((source / "config.json").read_text(encoding="utf-8")))


def _check_positions(model: ModelConfig, settings: dict[str, Any]) -> None:
    longest = longest_sequence(settings)
    if longest and model.context_length > longest:
        raise ConfigError(
            f"model.context_length={model.context_length}: {model.path} has positions for {longest} tokens"
        )


def stored_parameters(folder: Path) -> int:
    """Elements of all tensors in the safetensors files of a folder, from their headers.

    Raises:
        ConfigError: naming a file that is damaged.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, framework="np") as stored:
                for name in stored.keys():  # noqa: SIM118 (no iterator)
                    total += math.prod(stored.get_slice(name).get_shape())
        except SafetensorError as error:
            raise ConfigError(f"{path}: {error}") from error
    return total


def load_tokenizer(folder: Path | str, model: ModelConfig, **options: Any) -> Any:
    """The tokenizer of a model folder or hub id, with its own code where that is allowed."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=model.trust_remote_code, **options)


def build(model: ModelConfig, folder: Path, markers: bool = True) -> Any:
    """Write the base model with the markers, its tokenizer and layout.json into `folder`; returns the model.
    Without `markers` it stays as it is: rows for them, though never used, would take some probability.

    Raises:
        ConfigError: when model.path can't be loaded, or has no positions for model.context_length.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    source = resolve(model)
    try:
        tokenizer = load_tokenizer(source, model, revision=model.revision)
        network = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except Exception as error:  # safetensors, transformers and a model's own code raise what they like
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(f"model.path={model.path!r}: can't be loaded: {lines[0][:300]}") from error
    _check_positions(model, network.config.to_dict())
    # Sampling has settings of its own; those that come with a model may not even be valid together.
    network.generation_config = GenerationConfig()
    ids = _add_markers(model, tokenizer, network) if markers else [NO_MARKER] * len(MARKERS)
    bos = encoding.choose_bos(tokenizer, model.bos)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if model.trust_remote_code and isinstance(source, Path):
        for code in source.glob("*.py"):
            shutil.copyfile(code, folder / code.name)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    names = ("sol", "eol", "prior", "post")
    values: dict[str, int | None] = dict(zip(names, ids, strict=True))
    write_json(folder / LAYOUT, {**values, "bos": bos, "eos": tokenizer.eos_token_id, "pad": pad or 0})
    return network


def _add_markers(model: ModelConfig, tokenizer: Any, network: Any) -> list[int]:
    """Put the markers into the vocabulary and the embeddings; returns their ids."""
    # A model that has the markers, a trained one of this project, keeps their ids and rows.
    new = [marker for marker in MARKERS if marker not in tokenizer.get_vocab()]
    taken = set(tokenizer.get_vocab().values())
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(MARKERS)}, replace_extra_special_tokens=False
    )
    markers: list[int] = tokenizer.convert_tokens_to_ids(list(MARKERS))
    if not taken.isdisjoint(tokenizer.convert_tokens_to_ids(new)):
        raise ConfigError(
            f"model.path={model.path!r}: its vocabulary has holes (ids up to {max(taken)} for {len(taken)} "
            f"entries), and the markers {' '.join(new)} would take ids of other tokens; add them to its "
            f"tokenizer.json with ids from {max(taken) + 1} on"
        )
    rows = max(*markers, *taken) + 1
    if rows > network.get_input_embeddings().weight.shape[0]:
        network.resize_token_embeddings(rows, mean_resizing=False)
    if new:
        _initialise_rows(network, tokenizer.convert_tokens_to_ids(new))
    return markers


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
