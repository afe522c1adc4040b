"""A teacher behind an OpenAI-compatible endpoint. The one file that imports openai."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import openai

from lt_hpc.config.schema import TeacherConfig
from lt_hpc.config.secrets import masked
from lt_hpc.errors import ConfigError, LtError, StageError
from lt_hpc.teachers.protocol import Answer, Question


class _Declined(ConfigError):
    """One question was not taken, as when it is too long or a filter does not like it."""


@dataclass
class OpenAITeacher:
    """Asks several questions at once. The client itself asks again, with growing and jittered delays or after
    as long as the endpoint says, after 408, 409, 429, 5xx, a cut connection or no answer in time."""

    settings: TeacherConfig
    _client: Any = field(init=False, repr=False)
    _next_start: float = 0.0
    _answers: bool = False

    def __post_init__(self) -> None:
        settings = self.settings
        self._client = openai.OpenAI(
            api_key=os.environ.get(settings.api_key_name),
            base_url=settings.base_url,
            max_retries=settings.retries,
            timeout=settings.timeout_seconds,
        )

    def ask(
        self, questions: Iterable[Question], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[Question, Answer]]:
        """See `Teacher`."""
        waiting = iter(questions)
        failed: LtError | None = None
        declined: dict[Question, LtError] = {}
        running: dict[Future[Answer], Question] = {}
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            while True:
                while failed is None and len(running) < self.settings.concurrency and not should_stop():
                    question = next(waiting, None)
                    if question is None:
                        break
                    self._keep_pace()
                    running[pool.submit(self._answer, question)] = question
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    question = running.pop(future)
                    try:
                        answer = future.result()
                    except _Declined as error:
                        declined[question] = error
                    except LtError as error:
                        failed = failed or error
                    else:
                        self._answers = True
                        yield question, answer
        if failed is None and declined and not self._answers:
            failed = next(iter(declined.values()))  # a setting that it takes with no question
        if failed is not None:
            raise failed
        for question in declined:
            yield question, Answer("", False, 0, 0, declined=True)

    def _keep_pace(self) -> None:
        """Wait until another request may start."""
        if self.settings.requests_per_minute is None:
            return
        now = time.monotonic()
        time.sleep(max(0.0, self._next_start - now))
        self._next_start = max(now, self._next_start) + 60 / self.settings.requests_per_minute

    def _answer(self, question: Question) -> Answer:
        settings = self.settings
        where = f"teacher.base_url={settings.base_url!r}, model {settings.model!r}"
        try:
            response = self._client.chat.completions.create(
                model=settings.model,
                messages=[{"role": "user", "content": question.text}],
                temperature=settings.temperature,
                top_p=settings.top_p,
                max_tokens=settings.max_tokens,
                seed=question.seed % 2**31,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise _Declined(f"{where}: declines what is asked: {_line(error)}") from error
        except (openai.AuthenticationError, openai.NotFoundError, openai.PermissionDeniedError) as error:
            raise ConfigError(f"{where}: refuses: {_line(error)}") from error
        except openai.OpenAIError as error:
            raise StageError(
                f"{where}: no answer after {settings.retries} retries, {_line(error)}; the answers that have "
                "come are kept, launch again"
            ) from error
        choice, usage = response.choices[0], response.usage
        return Answer(
            choice.message.content or "",
            choice.finish_reason == "stop",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )


def _line(error: Exception) -> str:
    return masked(" ".join(str(error).split()))[:300] or type(error).__name__
