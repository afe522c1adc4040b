"""Which answers can be a thought, and what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_hpc.config import prompts
from lt_hpc.errors import ConfigError
from lt_hpc.latent.layout import MARKERS
from lt_hpc.teachers.answers import problem
from lt_hpc.teachers.protocol import Answer

CHUNK = "So the area of the rectangle is 12 square metres, and the fence has to be 14 metres long."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sides 3 and 4: area 3 * 4 = 12, perimeter 2 * (3 + 4) = 14.", None),
        ("We cannot divide by 0 here, so x is not 2.", None),
        ("I can't use the formula for squares; the sides differ.", None),
        ("Sorry, the sides first: 3 and 4.", None),
        ("As an aid, draw the sides.", None),
        (f"12 is the area. {CHUNK} That is the answer, since both sides are known from before.", None),
        ("", "empty"),
        (" \n\t", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I\u2019m sorry, but I can\u2019t assist with that.", "refusal"),
        ("I cannot provide the thoughts of an author.", "refusal"),
        ("Unfortunately, I am unable to help.", "refusal"),
        ("As an AI language model, I have no thoughts.", "refusal"),
        ('"I won\'t write that."', "refusal"),
        ("Area first <EOL> then the fence", "markers"),
        (CHUNK, "copy"),
        (CHUNK.upper() + " ", "copy"),
        (CHUNK.replace("rectangle", "field"), "copy"),
    ],
)
def test_an_answer_is_a_thought_or_told_why_not(text: str, expected: str | None) -> None:
    assert problem(Answer(text, True, 1, 1), CHUNK, MARKERS) == expected


def test_an_answer_that_was_cut_is_too_long() -> None:
    assert problem(Answer("Sides 3 and", False, 1, 1), CHUNK, MARKERS) == "too long"


def test_the_shipped_prompt_has_the_texts_and_no_empty_prefix() -> None:
    ask = prompts.template(prompts.read("thought"), "thought")
    asked = ask("It is 3 by 4 {{ metres }}.", CHUNK, 0)
    assert "It is 3 by 4 {{ metres }}." in asked and CHUNK in asked and "written before" in asked
    assert "written before" not in ask("", CHUNK, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Think.\n{{ chunk }", ["line 2"]),
        ("Think.", ["{{ chunk }}"]),
        ("{{ chunk }} {{ answer }}", ["answer", "prefix, chunk and number"]),
        ("{{ chunk.__class__.__mro__ }}", ["unsafe"]),
    ],
)
def test_a_prompt_of_ones_own_is_checked(text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        prompts.read(str(path))
    assert all(word in str(error.value) for word in ("teacher.prompt=", *words)), error.value
