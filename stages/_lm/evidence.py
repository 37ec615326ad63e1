r"""Where a text states its answer: the stretches that an answer is read from, strongest first.

    "… so he pays $18.\n#### 18"          hash      " 18"
    "… Thus the total is \boxed{18}."     boxed     "18"
    "… Therefore, the answer is 18."      phrase    " 18."

Source of the order: PRACTICE section 5 (closed think, stop strings, `####`, box, answer phrase). All of it is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Rule = Literal["hash", "boxed", "phrase"]

# A stretch is never longer: an answer is short, and a bound keeps the whole linear.
MAX_STRETCH = 300
# Older statements are looked at only where newer ones hold no answer.
MAX_STATEMENTS = 8

# Row 11 (transformers #37949, Qwen3 #1420): reasoning between think tags is no answer.
_THINK_TAG = re.compile(r"<(?P<closes>/?)think(?:ing)?>", re.IGNORECASE)
# Tokens that end a turn in the chat templates of Qwen, Llama and SmolLM.
_END_TOKEN = re.compile(r"<\|im_end\|>|<\|endoftext\|>|<\|eot_id\|>|</s>")
# A model that was not stopped goes on with a question of its own: lm-eval's gsm8k stops at "Question:" too.
_NEXT_QUESTION = re.compile(r"\n\s*(?:Q|Question|Problem)\s*:")
_STATEMENT = re.compile(r"####\s*[-−$0-9]|\\boxed|answer is|final answer", re.IGNORECASE)
# GSM8K's mark. More or fewer signs are headings of markdown.
_HASH = re.compile(r"(?<!#)####(?!#)")
# Row 15 (Math-Verify #14, #41): boxes nest, and hold \text{} and \frac{}{}.
_BOX_OR_BRACE = re.compile(r"\\[{}]|\\f?boxed\s*\{|[{}]|\\boxed\s+(?P<bare>[-−]?[0-9.,]+)")
_PHRASE = re.compile(
    r"(?:\b(?P<final>final\s+answer)\b|\banswers?\b)"
    r"(?P<verb>[^.,\n:=?!]{0,80}?(?:\b(?:is|was|are|equals|would\s+be)\b|[:=]))?"
    # the last line of OpenAI's GSM8K solutions: "A: 18"
    r"|^[ \t]*A:[ \t]*(?=[-−+$£€\\(]*[0-9.][0-9.,/%]*(?:[ ]\w+){0,3}\.?[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)
# "To get this answer: 1. subtract", "to check our answer: 2 + 3": how, not what.
_HOW = re.compile(r"\b(?:get|find|check|verify|reach|explain)\b[^.\n:]{0,24}$", re.IGNORECASE)
_BLANK_LINE = re.compile(r"[\s*_:#\"'`\\()\[\]]*\n")
_SENTENCE_END = re.compile(r"[.!?]\**(?=\s+[A-Z(\\])|\n")


class NoAnswer(Exception):
    """The strongest evidence names two answers, or one that cannot be read: the text has no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """An answer found in a text.

    Args:
        value: canonical: "18", "-2.5", "1/3", "20%"; a letter; yes or no; the normalised text.
        rule: the evidence it came from: hash, boxed, phrase; conclusion, last_number; letter, choice_text; word; last_line.
        span: characters of the text.
    """

    value: str
    rule: str
    span: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of the text, `text[start:end]`, that states an answer.

    Args:
        follows: the words that announced it, lower case: "final answer is", "answer:", "a:"; "" for a box.
    """

    rule: Rule
    start: int
    end: int
    follows: str = ""


def visible(text: str) -> str | None:
    """The text with its closed think blocks blanked out and cut where the answer has ended; offsets stay.

    None where a think block was never closed: such a text has not come to its answer.
    """
    blanked = _without_think(text)
    if blanked is None:
        return None
    for token in _END_TOKEN.finditer(blanked):
        if blanked[: token.start()].strip():
            blanked = blanked[: token.start()]
            break
    statement = _STATEMENT.search(blanked)
    following = _NEXT_QUESTION.search(blanked, statement.end()) if statement else None
    return blanked[: following.start()] if following else blanked


def stretches(text: str) -> Iterator[Stretch]:
    """The stretches of a visible text that state an answer, strongest first, and the last of a kind first."""
    for match in _last(_HASH, text):
        yield Stretch(rule="hash", start=match.end(), end=_line_end(text, match.end()))
    box = _last_box(text)
    if box:
        yield Stretch(rule="boxed", start=box[0], end=box[1])
    for match in _last(_PHRASE, text):
        how = _HOW.search(text, max(0, match.start() - 40), match.start())
        if not how and (match["verb"] or match["final"] or match[0].strip() == "A:"):
            start, end = _stretch_after(text, match.end())
            yield Stretch(rule="phrase", start=start, end=end, follows=match[0].strip().lower())


def _without_think(text: str) -> str | None:
    pieces: list[str] = []
    kept, opened = 0, -1
    for tag in _THINK_TAG.finditer(text):
        if not tag["closes"]:
            opened = tag.start() if opened < 0 else opened
            continue
        # Templates that open the block in the prompt leave only its end in the text.
        if opened >= 0:
            pieces.append(text[kept:opened])
        pieces.append(" " * (tag.end() - max(opened, kept)))
        kept, opened = tag.end(), -1
    return "".join(pieces) + text[kept:] if opened < 0 else None


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The last few matches, the last first."""
    from collections import deque

    return list(deque(pattern.finditer(text), MAX_STATEMENTS))[::-1]


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start, start + MAX_STRETCH)
    return min(len(text), start + MAX_STRETCH) if end < 0 else end


def _stretch_after(text: str, start: int) -> tuple[int, int]:
    """From an answer phrase to the end of its sentence; where its line holds nothing, the next line that does."""
    for _ in range(4):
        blank = _BLANK_LINE.match(text, start, min(len(text), start + MAX_STRETCH))
        if blank is None:
            break
        start = blank.end()
    limit = min(len(text), start + MAX_STRETCH)
    end = _SENTENCE_END.search(text, start, limit)
    return start, end.start() if end else limit


def _last_box(text: str) -> tuple[int, int] | None:
    """What the last closed box holds; braces are matched in one pass, so that nesting costs nothing."""
    open_braces: list[int | None] = []
    found: tuple[int, int] | None = None
    for match in _BOX_OR_BRACE.finditer(text):
        part = match[0]
        if match["bare"]:
            found = match.span("bare")
        elif part.startswith("\\") and len(part) > 2:
            open_braces.append(match.end())
        elif part == "{":
            open_braces.append(None)
        elif part == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and (found is None or start > found[0]):
                found = (start, match.start())
    return found
