"""How a model answers the requests of benchmarks: after a thought between its markers, or directly.

Everything drawn has a seed of its own, made of the task, the document, the prompt and the trial. Answers are
generated in windows of a few tokens, until a text that ends them, the model's own end or the limit: a task
may allow hundreds of tokens where a few are said. Shapes: P prompts, each of one item, trial and repeat.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lt_hpc.benchmarks.protocol import Item, Request, Response
from lt_hpc.config.schema import Config
from lt_hpc.data.encoding import Encoder
from lt_hpc.engines.protocol import Engine, Ids, SamplingParams
from lt_hpc.errors import ConfigError
from lt_hpc.latent import seeds
from lt_hpc.stages.estep import Drawn, draw
from lt_hpc.stages.task import Vocabulary

WINDOW = 64
"""Tokens generated before the next look at what has been said."""
NUM_MARKERS = {True: 3, False: 2}
"""Around a thought, and where there is none."""


@dataclass(eq=False)
class Said:
    """What came of one request. `tokens`: generated, or scored; `cut`: the answer reached its limit."""

    prompt: _Prompt
    request: Request
    trial: int
    ids: list[int] = field(default_factory=list)
    text: str | None = None
    cut: bool = False
    tokens: int = 0
    log_likelihood: float | None = None
    greedy: bool | None = None

    @property
    def response(self) -> Response:
        return Response(self.text or "", self.log_likelihood or 0.0, bool(self.greedy))


@dataclass(eq=False)
class _Prompt:
    """A context of an item in one trial, with its thought: requests that share a context share both.

    `ids`: all that stands before an answer. `lost`: oldest tokens of the context that did not fit.
    """

    context: str
    path: tuple[int, ...]
    task: str
    answers: list[Said] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    lost: int = 0
    thought: Drawn | None = None
    continuations: list[list[int]] = field(default_factory=list)


class Answerer:
    """Answers with one loaded model. `markers`: whether it was trained with them: without, it goes on from
    the bare context, and there are no thoughts."""

    def __init__(
        self, config: Config, engine: Engine, tokenizer: Any, vocabulary: Vocabulary, markers: bool
    ) -> None:
        self.config, self.settings, self.engine = config, config.benchmark, engine
        self.tokenizer, self.encoder, self.vocabulary = tokenizer, Encoder(tokenizer), vocabulary
        self.markers, self.thinks = markers, markers and config.benchmark.thoughts

    def answer(self, work: Sequence[tuple[Item, int]]) -> list[Said]:
        """What is said to all requests about items in their trials, in their order.

        Raises:
            ConfigError: when a thought and an answer leave no room for a prompt.
        """
        prompts = [prompt for item, trial in work for prompt in self._prompts(item, trial)]
        self._encode(prompts)
        if self.thinks:
            self._think(prompts)
        for prompt in prompts:
            self._close(prompt)
        self._score([one for one in prompts if one.continuations])
        self._generate([said for one in prompts for said in one.answers if said.request.continuation is None])
        of = {(said.request, said.trial): said for one in prompts for said in one.answers}
        return [of[request, trial] for item, trial in work for request in item.requests]

    def text(self, thought: Drawn) -> str:
        """A thought in words."""
        return self._decode(thought.ids[:-1])

    def _prompts(self, item: Item, trial: int) -> Iterator[_Prompt]:
        found: dict[tuple[str, int], _Prompt] = {}
        for request in item.requests:
            key = (request.context, request.repeat)
            if key not in found:
                path = (item.document, len(found), request.repeat, trial)
                found[key] = _Prompt(request.context, path, item.task)
            found[key].answers.append(Said(found[key], request, trial))
        yield from found.values()

    def _encode(self, prompts: list[_Prompt]) -> None:
        """Contexts as token ids, their oldest tokens left out where all do not fit."""
        for prompt, ids in zip(prompts, self._ids([one.context for one in prompts], False), strict=True):
            scored = [said for said in prompt.answers if said.request.continuation is not None]
            texts = [said.request.continuation or "" for said in scored]
            prompt.ids = ids
            if self.markers:
                prompt.continuations = self._ids(texts, True)
            else:  # as the harness itself does: what both are together, past what the context is alone
                whole = self._ids([prompt.context + text for text in texts], False)
                prompt.continuations = [one[len(ids) :] for one in whole]
            for said, continuation in zip(scored, prompt.continuations, strict=True):
                said.tokens = len(continuation)
            self._fit(prompt)

    def _ids(self, texts: list[str], inside: bool) -> list[list[int]]:
        return [one.ids for one in self.encoder.encode(texts, [inside] * len(texts))]

    def _fit(self, prompt: _Prompt) -> None:
        begin = [self.vocabulary.bos] if self.vocabulary.bos is not None else []
        around = len(begin) + (NUM_MARKERS[self.thinks] if self.markers else 0)
        thought = self.config.benchmark_thought_tokens - 1 if self.thinks else 0  # its end is a marker
        answer = max(said.tokens or self._limit(said.request) for said in prompt.answers)
        room = self.config.model.context_length - around - thought - answer
        if room < 1:
            raise ConfigError(
                f"benchmark.tasks: {prompt.task!r} may answer with {answer} tokens"
                + (f" after a thought of {thought + 1}" if self.thinks else "")
                + f", and model.context_length={self.config.model.context_length} leaves no room for a "
                "question: set benchmark.max_answer_tokens or benchmark.max_thought_tokens"
            )
        prompt.lost = max(0, len(prompt.ids) - room)
        prompt.ids = [*begin, *prompt.ids[prompt.lost :]]

    def _limit(self, request: Request) -> int:
        return self.settings.max_answer_tokens or request.max_tokens

    def _think(self, prompts: list[_Prompt]) -> None:
        layout, settings = self.vocabulary.layout, self.settings
        free = SamplingParams(
            self.config.benchmark_thought_tokens - 1, layout.eol, settings.thought_temperature
        )
        starts: list[Ids] = [layout.joint_prompt(one.ids) for one in prompts]
        draws = [[self._seed("thought", one)] for one in prompts]
        for prompt, (thought,) in zip(prompts, draw(self.engine, starts, draws, free), strict=True):
            prompt.thought = thought

    def _close(self, prompt: _Prompt) -> None:
        """Put what stands between a context and an answer behind the context."""
        layout = self.vocabulary.layout
        if prompt.thought is not None:
            prompt.ids = [*layout.joint_prompt(prompt.ids), *prompt.thought.ids]
        elif self.markers:
            prompt.ids = layout.marked_prompt(prompt.ids)
        elif not prompt.ids:  # something has to stand before the first token
            prompt.ids = [self.vocabulary.eos if self.vocabulary.eos is not None else self.vocabulary.pad]

    def _score(self, prompts: list[_Prompt]) -> None:
        """Log-likelihoods of continuations and, where a task looks at that, whether greedy decoding says the
        same."""
        if not prompts:
            return
        scores = self.engine.score([one.ids for one in prompts], [one.continuations for one in prompts])
        curious = [one for one in prompts if any(said.request.wants_greedy for said in one.answers)]
        said_greedily = self._greedy(curious)
        for prompt, of_prompt in zip(prompts, scores, strict=True):
            scored = [said for said in prompt.answers if said.request.continuation is not None]
            for said, values, ids in zip(scored, of_prompt, prompt.continuations, strict=True):
                said.log_likelihood = float(values.astype(np.float64).sum())
                if id(prompt) in said_greedily:
                    said.greedy = said_greedily[id(prompt)][: len(ids)] == ids

    def _greedy(self, prompts: list[_Prompt]) -> dict[int, list[int]]:
        """What the model says to each prompt at temperature 0, in as many tokens as its longest
        continuation has."""
        groups: dict[int, list[_Prompt]] = defaultdict(list)
        for prompt in prompts:
            groups[max(map(len, prompt.continuations))].append(prompt)
        found: dict[int, list[int]] = {}
        for longest, group in groups.items():
            params = SamplingParams(longest, -1, 0.0)
            drawn = self.engine.sample([one.ids for one in group], [[0]] * len(group), params)
            found |= {id(one): sample.ids.tolist() for one, (sample,) in zip(group, drawn, strict=True)}
        return found

    def _generate(self, answers: list[Said]) -> None:
        going = answers
        while going:
            groups: dict[SamplingParams, list[Said]] = defaultdict(list)
            for said in going:
                groups[self._params(said)].append(said)
            for params, group in groups.items():
                prompts = [[*said.prompt.ids, *said.ids] for said in group]
                draws = [[self._seed("answer", said.prompt, len(said.ids))] for said in group]
                for said, (sample,) in zip(group, self.engine.sample(prompts, draws, params), strict=True):
                    self._take(said, sample.ids.tolist(), sample.finished)
            going = [said for said in going if said.text is None]

    def _params(self, said: Said) -> SamplingParams:
        request, eos = said.request, self.vocabulary.eos
        given = self.settings.temperature
        return SamplingParams(
            min(WINDOW, self._limit(request) - len(said.ids)),
            eos if eos is not None else -1,
            request.temperature if given is None else given,
            request.top_p,
            request.top_k,
        )

    def _take(self, said: Said, ids: list[int], finished: bool) -> None:
        """Put a window behind what was said before, and end the answer where that is complete."""
        said.ids += ids
        said.tokens = len(said.ids)
        text = self._decode(said.ids[:-1] if finished else said.ids)
        ends = [place for stop in said.request.until if (place := text.find(stop)) >= 0]
        full = len(said.ids) >= self._limit(said.request)
        if ends or finished or full:
            said.text = text[: min(ends)] if ends else text
            said.cut = full and not ends and not finished

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _seed(self, purpose: str, prompt: _Prompt, *more: int) -> int:
        path = (*prompt.path, *more)
        return seeds.derive(self.config.seed, f"benchmark {purpose} {prompt.task}", *path)
