"""`lt-hpc COMMAND` is the module of that name: same output, same exit code."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import lt_hpc
from lt_hpc import cli
from lt_hpc.arguments import COMMANDS
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
        (2, "rehearse sample.num_sample=7"),
        (0, "status ."),
        (2, "status nowhere"),
        (2, "report"),
        (2, "report nowhere"),
        (2, "experiment nowhere"),
        (0, "completion zsh"),
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


COMMAND_LINES = {
    "lanch --iters 1": "(did you mean launch?)",
    "launch --itres 1": "(did you mean --iters?)",
    "launch --cluster=slrum": "(did you mean slurm?)",
    "launch sample.num_sample=3": "(did you mean sample.num_samples?)",
    "launch smaple.num_samples=3": "(did you mean sample?)",
    "launch num_shards=3": "(did you mean prepare.num_shards or teacher.num_shards or sample.num_shards?)",
    "launch merge.method=argmx": "(did you mean argmax?)",
    "launch corpus.source=builtin:chian": "(did you mean builtin:chain?)",
    "launch model.path=builtin:demobase": "(did you mean builtin:demo_base?)",
    "launch teacher.kind=openai teacher.model=m teacher.prompt=thougt": "(did you mean thought?)",
    "launch --config wordproblem.yaml": "wordproblems.yaml?)",
    "experiment teachr": "(did you mean teacher?)",
    "experiment em --arms raw-repeat": "(did you mean raw-repeated?)",
    "launch runs/demo": "a run folder is given by --run-dir",
}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_wrong_word_is_answered_with_the_nearest_valid_one(
    line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = cli.main(line.split())
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert COMMAND_LINES[line] in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_word_that_is_near_to_none_gets_no_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", "xyzzy=3"]) == 2
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_fits_on_a_screen(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"] if command else ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert 5 < len(lines) <= 40


OFFERED = {
    "st": ["status"],
    "launch --it": ["--iters"],
    "launch --cluster loc": ["local"],
    "launch --iters 3 seed=1 sample.num_sa": ["sample.num_samples="],
    "experiment fine": ["finetuned"],
    "launch --config si": ["site.yaml"],
    "status ru": ["runs"],
    "report ru": ["runs"],
    "completion z": ["zsh"],
}


@pytest.mark.parametrize("begun", OFFERED)
def test_bash_completes_commands_options_fields_and_files(begun: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "site.yaml").touch()
    script = python("-m", "lt_hpc.cli", "completion", "bash")[1]
    ask = """
    COMP_WORDS=(lt-hpc "$@"); COMP_CWORD=$#
    eval "$(complete -p lt-hpc | sed 's/.*-F \\([^ ]*\\).*/\\1/') lt-hpc '${@: -1}' '${@: -2:1}'"
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    asked = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{ask}", "bash", *begun.split()],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert asked.stdout.split() == OFFERED[begun], asked.stderr


@pytest.mark.parametrize("begun", ["st", "launch --it", "launch --iters 3 seed=1 sample.num_sa"])
def test_zsh_completes_commands_options_and_fields(begun: str, tmp_path: Path) -> None:
    script = python("-m", "lt_hpc.cli", "completion", "zsh")[1]
    (tmp_path / "script").write_text(script)
    (tmp_path / ".zshrc").write_text(
        "PS1=''; autoload -Uz compinit; compinit -u -D\n"
        f'eval "$(cat {tmp_path}/script)"\n'
        'completed() { print -r -- "<$BUFFER>"; exit }\n'
        "zle -N completed; bindkey '^I' complete-word; bindkey '^X' completed; print READY\n"
    )
    said = typed_in_zsh(f"lt-hpc {begun}\t\x18", tmp_path)
    words = said.rpartition("<")[2].partition(">")[0].split()
    assert words[-1] == OFFERED[begun][0], said


def typed_in_zsh(keys: str, home: Path) -> str:
    """What an interactive zsh shows when keys are typed, up to its end."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(ZDOTDIR=str(home), TERM="dumb", COLUMNS="200")
        os.execvp("zsh", ["zsh", "-i"])
    said, sent = b"", False
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # it has ended
            break
        said += piece
        if not piece:
            break
        if b"READY" in said and not sent:
            os.write(terminal, keys.encode())
            sent = True
    os.waitpid(child, 0)
    return said.decode(errors="replace")


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
