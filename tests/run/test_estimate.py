"""What a dry run says of the published runs, before anything is downloaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lt_hpc import dry_run
from lt_hpc.config.load import load_config
from lt_hpc.launch import make_plan
from lt_hpc.run import estimate
from lt_hpc.store.paths import RunPaths

CONFIGS = Path(__file__).parents[2] / "configs"


def lines(name: str, tmp_path: Path, *overrides: str) -> list[str]:
    config = load_config(CONFIGS / name, list(overrides))
    paths = RunPaths(tmp_path / "run")
    plan = make_plan(config, 3, paths)
    return list(dry_run.lines(plan, estimate.estimate(plan, paths)))


def test_the_published_run_is_33060_steps_and_13b_tokens(tmp_path: Path) -> None:
    text = "\n".join(lines("tinyllama_finemath.yaml", tmp_path))
    assert "33,060 steps of 393,216 tokens = 13B tokens" in text  # 192 x 2048
    assert "4,069 steps of 196,608 tokens = 800M tokens" in text  # 96 x 2048
    assert "1.1B parameters, bfloat16, 8 ranks" in text
    # Per parameter 2 + 4 + 2 + 12/8 bytes under ZeRO-1, (2 + 4 + 12)/8 under ZeRO-3 with a bucket of 1 GB and
    # the gathered parameters (2 GB); and 1.5 GB for the contexts of CUDA and NCCL.
    assert "ZeRO-1 31.7 GB" in text and "ZeRO-3 26.7 GB" in text and "ZeRO-0" not in text
    # 13B tokens x (6 x 1.1B + 12 x 22 x 2048 x 2048), at 35% of 312 TFLOP/s
    assert "255 GPU hours, 31.9 hours on 8 GPUs" in text
    # 1024 rows x 32,000 tokens x 7 bytes; 4 bytes per parameter, two rows of logits, a context
    assert "of 80 GB vLLM leaves 8.0 GB: scoring takes 229 MB, the check in float32 6.4 GB\n" in text
    assert "K=4, 18.4B tokens to sample" in text  # about 18B in the publication
    # 8,000 chunks of 187.5 tokens: 8 thoughts each, 128 more of 64, all 2.4 times as long; the text twice.
    assert "evaluate-00 and 3 more like it: 32.5M tokens to sample and 49M to score, at most" in text
    # 1.92B tokens of text and 2.4 times as many of thoughts, 4 bytes each, once for all ranks.
    assert "documents and thoughts: 26.1 GB of files" in text and "200 MB of host memory per rank" in text


def test_its_dry_run_needs_neither_torch_nor_a_network(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from lt_hpc import launch\n"
        f"code = launch.main(['--config', {str(CONFIGS / 'tinyllama_finemath.yaml')!r}, '--dry-run',"
        " '--cluster', 'local'])\n"
        "print('torch' in sys.modules, code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "33,060 steps" in result.stdout and result.stdout.endswith("False 0\n")
    assert list(tmp_path.iterdir()) == []


def test_hours_of_sampling_are_those_of_a_pace_that_is_set(tmp_path: Path) -> None:
    assert "set" not in lines("tinyllama_finemath.yaml", tmp_path)[0]
    assert any("hours are known from shards" in one for one in lines("tinyllama_finemath.yaml", tmp_path))
    pace = ["hardware.sampled_tokens_per_second=5000", "hardware.scored_tokens_per_second=40000"]
    text = "\n".join(lines("tinyllama_finemath.yaml", tmp_path, *pace))
    # 18.4B and 26.1B tokens
    assert "1.21e+03 hours of one engine, 1.21e+03 GPU hours, at 5,000 sampled and 40,000 scored" in text


def test_the_smaller_finemath_run_takes_one_node_less_than_a_day(tmp_path: Path) -> None:
    text = "\n".join(lines("smollm2_finemath.yaml", tmp_path))
    stages = re.split(r"\n(?=\S)", text)
    hours = [float(re.findall(r"([\d.]+) GPU hours", stage)[0]) for stage in stages]
    assert [stage[:11] for stage in stages] == ["sample-01 a", "evaluate-00", "train-00: 4", "train-01 an"]
    assert 12 < (3 * hours[0] + 4 * hours[1] + hours[2] + 3 * hours[3]) / 8 < 24


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    name = "llama8b_finemath.yaml"
    assert not any("does not fit" in line for line in lines(name, tmp_path))
    found = lines(name, tmp_path, "train.zero_stage=1", "hardware.memory_gb=40")
    assert any("train" not in line and "zero_stage=1 does not fit" in line for line in found)


def test_a_local_model_is_counted_from_its_files(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from lt_hpc.data.base_model import BUILTIN

    shape = estimate.model_shape(load_config(CONFIGS / "demo.yaml"))
    model = AutoModelForCausalLM.from_pretrained(BUILTIN["builtin:demo_base"])
    assert shape is not None and shape.parameters == model.num_parameters()
    assert (shape.layers, shape.hidden_size, shape.vocabulary) == (3, 96, 47)


def test_without_figures_the_fields_to_set_are_named(tmp_path: Path) -> None:
    unset = ["estimate.parameters=null", "estimate.corpus_tokens=null", "train.steps=null"]
    text = "\n".join(lines("tinyllama_finemath.yaml", tmp_path, *unset))
    assert "set estimate.parameters" in text
    assert "from estimate.corpus_tokens" in text


def test_epochs_become_steps_of_the_estimated_tokens(tmp_path: Path) -> None:
    """Two passes over 1.92B raw tokens with 2.4 of thoughts each and no prefix repeated are the
    published 13B tokens."""
    config = load_config(
        CONFIGS / "tinyllama_finemath.yaml",
        ["train.steps=null", "train.epochs=2", "chunking.prefix_chunks=0"],
    )
    paths = RunPaths(tmp_path)
    plan = make_plan(config, 1, paths)
    assert estimate.num_steps(plan, plan.stage("train-01"), paths) == pytest.approx(33060, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "copies"),
    [([], 3), (["chunking.prefix_stride=3"], 2), (["chunking.prefix_stride=3", "train.prefixes=shared"], 1)],
)
def test_a_pass_counts_the_prefixes_that_are_computed(
    tmp_path: Path, settings: list[str], copies: int
) -> None:
    config = load_config(
        CONFIGS / "tinyllama_finemath.yaml", ["train.steps=null", "train.epochs=1", *settings]
    )
    paths = RunPaths(tmp_path)
    plan = make_plan(config, 1, paths)
    expected = 1.92e9 * (1 + copies + 2.4) / 393216
    assert estimate.num_steps(plan, plan.stage("train-01"), paths) == pytest.approx(expected, rel=0.001)


def test_a_check_that_does_not_fit_beside_vllm_is_told(tmp_path: Path) -> None:
    text = "\n".join(lines("llama8b_finemath.yaml", tmp_path, "sample.vllm.gpu_memory_utilization=0.9"))
    assert "vLLM leaves 8.0 GB" in text and "not both fit: lower sample.vllm.gpu_memory_utilization" in text
    text = "\n".join(lines("llama8b_finemath.yaml", tmp_path))
    assert "vLLM leaves 40.0 GB" in text and "not both fit" not in text
    text = "\n".join(lines("llama8b_finemath.yaml", tmp_path, "sample.precision_chunks=0"))
    assert "scoring takes 919 MB\n" in text
