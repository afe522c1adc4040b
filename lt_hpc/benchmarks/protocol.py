"""What a benchmark asks of a model and what comes back. Texts in, texts or log-probabilities out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Request:
    """One request about a document of a task: to go on from `context`, or to score `continuation` after it.

    Attributes:
        document: of the task, from 0.
        index: among the requests about this document.
        repeat: of several times that the task asks the same.
        context: the prompt, examples included.
        continuation: what is to be scored; None: an answer is to be generated.
        until: texts at which an answer ends, themselves no part of it.
        max_tokens: tokens of an answer, as the task says.
        temperature, top_p, top_k: of an answer, as the task says; a temperature of 0 is greedy.
        wants_greedy: whether the task looks at `Response.greedy`.
    """

    task: str
    document: int
    index: int
    repeat: int
    context: str
    continuation: str | None = None
    until: tuple[str, ...] = ()
    max_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    wants_greedy: bool = False

    @property
    def hash(self) -> str:
        """Of all that is asked, 16 hex digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Item:
    """A document of a task with all requests about it, in their order."""

    task: str
    document: int
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Response:
    """`text` to a request to generate; else the log-likelihood in nats of the continuation, and whether
    greedy decoding gives just that (False where nobody wants to know)."""

    text: str = ""
    log_likelihood: float = 0.0
    greedy: bool = False
