"""synthesize: a teacher's thoughts behind each chunk of the warm documents, or other words for it, by blocks.

Every answer is written down as it comes, in a file beside the parts: what was answered once is not asked
again, whatever happens to the task. A block is committed as one part when each of its chunks has
`teacher.answers` accepted ones, or has had `teacher.attempts` for each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lt_hpc.config import prompts
from lt_hpc.config.schema import TeacherConfig
from lt_hpc.data import base_model
from lt_hpc.data.corpus import Chunk
from lt_hpc.data.encoding import Encoder
from lt_hpc.errors import ConfigError
from lt_hpc.latent import seeds
from lt_hpc.latent.layout import MARKERS
from lt_hpc.stages.shards import Block, missing_blocks
from lt_hpc.stages.task import Task
from lt_hpc.store import tables
from lt_hpc.store.atomic import append_line, sealed, sealed_lines
from lt_hpc.store.counts import LOST, REFUSED
from lt_hpc.store.paths import asked_file
from lt_hpc.teachers import answers, load
from lt_hpc.teachers.protocol import Answer, Question, Teacher


def run(task: Task) -> None:
    """Complete the shards of this task."""
    num_chunks = task.record("documents", checksums=False).counts["chunks"]
    synthesis = _Synthesis(task)
    for block in missing_blocks(task, num_chunks, task.plan.config.sample.block_chunks):
        dialogue = synthesis.answered(block)
        columns = synthesis.columns(block, dialogue)
        tables.write(block.path, tables.TAUGHT, columns)
        block.commit(_count(columns, dialogue))


@dataclass
class _Dialogue:
    """What was asked of the chunks of a block and what came back, as `file` holds it.

    `answers`: chunk -> each answer with the reason why it can't be used, None for an accepted one.
    `asked`: chunk -> requests that were begun. A damaged line counts for nothing.
    """

    file: Path
    answers: dict[int, list[tuple[Answer, str | None]]] = field(default_factory=lambda: defaultdict(list))
    asked: Counter[int] = field(default_factory=Counter)

    @staticmethod
    def read(file: Path) -> _Dialogue:
        found = _Dialogue(file)
        for line in sealed_lines(file):
            if "answer" in line:
                found.answers[line["chunk"]].append((Answer(**line["answer"]), line["problem"]))
            else:
                found.asked[line["chunk"]] += 1
        return found

    def begun(self, questions: Iterable[Question]) -> Iterator[Question]:
        """The questions, each written down before it is asked."""
        for question in questions:
            append_line(self.file, sealed({"chunk": question.chunk, "seed": question.seed}))
            self.asked[question.chunk] += 1
            yield question

    def add(self, chunk: int, answer: Answer, problem: str | None) -> None:
        append_line(self.file, sealed({"chunk": chunk, "problem": problem, "answer": asdict(answer)}))
        self.answers[chunk].append((answer, problem))

    def accepted(self, chunk: int) -> list[Answer]:
        return [answer for answer, problem in self.answers[chunk] if problem is None]

    def is_open(self, chunk: int, settings: TeacherConfig) -> bool:
        """Whether another answer is wanted."""
        problems = [problem for _, problem in self.answers[chunk]]
        if answers.DECLINED in problems or len(problems) >= settings.attempts * settings.answers:
            return False
        return len(self.accepted(chunk)) < settings.answers

    def lost(self) -> int:
        """Requests without an answer, because the task was killed meanwhile. They may have been paid for."""
        return sum(self.asked.values()) - sum(map(len, self.answers.values()))


@dataclass
class _Synthesis:
    """The teacher, loaded when the first block needs it."""

    task: Task
    _teacher: Teacher | None = None

    def answered(self, block: Block) -> _Dialogue:
        """The dialogue of a block, gone on with until nothing is left to ask.

        Raises:
            Interrupted: when a signal asked the task to stop; answers under way have been kept.
        """
        settings = self.task.plan.config.teacher
        dialogue = _Dialogue.read(asked_file(block.path))
        corpus = self.task.documents("documents", block.chunks.start, block.chunks.stop)
        chunks = {chunk.chunk_id: chunk for chunk in corpus.chunks() if chunk.chunk_id in block.chunks}
        while True:
            questions = [
                self._question(chunk, len(dialogue.answers[number]), len(dialogue.accepted(number)))
                for number, chunk in chunks.items()
                if dialogue.is_open(number, settings)
            ]
            self.task.stop_if_asked()
            if not questions:
                return dialogue
            if self._teacher is None:
                self._teacher = load.load(self.task.plan.config)
                self.task.progress.ready()
            for question, answer in self._teacher.ask(dialogue.begun(questions), self.task.should_stop):
                dialogue.add(question.chunk, answer, self._problem(answer, chunks[question.chunk]))

    def columns(self, block: Block, dialogue: _Dialogue) -> dict[str, list[Any]]:
        """Of `tables.TAUGHT`."""
        accepted = [dialogue.accepted(chunk) for chunk in block.chunks]
        texts = [answers.text(answer) for of_chunk in accepted for answer in of_chunk]
        ids = iter([one.ids for one in self._encoder.encode(texts, [False] * len(texts))])
        return {
            "chunk": list(block.chunks),
            "answers": [[next(ids) for _ in of_chunk] for of_chunk in accepted],
            "problems": [
                [problem for _, problem in dialogue.answers[chunk] if problem] for chunk in block.chunks
            ],
        }

    def _question(self, chunk: Chunk, attempt: int, number: int) -> Question:
        seed = seeds.derive(self.task.plan.config.seed, "synthesize", chunk.chunk_id, attempt)
        text = self._prompt(self._text(chunk.prefix), self._text(chunk.suffix), number)
        return Question(chunk.chunk_id, text, seed)

    def _problem(self, answer: Answer, chunk: Chunk) -> str | None:
        found = answers.problem(answer, self._text(chunk.suffix), MARKERS)
        if found is not None:
            return found
        (encoded,) = self._encoder.encode([answers.text(answer)], [False])
        if not encoded.ids:
            return "empty"
        config = self.task.plan.config
        if encoded.unknown > config.warm.max_unknown * len(encoded.ids):
            return "unknown tokens"
        # Other words in place of the chunk may be longer than a sequence: they are cut as documents are.
        longest = self.task.stage.settings.get("max_thought_tokens")
        return "too long" if longest is not None and len(encoded.ids) >= longest else None

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    @cached_property
    def _tokenizer(self) -> Any:
        return base_model.load_tokenizer(self.task.paths.base, self.task.plan.config.model)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._tokenizer)

    @cached_property
    def _prompt(self) -> Callable[[str, str, int], str]:
        name = self.task.plan.config.teacher.prompt
        text = prompts.read(name)
        if prompts.digest(text) != self.task.stage.settings["teacher"]["prompt"]:
            raise ConfigError(f"teacher.prompt={name!r}: has changed since the launch; launch again")
        return prompts.template(text, name)


def _count(columns: dict[str, list[Any]], dialogue: _Dialogue) -> Counter[str]:
    """Of a block: chunks, those with an accepted answer, answers by what was wrong with them, tokens."""
    given = [answer for of_chunk in dialogue.answers.values() for answer, _ in of_chunk]
    counts = Counter(chunks=len(columns["chunk"]))
    counts["taught"] = sum(bool(of_chunk) for of_chunk in columns["answers"])
    counts["answers"] = len(given)
    counts[LOST] = dialogue.lost()
    counts["prompt_tokens"] = sum(answer.prompt_tokens for answer in given)
    counts["answer_tokens"] = sum(answer.answer_tokens for answer in given)
    counts["accepted_tokens"] = sum(len(ids) for of_chunk in columns["answers"] for ids in of_chunk)
    counts.update(f"{REFUSED}{problem}" for of_chunk in columns["problems"] for problem in of_chunk)
    return counts
