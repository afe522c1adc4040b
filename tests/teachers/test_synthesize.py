"""A teacher's thoughts by a real server that fails now and then, through kills, into a warm start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lt_hpc import dry_run
from lt_hpc.cluster.place import Place
from lt_hpc.config.load import demo_file, load_config
from lt_hpc.errors import ConfigError, Interrupted, StageError
from lt_hpc.launch import make_plan
from lt_hpc.report.collect import collect
from lt_hpc.report.teacher import in_words
from lt_hpc.run import estimate
from lt_hpc.run.progress import Progress
from lt_hpc.run.state import last_plan
from lt_hpc.stages import prepare, synthesize, train_data
from lt_hpc.stages.task import Task
from lt_hpc.store import shards, tables
from lt_hpc.store.paths import RunPaths
from tests.runs.small_run import kill_all, launch, wait_until
from tests.runs.tiny_run import CONTEXT, TEXTS, make_model, tasks
from tests.teachers.endpoint import MODEL, Proxy, make_instruct, served
from tests.teachers.thoughts import dialogues, taught

KEY = "sk-test-of-a-key-that-must-not-be-written"
SETTINGS = [
    f"teacher.model={MODEL}", "teacher.max_tokens=40", "teacher.attempts=5", "sample.max_thought_tokens=60",
    "warm.thought_column=null", "sample.block_chunks=4",
]  # fmt: skip


@pytest.fixture(scope="session")
def instruct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_instruct(tmp_path_factory.mktemp("instruct") / "model")


@pytest.fixture(scope="session")
def server(instruct: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(instruct, tmp_path_factory.mktemp("server") / "log") as port:
        yield port


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def fingerprint(run: Path) -> str:
    return last_plan(RunPaths(run)).stage("synthesize-00").fingerprint


def test_nothing_is_lost_or_paid_for_twice_by_faults_and_kills(server: int, tmp_path: Path) -> None:
    run, thoughts = tmp_path / "run", tmp_path / "run" / "thoughts"
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "\n".join(json.dumps({"text": f"{text} {other}"}) for text in TEXTS for other in TEXTS[:2])
    )
    proxy = Proxy(server, every=5)
    with proxy.running() as url:
        command = [
            "--iters=0", f"model.path={make_model(tmp_path / 'model')}", f"model.context_length={CONTEXT}",
            "chunking.mode=sentences", "chunking.mean_sentences=1", "chunking.prefix_chunks=1",
            *(f"{name}.source={corpus}" for name in ("corpus", "warm", "heldout")), "warm.num_documents=8",
            f"warm_start.batch_tokens={4 * CONTEXT}", "teacher.kind=openai", f"teacher.base_url={url}",
            *SETTINGS, "teacher.concurrency=4", "teacher.price_prompt=0.5", "teacher.price_answer=2",
        ]  # fmt: skip
        for reached in (
            lambda: len(proxy.delivered) >= 5,
            lambda: len(proxy.delivered) >= 15,
            lambda: shards.problem(thoughts, fingerprint(run)) is None,
        ):
            process = launch(run, *command)
            wait_until(reached, process)
            kill_all(process, run)
    assert all(proxy.faults[kind] >= 1 for kind in ("429", "500", "cut", "slow")), proxy.faults

    begun, stored = dialogues(thoughts)
    assert sorted(taught(thoughts)) == list(range(len(taught(thoughts)))), "no chunk is lost"
    assert len(stored) == len({*begun}), "each question has one answer"
    killed = len(begun) - len(stored)
    assert killed <= 2 * 4, "no more is asked again than was under way at a kill"

    report = collect(last_plan(RunPaths(run)), RunPaths(run))
    counts = report.teacher
    assert counts["answers"] == len(stored) and counts["lost requests"] == killed
    # An answer may have come back and been lost with the process: the server has counted it.
    unstored = Counter(seed for seed, _ in proxy.delivered) - Counter(seed for _, seed in {*begun})
    assert sum(unstored.values()) <= killed
    lost = [next(usage for of, usage in proxy.delivered if of == seed) for seed in unstored.elements()]
    for name, of_server in (("prompt_tokens", "prompt_tokens"), ("answer_tokens", "completion_tokens")):
        total = sum(usage[of_server] for _, usage in proxy.delivered)
        assert counts[name] == total - sum(usage[of_server] for usage in lost)
    cost = (counts["prompt_tokens"] * 0.5 + counts["answer_tokens"] * 2) / 1e6
    said = in_words(counts, report.config["teacher"])
    assert said is not None and f"{counts['taught']} of {counts['chunks']} chunks" in said
    assert f"{cost:.4g} USD" in said
    assert proxy.keys == {f"Bearer {KEY}"}
    written = subprocess.run(["grep", "-r", "-l", KEY, str(run)], capture_output=True, text=True).stdout
    assert written == "", "the key is in no file of the run"


def synthesis(folder: Path, url: str, *more: str) -> Callable[..., Task]:
    """Prepared documents without thoughts; returns what makes a task."""
    task = tasks(folder, "teacher.kind=openai", f"teacher.base_url={url}", *SETTINGS, *more)
    prepare.run(task("prepare"))
    return task


def test_the_warm_start_trains_on_the_thoughts_that_could_be_used(server: int, tmp_path: Path) -> None:
    proxy = Proxy(server)
    with proxy.running() as url:
        task = synthesis(tmp_path, url, "teacher.max_tokens=12", "teacher.attempts=1")
        first = task("synthesize-00")
        estimated = next(dry_run.lines(first.plan, estimate.estimate(first.plan, first.paths)))
        synthesize.run(first)
    found = taught(task("synthesize-00").output)
    assert f"synthesize-00: {len(found)} chunks, " in estimated and "tokens to ask" in estimated
    with_thought = sorted(chunk for chunk, ids in found.items() if ids)
    assert 0 < len(with_thought) < len(found), "a few answers end in time"
    (examples,) = train_data.data_of(task("train-00")).draws
    trained = {examples[n].chunk.chunk_id: examples[n].thought for n in range(len(examples))}
    assert trained == {chunk: found[chunk] for chunk in with_thought}
    assert all(len(ids) < 60 for ids in found.values())


def test_answers_become_plain_text_before_the_chunks_or_in_place_of_them(server: int, tmp_path: Path) -> None:
    proxy = Proxy(server)
    settings = ["objective=warm", "teacher.answers=2", "warm_start.steps=null"]
    data = {}
    with proxy.running() as url:
        for use, prompt in (("surface", "thought"), ("rewrite", "rewrite")):
            (tmp_path / use).mkdir()
            more = [*settings, f"teacher.use={use}", f"teacher.prompt={prompt}"]
            task = synthesis(tmp_path / use, url, *more)
            synthesize.run(task("synthesize-00"))
            data[use] = train_data.data_of(task("train-00"))
            assert not any("SOL" in text or "POST" in text for text in proxy.asked)
    begun, _ = dialogues(task("synthesize-00").output)
    chunks = task("train-00").documents("data")
    several = task("train-00").plan.config.teacher.attempts * 2
    assert all(count <= several for count in Counter(chunk for chunk, _ in begun).values())
    assert {text for text in proxy.asked if "primary school" in text}, "the first style"
    assert {text for text in proxy.asked if "encyclopedia" in text}, "and the second, of the second answers"

    rows = [
        row["answers"]
        for path in sorted(task("synthesize-00").output.glob("*/part-*"))
        for row in tables.read(path, tables.TAUGHT).to_pylist()
    ]
    first, second = data["rewrite"].draws
    eos = task("train-00").vocabulary.eos
    suffixes = [first[n].chunk.suffix for n in range(len(first))]
    assert suffixes == [[*answers[0], eos] for answers in rows if answers]
    assert [second[n].chunk.suffix for n in range(len(second))] == [
        [*answers[-1], eos] for answers in rows if answers
    ]
    whole = [
        id for n in range(len(data["surface"].draws[0])) for id in data["surface"].draws[0][n].chunk.suffix
    ]
    assert len(whole) > len(chunks.tokens[0])
    assert all(example.thought is None for example in map(first.__getitem__, range(len(first))))


def test_a_stop_keeps_what_was_under_way_and_goes_on_from_there(server: int, tmp_path: Path) -> None:
    proxy = Proxy(server)
    with proxy.running() as url:
        task = synthesis(tmp_path, url, "teacher.concurrency=2")
        with pytest.raises(Interrupted):
            synthesize.run(task("synthesize-00", lambda: len(proxy.delivered) >= 3))
        thoughts = task("synthesize-00").output
        begun, stored = dialogues(thoughts)
        assert len(begun) == len(stored) == len(proxy.delivered) <= 3 + 2
        synthesize.run(task("synthesize-00"))
        begun, stored = dialogues(thoughts)
        assert len({*begun}) == len(begun) == len(stored) == len(proxy.delivered)
        found, path = taught(thoughts), next(iter(sorted(thoughts.glob("*/asked-*"))))
        lines = path.read_text().splitlines()
        accepted = next(n for n, line in enumerate(lines) if '"problem": null' in line)
        lines[accepted] = lines[accepted].replace('"text": "', '"text": "x')
        path.write_text("\n".join(lines) + "\n")
        path.with_name(path.name.replace("asked-", "part-")).with_suffix(".parquet").unlink()
        synthesize.run(task("synthesize-00"))
    assert len(proxy.delivered) == len(stored) + 1, "a damaged answer is none, and alone is asked for again"
    assert taught(thoughts).keys() == found.keys()


def test_a_question_that_is_declined_costs_its_chunk_and_a_setting_stops(server: int, tmp_path: Path) -> None:
    proxy = Proxy(server, declines="The cat sat on the mat")
    with proxy.running() as url:
        task = synthesis(tmp_path, url, "chunking.prefix_chunks=0")
        synthesize.run(task("synthesize-00"))
        rows = [
            row
            for path in task("synthesize-00").output.glob("*/part-*")
            for row in tables.read(path, tables.TAUGHT).to_pylist()
        ]
        (declined,) = [row for row in rows if "declined by the endpoint" in row["problems"]]
        assert declined["problems"] == ["declined by the endpoint"] and not declined["answers"]
        proxy.declines = "max_tokens"
        (tmp_path / "other").mkdir()
        other = synthesis(tmp_path / "other", url)
        with pytest.raises(ConfigError, match=r"teacher.base_url.*declines what is asked.*this is not taken"):
            synthesize.run(other("synthesize-00"))


def test_thoughts_in_words_that_the_model_does_not_know_are_none(server: int, tmp_path: Path) -> None:
    proxy = Proxy(server)
    with proxy.running() as url:
        settings = ["teacher.kind=openai", f"teacher.base_url={url}", *SETTINGS, "teacher.attempts=1"]
        counts = [f"{name}.num_documents=4" for name in ("corpus", "warm", "heldout")]
        paths = RunPaths(tmp_path / "run")
        plan = make_plan(load_config(demo_file(), [*settings, *counts]), 0, paths)

        def task(key: str) -> Task:
            stage = plan.stage(key)
            return Task(plan, stage, paths, Place(), (0,), Progress(tmp_path / key), lambda: False)

        prepare.run(task("prepare"))
        synthesize.run(task("synthesize-00"))
    begun, stored = dialogues(paths.thoughts)
    problems = {line["problem"] for line in stored}
    assert (
        len(begun) == 4
        and problems <= {"unknown tokens", "too long", "empty"}
        and "unknown tokens" in problems
    )
    assert not any(taught(paths.thoughts).values())


def test_what_an_endpoint_refuses_is_told_in_one_line_and_answers_are_kept(
    server: int, tmp_path: Path
) -> None:
    proxy = Proxy(server)
    with proxy.running() as url:
        task = synthesis(tmp_path, url, "teacher.model=unknown-model")
        with pytest.raises(ConfigError, match=r"teacher.base_url.*unknown-model.*refuses"):
            synthesize.run(task("synthesize-00"))
    (tmp_path / "gone").mkdir()
    gone = synthesis(tmp_path / "gone", url, "teacher.retries=1")
    with pytest.raises(StageError, match="no answer after 1 retries"):
        synthesize.run(gone("synthesize-00"))


def test_an_instruct_model_that_is_run_here_answers_the_same_after_a_stop(
    instruct: Path, tmp_path: Path
) -> None:
    def local(folder: Path) -> Callable[..., Task]:
        folder.mkdir()
        more = [*SETTINGS, f"teacher.model={instruct}", "teacher.context_length=1024", "teacher.attempts=6"]
        task = tasks(folder, "teacher.kind=local", *more)
        prepare.run(task("prepare"))
        return task

    task = local(tmp_path / "one")
    synthesize.run(task("synthesize-00"))
    found = taught(task("synthesize-00").output)
    assert any(found.values())
    other = local(tmp_path / "other")
    progress = iter([False] * 4)
    with pytest.raises(Interrupted):
        synthesize.run(other("synthesize-00", lambda: next(progress, True)))
    assert len(dialogues(other("synthesize-00").output)[1]) > 0
    synthesize.run(other("synthesize-00"))
    assert taught(other("synthesize-00").output) == found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["teacher.kind=openai"], ["teacher.model", "teacher.kind=openai needs it"]),
        (["teacher.kind=local", "teacher.model=owner/name"], ["teacher.model='owner/name'", "folder"]),
        (
            ["teacher.kind=openai", "teacher.model=m", "teacher.prompt=thougt"],
            ["teacher.prompt='thougt'", "choose", "thought"],
        ),
    ],
)
def test_a_teacher_that_cannot_work_is_refused_before_anything(
    settings: list[str], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        tasks(tmp_path, *settings)
    assert all(word in str(error.value) for word in words)
    assert not (tmp_path / "run").exists()


def test_a_launch_without_the_key_submits_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    command = [
        sys.executable,
        "-m",
        "lt_hpc.launch",
        "--cluster=local",
        "--iters=0",
        f"--run-dir={tmp_path / 'run'}",
    ]
    settings = ["teacher.kind=openai", "teacher.model=m"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "teacher.api_key_name='OPENAI_API_KEY'" in done.stderr
    assert not (tmp_path / "run").exists()
