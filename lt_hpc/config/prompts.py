"""What a teacher is asked: a Jinja file with `prefix` and `chunk`, both texts, and `number`: how many answers
of the chunk were accepted before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from lt_hpc.config.load import shipped
from lt_hpc.errors import ConfigError, did_you_mean


def read(name: str) -> str:
    """The text of configs/prompts/NAME.jinja, or of a file of one's own, named by a path.

    Raises:
        ConfigError: when there is none, or it does not ask about `chunk`.
    """
    own = Path(name)
    path = own if own.suffix == ".jinja" else shipped(Path("prompts") / f"{name}.jinja")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = sorted(one.stem for one in shipped(Path("prompts")).glob("*.jinja"))
        raise ConfigError(
            f"teacher.prompt={name!r}: can't be read ({error}); choose {', '.join(known)}, or a path that "
            f"ends in .jinja{did_you_mean(name, known)}"
        ) from error
    if "A CHUNK" not in template(text, name)("A PREFIX", "A CHUNK", 0):
        raise ConfigError(
            f"teacher.prompt={name!r}: does not use {{{{ chunk }}}}, the text that it asks about"
        )
    return text


def digest(text: str) -> str:
    """Of a prompt, for fingerprints."""
    return hashlib.sha256(text.encode()).hexdigest()


def template(text: str, name: str) -> Callable[[str, str, int], str]:
    """A function of (prefix, chunk, number) that gives what is asked.

    Raises:
        ConfigError: from here, or from the function, with the line that is wrong.
    """
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=False)
    try:
        compiled = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"teacher.prompt={name!r}, line {error.lineno}: {error.message}") from error

    def render(prefix: str, chunk: str, number: int) -> str:
        try:
            return compiled.render(prefix=prefix, chunk=chunk, number=number)
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"teacher.prompt={name!r}: {error.message}; there are prefix, chunk and number"
            ) from error

    return render
