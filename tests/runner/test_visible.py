"""Texts that a terminal would obey, as lines, as JSON and on the command line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner.cli import main
from kpod.runner.console import json_listener
from kpod.runner.visible import visible_json, visible_text

ALL = [chr(code) for code in range(0x2100)]
OBEYED = {
    *(one for one in ALL if ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
} - {"\t", "\n"}


@given(st.text(st.characters(categories=None, codec=None)))
def test_json_says_the_same_and_holds_nothing_that_is_obeyed(text: str) -> None:
    said = visible_json(json.dumps({text: text}, ensure_ascii=False))

    assert json.loads(said) == {text: text}
    assert not OBEYED & set(said)
    said.encode()


def test_an_event_as_json_holds_no_character_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"event": "run_failed", "reason": "".join(ALL), "naïve": "語"}

    json_listener(row)

    said = capsys.readouterr().out
    assert json.loads(said) == row
    assert not OBEYED & set(said)
    assert "naïve" in said


@pytest.mark.parametrize("words", [["no\x9bsuch\x1b[2J"], ["runs", "a\x9b31m"], ["runs", "--no\x1b\u202e"]])  # fmt: skip
def test_a_command_line_that_is_none_is_told_without_obeying_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]

    said = capsys.readouterr().err
    assert code == 2
    assert visible_text(words[-1]) in said
    assert not OBEYED & set(said)
