"""What a person sees of a run, in a pipe and on a terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from kpod.runner.console import RunConsole, fact_text, table
from tests.chain import Chain, recipe, seven, step

PLAIN = recipe(
    numbers={"uses": "chain.numbers"}, next=step("numbers", "next"), page={"uses": "chain.page"}
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(chain: Chain, plain: dict[str, Any] | None = None, stream: io.StringIO | None = None) -> str:  # fmt: skip
    session = chain.session(plain)
    stream = stream or io.StringIO()
    session.run([RunConsole(session.recipe, stream=stream)])
    text = stream.getvalue().replace(str(chain.folder), "FOLDER")
    text = re.sub(r"\d{8}T\d{6}Z-chain-[0-9a-f]{6}(-\d+)?", "RUN", text)
    return re.sub(r" +[\d.]+ s\b", " S s", text)


def test_in_a_pipe_a_line_a_stage_says_what_happened_and_why(chain: Chain) -> None:
    expected = """\
chain  seed 0  3 stages  FOLDER/runs/RUN
  numbers  chain.numbers  run     10 questions S s
  next     chain.step     run     10 result S s
  page     chain.page     view    FOLDER/runs/RUN/report.html S s
done in S s; 0 of 2 from the store
"""

    actual = shown(chain, PLAIN)

    assert expected.replace("3 stages", "2 stages") == actual


def test_what_ran_again_says_why_and_hits_take_no_time(chain: Chain) -> None:
    shown(chain, PLAIN)
    changed = {**PLAIN, "stages": {**PLAIN["stages"], "next": step("numbers", "next", add=3)}}

    text = shown(chain, changed)

    assert "  numbers  chain.numbers  hit     10 questions\n" in text
    assert "run     10 result  (config changed: add 1 -> 3) S s\n" in text
    assert "1 of 2 from the store" in text


def test_a_pipe_gets_no_control_characters(chain: Chain) -> None:
    assert set("\x1b\r").isdisjoint(shown(chain, seven(s3={"pause_s": 0.15})))


def test_a_terminal_also_gets_a_live_line_that_is_cleared(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    text = shown(chain, seven(s3={"pause_s": 0.15}), stream=Terminal())

    live = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert re.search(r"\x1b\[2K +s3 +no earlier result .*\d/5 numbers", live)
    rows = [line for line in text.split("\n") if re.search(r"chain\.\w+ +run ", line)]
    assert [re.sub(r"^.*\x1b\[\w+", "", line).split()[0] for line in rows] == [
        "s1",
        "s2",
        "s3",
        "s4",
        "s5",
        "s6",
        "s7[s6]",
    ]
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor is shown again"


def test_a_dumb_terminal_is_a_pipe(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    assert "\x1b" not in shown(chain, PLAIN, stream=Terminal())


def test_a_table_pads_its_columns() -> None:
    assert table(("a", "bb"), [("xx", "y"), ("z", "")]) == "a   bb\nxx  y\nz"
    assert table(("a", "b"), []) == "a  b"


def test_facts_of_a_running_stage_are_short_and_keep_their_units() -> None:
    facts = {"loss": 1.23456, "tokens_per_s": 12345.6, "peak_frac": 0.414, "memory_gb": 2.049}

    told = "  ".join(fact_text(name, value) for name, value in facts.items())

    assert told == "loss 1.235  12,346 tokens/s  peak 41 %  memory 2.0 GB"


def test_the_time_that_is_left_is_told_once_on_a_terminal(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    console = RunConsole(chain.session(PLAIN).recipe, stream=stream)
    facts = {"loss": 1.5, "seconds_left": 75.0}
    for done in (1, 2):
        console({"event": "progress", "id": "next", "done": done, "total": 9, "unit": "steps", **facts})  # fmt: skip
    console({"event": "run_failed"})

    assert "loss 1.5" in stream.getvalue()
    assert "seconds_left" not in stream.getvalue()
