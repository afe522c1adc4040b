"""The small copy of a configuration: what is smaller in it, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.config.fields import walk
from lt_hpc.config.load import config_to_yaml, load_config, shipped
from lt_hpc.errors import ConfigError
from lt_hpc.rehearse.small import small_copy

FILES = sorted(path for path in shipped(Path()).glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", [None, "gpu.yaml"])
def test_of_every_configuration_a_copy_can_be_made_that_says_what_is_smaller(
    file: Path, profile: str | None, tmp_path: Path
) -> None:
    own = load_config(file, [], shipped(Path("cluster")) / profile if profile else None)
    small, changes = small_copy(own, [], on_slurm=True)
    (tmp_path / "small.yaml").write_text(config_to_yaml(small))
    assert load_config(tmp_path / "small.yaml") == small, "launch reads back what was made"
    before, after = ({name: value for name, _, value in walk(one)} for one in (own, small))
    assert {one.field: (one.own, one.small) for one in changes} == {
        name: (value, after[name]) for name, value in before.items() if value != after[name]
    }
    assert all(one.own is None or one.small < one.own for one in changes if not isinstance(one.own, list))
    kept = ("model.", "slurm.", "local.", "sample.engine", "train.zero_stage", "train.micro_batch_rows")
    assert not [one.field for one in changes if one.field.startswith(kept) or one.field.endswith("dtype")]


def test_what_is_named_stays_as_it_is_said() -> None:
    overrides = ["train.steps=300", "sample.num_samples=5", "evaluate.num_samples=7"]
    own = load_config(shipped(Path("demo.yaml")), overrides)
    small, changes = small_copy(own, ["train.steps", "sample"], on_slurm=False)
    assert (small.train.steps, small.sample.num_samples, small.sample.block_chunks) == (300, 5, 128)
    assert small.evaluate.num_samples == 2
    assert not [one for one in changes if one.field.startswith("sample.") or one.field == "train.steps"]


def test_every_process_of_the_e_step_has_blocks_to_be_stopped_between() -> None:
    own = load_config(
        shipped(Path("demo.yaml")),
        ["slurm.sample.tasks_per_node=8", "sample.num_shards=64", "train.trackers=[]"],
    )
    small, _ = small_copy(own, [], on_slurm=True)
    blocks = (small.corpus.num_documents or 0) // small.sample.block_chunks
    assert small.sample.num_shards >= 8 and blocks >= 4 * small.sample.num_shards


def test_what_is_named_has_to_fit_the_rest() -> None:
    own = load_config(shipped(Path("demo.yaml")), ["merge.weights=tempered", "merge.target_ess=3"])
    assert small_copy(own, [], on_slurm=False)[0].sample.num_samples == 3
    own.sample.num_samples = 2
    with pytest.raises(ConfigError, match=r"merge\.target_ess"):
        small_copy(own, ["sample.num_samples"], on_slurm=False)
