"""A later release reads the settings of an earlier one and keeps its results."""

# ruff: noqa: RUF009 (the calls in the defaults return dataclass fields)

from __future__ import annotations

import dataclasses
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lt_hpc.config import load
from lt_hpc.config.fields import execution, setting
from lt_hpc.config.identity import identity_of
from lt_hpc.config.load import config_from_dict, config_to_yaml, demo_file, load_config
from lt_hpc.config.schema import Config, SampleConfig
from lt_hpc.errors import ConfigError

PINNED = Path(__file__).parents[1] / "run" / "run_of_f8de9d8.tar.xz"


@dataclass
class Penalty:
    """A section."""

    strength: float = setting(0.0, "per token")
    threads: int = execution(1, "per process")


@dataclass
class First:
    """A section as the first release has it."""

    engine: str = setting("torch", "which")
    steps: int = setting(3, "optimizer steps")
    rows: int = setting(8, "per forward", engine="torch")


@dataclass
class Later:
    """The same section: a field renamed, two added."""

    engine: str = setting("torch", "which")
    num_steps: int = setting(3, "optimizer steps", was="steps")
    rows: int = setting(8, "per forward", engine="torch")
    dropout: float = setting(0.0, "share of activations", neutral=True)
    penalty: Penalty = setting(Penalty, "added to the loss", neutral=True)
    sequences: int = setting(16, "per forward", engine="other")


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (First(), Later()),
        (First(steps=7), Later(num_steps=7)),
        (First(), Later(penalty=Penalty(threads=2))),
        (First(), Later(sequences=99)),
    ],
)
def test_fields_that_are_added_or_renamed_change_no_identity(first: First, later: Later) -> None:
    assert identity_of(later) == identity_of(first)


@pytest.mark.parametrize(
    "later",
    [
        Later(num_steps=4),
        Later(dropout=0.1),
        Later(penalty=Penalty(strength=1.0)),
        Later(rows=9),
        Later(engine="other"),
    ],
)
def test_another_value_is_another_identity(later: Later) -> None:
    assert identity_of(later) != identity_of(First())


def test_what_another_engine_reads_is_no_part_of_the_identity() -> None:
    assert identity_of(Later(engine="other", rows=9)) == identity_of(Later(engine="other"))
    assert identity_of(Later(engine="other", sequences=9)) != identity_of(Later(engine="other"))
    torch, vllm = (load_config(demo_file(), [f"sample.engine={name}"]).sample for name in ("torch", "vllm"))
    assert "batch_tokens" in identity_of(torch) and "vllm" not in identity_of(torch)
    assert "batch_tokens" not in identity_of(vllm) and "max_num_seqs" in identity_of(vllm)["vllm"]


@dataclass
class RenamedSample(SampleConfig):
    """As in a release that renamed a field of it."""

    most_likely: int = setting(0, "tokens", ge=0, was="old_k")


@dataclass
class Renamed(Config):
    """As in a release that renamed a field at the top and one in a section."""

    sample: RenamedSample = setting(RenamedSample, "E-step")  # type: ignore[assignment]
    run_seed: int = setting(0, "of the run", was="old_seed")


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "Config", Renamed)


@pytest.mark.usefixtures("renamed")
def test_files_overrides_and_pinned_plans_may_use_old_names(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("old_seed: 5\nsample: {old_k: 6, num_samples: 2}\n")
    expected = Renamed(run_seed=5, sample=RenamedSample(most_likely=6, num_samples=2))
    expected.chunking.max_chunk_tokens = 99
    assert load_config(file, ["chunking.max_chunk_tokens=99"]) == expected
    overrides = ["old_seed=5", "sample.old_k=6", "sample.num_samples=2", "chunking.max_chunk_tokens=99"]
    assert load_config(None, overrides) == expected
    values = dataclasses.asdict(expected)
    values["old_seed"] = values.pop("run_seed")
    values["sample"]["old_k"] = values["sample"].pop("most_likely")
    assert config_from_dict(values) == expected
    assert "most_likely: 6" in config_to_yaml(expected) and "old" not in config_to_yaml(expected)
    # a later source wins under either name
    assert load_config(file, ["chunking.max_chunk_tokens=99", "run_seed=8"]).run_seed == 8  # type: ignore[attr-defined]


@pytest.mark.usefixtures("renamed")
def test_a_value_under_an_old_name_is_checked_as_under_the_new(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sample\.most_likely=-1: must be at least 0"):
        load_config(demo_file(), ["sample.old_k=-1"])
    file = tmp_path / "both.yaml"
    file.write_text("sample: {old_k: 6, most_likely: 7}\n")
    with pytest.raises(ConfigError, match=r"both\.yaml: old_k is an earlier name of most_likely"):
        load_config(file)


def test_pinned_plans_of_an_earlier_release_load() -> None:
    with tarfile.open(PINNED) as archive:
        plans = [member for member in archive if member.name.startswith("run/plans/") and member.isfile()]
        pinned = [json.load(archive.extractfile(member))["config"] for member in plans]  # type: ignore[arg-type]
    assert pinned
    for values in pinned:
        config = config_from_dict(values)
        assert (config.name, config.sample.num_samples) == (values["name"], values["sample"]["num_samples"])
