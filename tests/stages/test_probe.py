"""A model that training or the E-step would not compute as it is, is refused before anything is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_hpc.config.load import demo_file, load_config
from lt_hpc.errors import ConfigError
from lt_hpc.stages import prepare, probe
from tests.runs.tiny_run import tasks
from tools import model_table


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "gpt_oss", "qwen3_moe", "opt"])
def test_models_with_attention_in_every_layer_are_exact(tmp_path: Path, kind: str) -> None:
    network = model_table.build(kind, tmp_path)
    line = probe.check(tmp_path, network, load_config(demo_file()))
    assert line.startswith(f"{kind}: largest error in nats of training ")
    assert all(float(word.rstrip(",")) < 1e-5 for word in line.split() if "e-" in word)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mamba", "documents of one row move each other"),
        ("rwkv", "documents of one row move each other"),
        ("bloom", "documents of one row move each other"),
        ("openai-gpt", "documents of one row move each other"),
        ("granitemoehybrid", "documents of one row move each other"),
        ("lfm2", "documents of one row move each other"),
        ("falcon", "KeyError"),
    ],
)
def test_models_whose_layers_pass_our_attention_by_are_refused(
    tmp_path: Path, kind: str, reason: str
) -> None:
    network = model_table.build(kind, tmp_path)
    with pytest.raises(
        ConfigError, match=rf"training can't compute {kind} exactly \({reason}.*choose another"
    ):
        probe.check(tmp_path, network, load_config(demo_file()))


def test_a_model_that_the_e_step_alone_can_not_compute_is_for_the_other_engine(tmp_path: Path) -> None:
    network = model_table.build("deepseek_v3", tmp_path)
    with pytest.raises(ConfigError, match=r"torch can't compute deepseek_v3.*use sample.engine=vllm"):
        probe.check(tmp_path, network, load_config(demo_file()))
    assert probe.check(tmp_path, network, load_config(demo_file(), ["sample.engine=vllm"]))


def test_prepare_leaves_no_base_of_a_model_that_is_refused(tmp_path: Path) -> None:
    def become_mamba(model: Path) -> None:
        tokenizer = {path: path.read_bytes() for path in model.glob("token*")}
        model_table.build("mamba", model)
        for path, content in tokenizer.items():
            path.write_bytes(content)

    make = tasks(tmp_path, edit=become_mamba)
    with pytest.raises(ConfigError, match="mamba"):
        prepare.run(make("prepare"))
    assert not make("prepare").paths.base.exists()


def test_the_page_has_every_kind_and_none_is_wrong() -> None:
    rows = [line.split(" | ") for line in model_table.PAGE.read_text().splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(rows) >= 45 and {row[0].removeprefix("| ") for row in rows} == set(model_table.KINDS)
    for kind, training, torch_engine, vllm in rows:
        for cell in (training, torch_engine):
            assert cell == "-" or cell.startswith("refused: ") or float(cell[len("exact (") : -1]) < 1e-5
        assert vllm.startswith(("exact (", "not loaded: ")) or kind.removeprefix("| ") in model_table.KNOWN


def test_settings_of_sampling_that_come_with_a_model_play_no_part(tmp_path: Path) -> None:
    odd = {"do_sample": False, "temperature": 0.6, "top_p": 0.9}
    make = tasks(tmp_path, edit=lambda model: (model / "generation_config.json").write_text(json.dumps(odd)))
    prepare.run(make("prepare"))
    kept = json.loads((make("prepare").paths.base / "generation_config.json").read_text())
    assert not kept.keys() & odd.keys()
