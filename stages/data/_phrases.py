"""The wording of procedural word problems: names, things, and the moves that stories are made of.

Every word of a problem and of its solution stands in this file, so that the vocabulary of a small model is closed.
A solution is regular on purpose: one sentence a step, `{who} has {x} {op} {y} = {z} {things}.`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operand = Literal["change", "two", "factor", "divisor", "budget"]
Operator = Literal["+", "-", "*", "/"]

NAMES = ("Tom", "Ann", "Ben", "Eva", "Max", "Mia", "Sam", "Lea")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "stamps", "toys")
FILLERS = ("Today is a sunny day.", "{a} is happy.", "{a} likes the {o}.", "{b} likes the {o}.")
DISTRACTORS = ("{a} has {k} {p}.", "{b} has {k} {p}.", "{b} has {k} {o}.")
THEN = "Then"
EQUATION = "{x} {op} {y} ?"
EQUATION_WORKED = "{x} {op} {y} = {z}."
PROMPT = "Q: A: Let's think step by step. Therefore, the answer is"
PUNCTUATION = (".", ",", "?", "+", "-", "*", "/", "=")
MAX_NUMBER = 99

_HAS = "{a} has {x} {op} {y} = {z} {o}."
_PAYS = "{a} pays {x} {op} {y} = {z} dollars."
_TOGETHER = "Together they have {x} {op} {y} = {z} {o}."
_NOW = "How many {o} does {a} have now?"
_PAY = "How many dollars does {a} pay?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One thing that happens in a story, and the step that works it out.

    Placeholders: {a} who the story is about, {b} who it may be about next, {c} who gives and takes, {d} who has things of
    her own: four people, so that no count contradicts another; {o} the things; {k} a number that is told;
    {x} {op} {y} = {z} the step.

    Args:
        told: the sentence of the question; "" for the first move of a family, which its opening tells.
        operand: how the second number comes about.
        worked: the sentence of the solution.
        ask: the question where this is the last move.
        is_action: it may begin with `Then`.
        moves_on: the story is about {b} from here.
        ends: nothing can follow.
    """

    told: str
    operator: Operator
    operand: Operand
    worked: str = _HAS
    ask: str = _NOW
    is_action: bool = True
    moves_on: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Stories of one kind.

    Args:
        opening: the first sentence; its number {x} is where the story starts.
        first: the move that belongs to the opening, or None where the opening only gives a number.
        moves: what can happen then.
    """

    opening: str
    first: Move | None
    moves: tuple[Move, ...]


_THING_MOVES = (
    Move(told="{a} buys {k} more {o}.", operator="+", operand="change"),
    Move(told="{a} finds {k} more {o}.", operator="+", operand="change"),
    Move(told="{c} gives {k} {o} to {a}.", operator="+", operand="change"),
    Move(told="{a} gives {k} {o} to {c}.", operator="-", operand="change"),
    Move(told="{a} loses {k} {o}.", operator="-", operand="change"),
    Move(told="{a} sells {k} {o}.", operator="-", operand="change"),
    Move(told="{a} gives half of the {o} to {c}.", operator="/", operand="two"),
    Move(
        told="{b} has {k} more {o} than {a}.", operator="+", operand="change",
        is_action=False, moves_on=True,
    ),
    Move(
        told="{b} has {k} fewer {o} than {a}.", operator="-", operand="change",
        is_action=False, moves_on=True,
    ),
    Move(
        told="{b} has twice as many {o} as {a}.", operator="*", operand="two",
        is_action=False, moves_on=True,
    ),
    Move(
        told="{b} has {k} times as many {o} as {a}.", operator="*", operand="factor",
        is_action=False, moves_on=True,
    ),
    Move(
        told="{a} puts the {o} into {k} bags.", operator="/", operand="divisor", ends=True,
        worked="Each bag has {x} {op} {y} = {z} {o}.", ask="How many {o} are in each bag?",
    ),
    Move(
        told="{d} has {k} {o}.", operator="+", operand="change", is_action=False, ends=True,
        worked=_TOGETHER, ask="How many {o} do {a} and {d} have together?",
    ),
)  # fmt: skip
_PRICE_MOVES = (
    Move(
        told="{a} also pays {k} dollars for a bag.", operator="+", operand="change",
        worked=_PAYS, ask=_PAY,
    ),
    Move(told="{a} pays {k} dollars less.", operator="-", operand="change", worked=_PAYS, ask=_PAY),
    Move(
        told="{a} had {k} dollars.", operator="-", operand="budget", is_action=False, ends=True,
        worked="{a} has {x} {op} {y} = {z} dollars left.",
        ask="How many dollars does {a} have left?",
    ),
)  # fmt: skip
_BOXES = Move(told="", operator="*", operand="factor")
_PRICE = Move(told="", operator="*", operand="factor", worked=_PAYS, ask=_PAY)

_PLAIN = Family(opening="{a} has {x} {o}.", first=None, moves=_THING_MOVES)

# Each is drawn with equal chance; the plain one stands twice, or a third of all answers were small products.
FAMILIES = (
    _PLAIN,
    _PLAIN,
    Family(opening="{a} has {x} boxes with {k} {o} in each box.", first=_BOXES, moves=_THING_MOVES),
    Family(
        opening="The {o} cost {x} dollars each. {a} buys {k} {o}.", first=_PRICE, moves=_PRICE_MOVES
    ),
)

_TOKEN = re.compile(r"[QA]:|[.,?+\-*/=():%$]|[^\s.,?+\-*/=():%$]+")
_PLACEHOLDER = re.compile(r"{\w+}")


def split_words(text: str) -> list[str]:
    """The words of a text: punctuation alone, `Q:` and `A:` whole, apostrophes inside their word."""
    return _TOKEN.findall(text)


def vocabulary() -> tuple[str, ...]:
    """Every word of problems, solutions and the prompt: numbers, punctuation, the prompt's words, the others by letter."""
    texts = [*NAMES, *THINGS, *FILLERS, *DISTRACTORS, THEN]
    for family in FAMILIES:
        first = (family.first,) if family.first else ()
        texts.append(family.opening)
        texts.extend(
            part for move in (*first, *family.moves) for part in (move.told, move.worked, move.ask)
        )
    told = {word for text in texts for word in split_words(_PLACEHOLDER.sub(" ", text))}
    numbers = tuple(str(number) for number in range(MAX_NUMBER + 1))
    head = dict.fromkeys((*numbers, *PUNCTUATION, *split_words(PROMPT)))
    return (*head, *sorted(told - head.keys()))
