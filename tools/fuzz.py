"""python tools/fuzz.py [--seed S] [--configs N] [--corpora M] [--only NUMBER]

Random settings through the launcher's dry run, and random corpora through the code that reads and encodes
them. Each has to be taken or refused in one line: no traceback, no wait over 10 seconds, no file made. Prints
how they ended; the exit code is 1 when something failed, with the number of the case: the same seed and
--only NUMBER make it again.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lt_hpc import launch
from lt_hpc.config.fields import walk
from lt_hpc.config.schema import ChunkingConfig, Config, CorpusConfig
from lt_hpc.data import base_model, sources
from lt_hpc.data.encoding import Encoder
from lt_hpc.data.tokenising import tokenise
from lt_hpc.errors import FILE_ERROR, ConfigError

SECONDS = 10
FIELDS = [name for name, _, _ in walk(Config())]
ODD = [
    "", " ", "null", "~", "true", "on", "0", "-1", "007", "1e3", "1e-300", "1e400", "nan", ".inf", "0x1F",
    "1_000", "30:00", "2024-01-01", "'", '"', "[", "]", "{", "}", "[a, b]", "[[a]]", "{a: b}",
    "{a: {b: 1}}", "{a: [1]}", "a #b", "a: b", "- x", "&x", "*x", "!!python/object:os.system x",
    "!!binary aGk=", "${seed}", "${", "${nothing}", "${oc.env:HOME}", "$(id)", "`id`", "a\nb", "a\x00b",
    "\udce9", "é", "日本", "\u202e", "x" * 300, "9" * 400, "x" * 9000, "../..", "/", "/dev/null",
    "~nosuchuser/x", "???", "<<: *x", "hf_" + "a" * 30, "builtin:chain", "torch", "vllm", "float32",
    "given", "sentences", "raw", "1", "2", "16", "128", "0.5", "1.0",
]  # fmt: skip
KEYS = [
    *FIELDS, "sample", "slurm", "nothing", "sample.", ".", "", "slurm.setup[0]", "a.b.c",
    "slurm.options.time", "slurm.options.comment", "slurm.train.options.array",
]  # fmt: skip


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--corpora", type=int, default=200)
    parser.add_argument("--only", type=int, default=None)
    options = parser.parse_args()
    encoder = Encoder(base_model.load_tokenizer(base_model.BUILTIN["builtin:demo_base"], Config().model))
    kinds: dict[str, tuple[int, Callable[[random.Random], str]]] = {
        "configs": (options.configs, config_case),
        "corpora": (options.corpora, lambda rng: corpus_case(rng, encoder)),
    }
    failed = 0
    for kind, (count, case) in kinds.items():
        ends: Counter[str] = Counter()
        for number in range(count) if options.only is None else [options.only]:
            end = tried(case, random.Random(f"{options.seed} {kind} {number}"))
            ends[end.partition(":")[0]] += 1
            if end.startswith("FAILED"):
                failed += 1
                print(f"{kind} --seed {options.seed} --only {number}: {end}", file=sys.stderr, flush=True)
        print(f"{kind}: " + ", ".join(f"{n} {end}" for end, n in sorted(ends.items())))
    return int(failed > 0)


def tried(case: Callable[[random.Random], str], rng: random.Random) -> str:
    """How a case ended, in an empty folder of its own: taken, refused, or FAILED: with the reason."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        signal.signal(signal.SIGALRM, late)
        signal.alarm(SECONDS)
        try:
            return case(rng)
        except Exception:
            return f"FAILED: {traceback.format_exc()[-1500:]}"
        finally:
            signal.alarm(0)
            os.chdir(before)


def value(rng: random.Random) -> str:
    """A text as people, scripts and enemies type it."""
    if rng.random() < 0.8:
        return rng.choice(ODD)
    return "".join(rng.choice("abc019 .:-_[]{}'\"#$,\\é\t") for _ in range(rng.randrange(12)))


