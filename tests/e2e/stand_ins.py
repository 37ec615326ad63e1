"""Small things in place of the big ones that recipes name: data sets in their own formats, rationales, word vectors, models.

All are made of the word problems that ship with kpod, so that a model of a word-level vocabulary reads every word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from kpod.runner import Question
from kpod.stages.data._phrases import vocabulary
from kpod.stages.data.word_problems import Config, WordProblems
from kpod.stages.model import from_config
from tests.stages.fakes import FakeContext

NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 40, 4, 32
_LETTERS = "ABCDE"


@cache
def problems() -> tuple[Question, ...]:
    """Problems of two and three steps: those for training, then those for the test."""
    config = Config(num_train=NUM_TRAIN, num_validation=NUM_VALIDATION, num_test=NUM_TEST)
    ctx = FakeContext(config=config)
    WordProblems().run(ctx)
    return tuple(ctx.rows("train") + ctx.rows("validation") + ctx.rows("test"))


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _parts(question: Question) -> tuple[str, str]:
    """The story and the question at its end."""
    body, _, asked = question.text.rpartition(". ")
    return f"{body}.", asked


def gsm8k(folder: Path) -> Path:
    """A folder with train.jsonl and test.jsonl."""
    rows = [{"question": q.text, "answer": f"{q.solution}\n#### {q.answer}"} for q in problems()]
    _lines(folder / "train.jsonl", rows[:NUM_TRAIN])
    _lines(folder / "test.jsonl", rows[-NUM_TEST:])
    return folder


def asdiv(folder: Path) -> Path:
    """ASDiv.xml, one list; one problem more that has no number as answer."""
    texts = [(*_parts(q), f"{q.answer} (things)") for q in problems()]
    rows = "".join(
        f"<Problem ID='p'><Body>{escape(body)}</Body><Question>{escape(asked)}</Question><Answer>{answer}</Answer></Problem>\n"
        for body, asked, answer in [*texts, ("Tom has 2 apples.", "Who has more?", "Ann")]
    )
    path = folder / "ASDiv.xml"
    path.write_text(f"<File><ProblemSet>\n{rows}</ProblemSet></File>\n", encoding="utf-8")
    return path


def svamp(folder: Path) -> Path:
    """SVAMP.json, one list."""
    rows = [
        {"Body": body, "Question": asked, "Answer": float(q.answer or 0)}
        for q in problems()
        for body, asked in [_parts(q)]
    ]
    path = folder / "SVAMP.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def commonsense_qa(folder: Path) -> Path:
    """A folder with the files of the release; the choices are five numbers."""
    rows = []
    for number, q in enumerate(problems()):
        right = number % len(_LETTERS)
        texts = [str(int(q.answer or 0) + at - right) for at in range(len(_LETTERS))]
        choices = [{"label": a, "text": b} for a, b in zip(_LETTERS, texts, strict=True)]
        rows.append(
            {"answerKey": _LETTERS[right], "question": {"stem": q.text, "choices": choices}}
        )
    _lines(folder / "train_rand_split.jsonl", rows[:-NUM_TEST])
    _lines(folder / "dev_rand_split.jsonl", rows[-NUM_TEST:])
    return folder


DATA = {"gsm8k": gsm8k, "asdiv": asdiv, "svamp": svamp, "commonsense_qa": commonsense_qa}


def rationales(folder: Path) -> Path:
    """What a teacher said to every question, in the form {question, rationale}."""
    rows = [{"question": q.text, "rationale": q.solution} for q in problems()]
    return _lines(folder / "rationales.jsonl", rows)


def word_vectors(folder: Path) -> Path:
    """A file in GloVe's format with a vector of four numbers for every word of the problems."""
    words = sorted({word.lower() for word in vocabulary()})
    lines = [
        f"{word} {at % 7} {at % 5} {at % 3} {len(word)}\n" for at, word in enumerate(words, start=1)
    ]
    path = folder / "glove.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def model(folder: Path, architecture: Literal["llama", "t5"]) -> Path:
    """The folder of a model with random weights that reads the problems: width 32, two layers."""
    root = folder / architecture
    root.mkdir(parents=True)
    words = root / "words.txt"
    words.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    config = from_config.Config(
        architecture=architecture, width=32, layers=2, heads=4, ff_width=64, max_positions=256, words=str(words)
    )  # fmt: skip
    ctx = FakeContext(config=config, sources={"words": words}, root=root)
    from_config.FromConfig().run(ctx)
    return ctx.folders["model"]
