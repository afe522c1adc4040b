"""The house keeps its shape: who may import whom, and how large a file may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lt_hpc.kinds import NAMES

PACKAGE = Path(__file__).parents[1] / "lt_hpc"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
HEAVY = ("torch", "transformers", "deepspeed", "vllm", "submitit", "datasets", "matplotlib", "lm_eval")


FLOORS: tuple[set[str], ...] = (
    {"__version__", "errors", "host_memory"},
    {"kinds", "latent", "versions", "hardware", "trackers", "arguments"},
    {"config"},
    {"store"},
    {"data"},
    {"run"},
    {"training", "engines", "cluster"},
    {"teachers", "benchmarks"},
    {"stages", "report", "display", "dry_run"},
    {"job"},
    {"crash"},
    {"launch", "status", "prefetch"},
    {"experiments", "benchmark", "doctor"},
    {"experiment", "rehearse"},
    {"completion"},
    {"cli"},
)
"""The rooms from the bottom up: each imports from itself and from floors below its own."""


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imported(path: Path) -> set[str]:
    """Every module a file imports, at its top, inside a function, or by a string given to importlib."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _loads_modules(node.func):
            names |= {start for start in map(_string_start, node.args) if start}
    return names


def _loads_modules(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _string_start(argument: ast.expr) -> str:
    """The constant text an argument begins with."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    return str(argument.value).rstrip(".") if isinstance(argument, ast.Constant) else ""


def rooms(path: Path) -> set[str]:
    """The rooms of lt_hpc a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("lt_hpc.")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def back_arrows(path: Path) -> set[str]:
    """The rooms that a file imports from and may not."""
    own = room_of(path)
    return {other for other in rooms(path) if other != own and floor(other) >= floor(own)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_from_floors_below(path: Path) -> None:
    if path.name != "__init__.py" or path.parent != PACKAGE:
        assert back_arrows(path) == set()


def test_every_room_stands_on_a_floor() -> None:
    assert {room_of(path) for path in FILES} - {"__init__"} == set.union(*FLOORS) - {"__version__"}


def test_an_arrow_back_up_is_seen_also_where_importlib_makes_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "store").mkdir()
    file = tmp_path / "store" / "paths.py"
    for line in (
        "from lt_hpc.stages import task",
        "import importlib; importlib.import_module('lt_hpc.stages.task')",
        "from importlib import import_module as import_module; import_module(f'lt_hpc.stages.{name}')",
        "def late():\n    import lt_hpc.stages.task",
    ):
        file.write_text(line)
        assert back_arrows(file) == {"stages"}, line


def test_no_module_is_loaded_by_a_constant_string() -> None:
    for path in FILES:
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        constants = (
            argument
            for call in calls
            if _loads_modules(call.func)
            for argument in call.args
            if isinstance(argument, ast.Constant)
        )
        assert not list(constants), path.name


def module_name(path: Path) -> str:
    return ".".join(("lt_hpc", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {module_name(path): path for path in FILES}
    arrows = {name: imported(path) & set(modules) - {name} for name, path in modules.items()}
    while leaves := {name for name, others in arrows.items() if not others & set(arrows)}:
        arrows = {name: others for name, others in arrows.items() if name not in leaves}
    assert not arrows, "circles through these"


def test_names_of_stages_are_compared_nowhere() -> None:
    """What differs by kind is an attribute in the table of kinds."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                if any(isinstance(side, ast.Attribute) and side.attr in ("kind", "name") for side in sides):
                    values = {side.value for side in sides if isinstance(side, ast.Constant)}
                    assert not values & set(NAMES), f"{path.name}:{node.lineno}"


def test_variables_of_slurm_and_of_places_are_each_spelled_in_one_room() -> None:
    texts = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in FILES}
    assert {name for name, text in texts.items() if '"LT_' in text} == {"cluster/place.py"}
    assert all(name.startswith("cluster/slurm/") for name, text in texts.items() if "SLURM_" in text)


def users(name: str) -> set[str]:
    """The files that import a package."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(module.split(".")[0] == name for module in imported(path))
    }


def test_one_file_imports_each_heavy_engine() -> None:
    assert users("deepspeed") == {"training/deepspeed_api.py"}
    assert users("submitit") == {"cluster/slurm/submit.py"}
    assert users("vllm") == {"engines/vllm_engine.py"}
    assert users("lm_eval") == {"benchmarks/harness.py"}


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


def test_the_plan_and_the_kinds_are_pure() -> None:
    for path in (PACKAGE / "run" / "plan.py", PACKAGE / "run" / "build.py", PACKAGE / "kinds.py"):
        assert rooms(path) - {room_of(path)} <= {"config", "errors", "kinds", "store"}
        assert outside(path) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_really_two(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "command",
    ["launch", "status", "report", "experiment", "benchmark", "prefetch", "doctor", "rehearse", "completion"],
)
def test_commands_start_without_the_heavy_packages(command: str) -> None:
    unwanted = (*HEAVY, "lt_hpc.engines", "lt_hpc.stages")
    module = f"lt_hpc.{command}" + (".__main__" if command in ("report", "doctor", "rehearse") else "")
    code = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_picture_of_the_rooms_is_that_of_their_imports() -> None:
    """docs/design.md draws every arrow that does not follow from longer paths."""
    picture = (PACKAGE.parent / "docs" / "design.md").read_text().split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"(\w+) --> (\w+)", picture))
    together = {"dry_run": "display"}
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        own = together.get(room_of(path), room_of(path))
        others = {together.get(room, room) for room in rooms(path)} - {own, "__version__", "__init__"}
        arrows.setdefault(own, set()).update(others)

    def reached(room: str) -> set[str]:
        return arrows[room].union(*map(reached, arrows[room]))

    needed = {
        (room, other)
        for room, others in arrows.items()
        for other in others
        if not any(other in reached(between) for between in others - {other})
    }
    assert drawn == needed
