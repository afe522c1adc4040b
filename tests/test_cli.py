"""`lt-hpc COMMAND` is the module of that name: same output, same exit code."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import lt_hpc
from lt_hpc.cli import COMMANDS
from tests.test_structure import HEAVY

FINISHED = Path(__file__).parent / "run" / "run_of_f8de9d8.tar.xz"


def python(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of an interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lt_hpc.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in it."""
    folder = tmp_path_factory.mktemp("finished")
    with tarfile.open(FINISHED) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("**/plans")).parent


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (0, "launch --help"),
        (0, "launch --iters 1 --dry-run --cluster local seed=7"),
        (2, "launch --iters 1 --dry-run --cluster local sample.num_sample=7"),
        (2, "launch --no-such-option"),
        (0, "doctor --help"),
        (2, "doctor sample.num_sample=7"),
        (0, "status ."),
        (2, "status nowhere"),
        (2, "report"),
        (2, "report nowhere"),
        (2, "experiment nowhere"),
    ],
)
def test_the_script_does_what_the_module_does(code: int, command: str, run_folder: Path) -> None:
    of_script = python("-m", "lt_hpc.cli", *command.split(), cwd=run_folder)
    assert of_script == python("-m", *f"lt_hpc.{command}".split(), cwd=run_folder)
    assert of_script[0] == code
    assert of_script[1] or of_script[2]


def test_report_writes_the_same_page_as_the_module(run_folder: Path) -> None:
    page = run_folder / "report.html"
    of_module = python("-m", "lt_hpc.report", ".", cwd=run_folder)
    expected = page.read_bytes()
    page.unlink()
    assert python("-m", "lt_hpc.cli", "report", ".", cwd=run_folder) == of_module
    assert page.read_bytes() == expected


@pytest.mark.parametrize("arguments", [["lanch", "--iters", "1"], []])
def test_an_unknown_command_exits_with_2_and_the_valid_ones(arguments: list[str]) -> None:
    code, out, error = python("-m", "lt_hpc.cli", *arguments)
    assert (code, out) == (2, "")
    if arguments:
        assert all(name in error for name in ("launch", "status", "report"))


def test_help_names_the_commands_and_version_the_release() -> None:
    code, out, _ = python("-m", "lt_hpc.cli", "--help")
    assert code == 0
    assert all(name in out for name in ("launch", "status", "report"))
    assert python("-m", "lt_hpc.cli", "--version") == (0, f"lt-hpc {lt_hpc.__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        *(f"{name} --help" for name in COMMANDS),
        "launch --iters 1 --dry-run --cluster local",
        "status .",
        "status . --json",
        "report nowhere",
        "doctor --cluster local",
        "benchmark builtin:demo_base --help",
        "experiment em --show --seeds 0",
        "prefetch",
    ],
)
def test_planning_and_looking_load_none_of_the_heavy_packages(command: str, run_folder: Path) -> None:
    code = (
        "import sys, lt_hpc.cli\n"
        f"try: lt_hpc.cli.main({command.split()!r})\n"
        "finally: print('', *sys.modules, sep='\\n')"
    )
    loaded = python("-c", code, cwd=run_folder)[1].splitlines()
    assert "lt_hpc.cli" in loaded and not set(HEAVY) & set(loaded)


def test_a_command_does_not_import_the_others(run_folder: Path) -> None:
    code = "import sys, lt_hpc.cli; lt_hpc.cli.main(['status', '.']); print(*sys.modules, sep='\\n')"
    modules = python("-c", code, cwd=run_folder)[1].splitlines()
    assert "lt_hpc.status" in modules
    assert not {"lt_hpc.launch", "lt_hpc.report", "lt_hpc.report.__main__"} & set(modules)
