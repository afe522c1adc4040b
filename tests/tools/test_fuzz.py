"""A small share of the random settings and corpora that tools/fuzz.py tries by the thousand."""

from __future__ import annotations

import sys

import pytest

from tools import fuzz


def test_random_settings_and_corpora_are_taken_or_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--seed", "1", "--configs", "150", "--corpora", "50"])
    code = fuzz.main()
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "taken" in said.out and "refused" in said.out
