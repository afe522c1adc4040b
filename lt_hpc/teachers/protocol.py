"""What the stages ask of a teacher. Texts in, texts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Question:
    """What is asked about one chunk. `seed`: of the draw, where the teacher takes one."""

    chunk: int
    text: str
    seed: int


@dataclass(frozen=True)
class Answer:
    """What came back, with the tokens of question and answer as the teacher counts them. `finished`: it ended
    by itself before the limit. `declined`: the endpoint did not take this question, and will not."""

    text: str
    finished: bool
    prompt_tokens: int
    answer_tokens: int
    declined: bool = False


class Teacher(Protocol):
    """Answers questions."""

    def ask(
        self, questions: Iterable[Question], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[Question, Answer]]:
        """Each question with its answer, as soon as that is there, in any order. Once `should_stop` says so
        nothing more is asked, and the answers that are under way still come.

        Raises:
            ConfigError: when the teacher takes none of the questions, and would take none again.
            StageError: when it could not be reached, all retries included. Answers that were under way have
                come before it.
        """
        ...
