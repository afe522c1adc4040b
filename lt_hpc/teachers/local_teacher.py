"""An instruct model that is run here, by the engine of the E-step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lt_hpc.config.schema import Config
from lt_hpc.engines.load import load
from lt_hpc.engines.protocol import SamplingParams
from lt_hpc.errors import ConfigError
from lt_hpc.teachers.protocol import Answer, Question


class LocalTeacher:
    """Answers all questions of a call as one batch, each draw from the question's own seed."""

    def __init__(self, config: Config) -> None:
        from transformers import AutoTokenizer

        settings = config.teacher
        assert settings.model is not None  # checked with the configuration
        folder = Path(settings.model)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if not self._tokenizer.chat_template or self._tokenizer.eos_token_id is None:
            raise ConfigError(
                f"teacher.model={settings.model!r}: its tokenizer has no chat template or no eos_token; "
                "use an instruct model"
            )
        model = dataclasses.replace(
            config.model, context_length=settings.context_length, trust_remote_code=False
        )
        self._engine = load(dataclasses.replace(config, model=model), folder, config.sample.dtype)
        self._longest = settings.context_length - settings.max_tokens
        self._params = SamplingParams(
            settings.max_tokens, self._tokenizer.eos_token_id, settings.temperature, settings.top_p
        )

    def ask(
        self, questions: Iterable[Question], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[Question, Answer]]:
        """See `Teacher`."""
        if should_stop():
            return
        batch = list(questions)
        prompts = [self._prompt(question.text) for question in batch]
        seeds = [[question.seed] for question in batch]
        for question, prompt, (drawn,) in zip(
            batch, prompts, self._engine.sample(prompts, seeds, self._params), strict=True
        ):
            ids = drawn.ids[:-1] if drawn.finished else drawn.ids
            text = self._tokenizer.decode(ids, skip_special_tokens=True)
            yield question, Answer(text, drawn.finished, len(prompt), len(drawn.ids))

    def _prompt(self, text: str) -> list[int]:
        message = [{"role": "user", "content": text}]
        rendered = self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._tokenizer(rendered, add_special_tokens=False)["input_ids"]
        if len(ids) > self._longest:
            raise ConfigError(
                f"teacher.context_length={self._longest + self._params.max_tokens}: a prompt has {len(ids)} "
                f"tokens, its answer up to {self._params.max_tokens}; raise it, or shorten chunks or prompt"
            )
        return ids