def config_case(rng: random.Random) -> str:
    """Overrides, a file and a profile through `launch --dry-run`."""
    arguments = ["--dry-run", "--iters", rng.choice([*"001123", "3", "next", "-1", "9" * 30])]
    made: set[Path] = set()
    for option in ("--config", "--profile"):
        if rng.random() < 0.3:
            path = Path(f"{option[2:]}.yaml")
            path.write_bytes(yaml_of(rng))
            made.add(path)
            arguments += [option, str(path)]
    if rng.random() < 0.3:
        arguments += ["--run-dir", rng.choice(["", "run", "/dev/null", "x" * 300, "/proc/x", "a\nb", "[/b]"])]
    arguments += [f"{rng.choice(KEYS)}={value(rng)}" for _ in range(rng.randrange(4))]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = launch.main(arguments)
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    text = said.getvalue()
    if set(Path().iterdir()) != made:
        return f"FAILED: it made {set(Path().iterdir()) - made}: {arguments}"
    if "Traceback" in text or code not in (0, 2, FILE_ERROR):
        return f"FAILED: exit code {code}, {arguments}: {text[-800:]}"
    return "taken" if code == 0 else "refused"


def yaml_of(rng: random.Random) -> bytes:
    """A file of settings, sometimes damaged."""
    lines: list[str] = []
    for name in rng.sample(FIELDS, rng.randrange(5)):
        *sections, leaf = name.split(".")
        for depth, section in enumerate(sections):
            lines.append(f"{'  ' * depth}{section}:")
        lines.append(f"{'  ' * len(sections)}{leaf}: {value(rng)}")
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return damaged(rng, text) if rng.random() < 0.2 else text


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Cut off, or with some bytes changed."""
    if not content or rng.random() < 0.3:
        return content[: rng.randrange(len(content) + 1)]
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 9)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def corpus_case(rng: random.Random, encoder: Encoder) -> str:
    """A file or a folder of documents through `check`, `documents` and the encoding."""
    mode = rng.choice(["sentences", "given"])
    names = ["a.jsonl", "b.jsonl.gz", "c.parquet", "d.json", "train.jsonl", "test.jsonl"]
    target = rng.choice([*names, "folder"])
    if target == "folder":
        Path("folder").mkdir()
        for name in rng.sample(names, rng.randrange(4)):
            write(rng, Path("folder") / name)
    else:
        write(rng, Path(target))
    columns: dict[str, Any] = {
        f"{field}_column": rng.choice(["text", "a", "b", "a.b"]) for field in ("text", "question", "answer")
    }
    corpus = CorpusConfig(source=target, thought_column=rng.choice([None, "b", "a.a"]), **columns)
    try:
        sources.check(corpus, "corpus", mode, needs_thought=rng.random() < 0.3)
        sources.identity(corpus)
        found = list(sources.documents(corpus, mode))
        settings = ChunkingConfig(mode=mode)  # type: ignore[arg-type]
        list(tokenise(found, encoder, settings, rng.random() < 0.5, 1))
    except ConfigError as error:
        return "refused" if "\n" not in str(error) else f"FAILED: more than one line: {error}"
    return "taken"


def rows(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Rows as exports have them."""

    def cell() -> Any:
        text = " ".join(
            rng.choice([*ODD, "One sentence.", "</s>", "<EOL>", "\n\n"]) for _ in range(rng.randrange(5))
        )
        odd: list[Any] = [None, 3, 1.5, True, [text], [text, " "], [], [None], {"a": text}, 10**30, ["a", 3]]
        odd += [[{"a": text, "b": text}, {"a": text, "b": text}], [{"a": text}], [{"b": None}], {"b": [text]}]
        return rng.choice(odd) if rng.random() < 0.15 else text[:2000]

    for _ in range(rng.randrange(6)):
        yield {column: cell() for column in ("text", "a", "b") if rng.random() < 0.9}


def write(rng: random.Random, path: Path) -> None:
    """A file of documents in the form that its name says, sometimes damaged."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        plain = [{k: str(v).encode("utf-8", "replace").decode() for k, v in row.items()} for row in rows(rng)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), path)
        content = path.read_bytes()
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows(rng)).encode()
        content = gzip.compress(content) if path.suffix == ".gz" else content
    path.write_bytes(damaged(rng, content) if rng.random() < 0.4 else content)


if __name__ == "__main__":
    sys.exit(main())
