"""The house keeps its shape: who may import whom, and how large a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lt_hpc"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
HEAVY = ("torch", "transformers", "deepspeed", "vllm", "submitit", "datasets")


def imported(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms(path: Path) -> set[str]:
    """The rooms of lt_hpc a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("lt_hpc.")}


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("latent", {"latent"}),
        ("store", {"store", "errors", "latent", "__version__"}),
        ("data", {"data", "store", "latent", "config", "errors"}),
        ("engines", {"engines", "data", "store", "latent", "config", "errors"}),
        ("cluster", {"cluster", "store", "config", "errors"}),
    ],
)
def test_rooms_import_only_what_lies_before_them(room: str, allowed: set[str]) -> None:
    for path in (PACKAGE / room).glob("*.py"):
        assert rooms(path) <= allowed, path.name


def users(name: str) -> set[str]:
    """The files that import a package."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(module.split(".")[0] == name for module in imported(path))
    }


def test_one_file_imports_each_heavy_engine() -> None:
    assert users("deepspeed") == {"engines/zero.py"}
    assert users("submitit") == {"cluster/submit.py"}
    assert users("vllm") == {"engines/vllm_engine.py"}


def test_the_package_needs_neither_its_tools_nor_its_tests() -> None:
    assert users("tools") == users("tests") == set()


def test_imports_are_absolute() -> None:
    """So that the walk above sees every one."""
    for path in FILES:
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), path.name


def outside(path: Path) -> set[str]:
    """What a file imports that is neither the project nor the standard library."""
    return {name.split(".")[0] for name in imported(path)} - {"lt_hpc"} - sys.stdlib_module_names


def test_the_mathematics_needs_numpy_alone() -> None:
    for path in (PACKAGE / "latent").glob("*.py"):
        assert outside(path) <= {"numpy"}, path.name


def test_the_plan_is_pure() -> None:
    path = PACKAGE / "cluster" / "plan.py"
    assert rooms(path) <= {"config", "errors", "store"}
    assert outside(path) == set()


def test_settings_and_errors_stand_at_the_bottom() -> None:
    assert rooms(PACKAGE / "errors.py") == set()
    assert rooms(PACKAGE / "config.py") | rooms(PACKAGE / "config_checks.py") <= {
        "config", "config_checks", "errors", "latent",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["launch", "status", "report"])
def test_commands_import_neither_engines_nor_stages(command: str) -> None:
    files = sorted((PACKAGE / command).glob("*.py")) or [PACKAGE / f"{command}.py"]
    assert not any(rooms(path) & {"engines", "stages"} for path in files)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_really_two(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("command", ["launch", "status", "report"])
def test_commands_start_without_the_heavy_packages(command: str) -> None:
    unwanted = (*HEAVY, "lt_hpc.engines", "lt_hpc.stages")
    module = "lt_hpc.report.__main__" if command == "report" else f"lt_hpc.{command}"
    code = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
