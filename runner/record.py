"""The records that stages exchange: frozen dataclasses, one JSON line each, joined by id and never by row number.

Texts are UTF-8, fields in the order of the class, so that equal records are equal bytes and a digest means something.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from kpod.runner.row import tuple_fields

Kind = Literal["numeric", "choice", "text", "yesno"]
Verdict = Literal["correct", "wrong", "no_answer", "truncated"]
Finish = Literal["stop", "length", "content_filter", "recorded"]
# What the name of a teacher that was told the gold answer ends with: "rationalisation", Zelikman et al. 2022 (STaR), Sec. 3.2.
HINT_MARK = "+hint"


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def content_id(*parts: object) -> str:
    """A short name for content: 16 hex digits of sha256 over canonical JSON of the parts.

    64 bits: at a million rows the chance that any two meet by accident is about 3e-8.
    """
    return hashlib.sha256(_ENCODER.encode(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row of a stage's output."""

    is_folder: ClassVar[bool] = False

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The record of a parsed JSON line.

        Raises:
            TypeError: a field is missing, or one is there that the record does not have.
        """
        values = dict(row)
        record: type = cls
        for name, is_nested in tuple_fields(record):
            items = values.get(name)
            if items is not None:
                values[name] = tuple(map(tuple, items)) if is_nested else tuple(items)
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Record):
    """One question. Made by `Question.make`, which gives equal questions the same id.

    Args:
        id: hash of kind, text and choices.
        answer: the gold answer (for a choice: its letter), or None where there is none.
        choices: texts of the choices, lettered A, B, C … in this order; None unless kind is choice.
        solution: the data set's own worked solution, or None.
        source: where it came from, e.g. "gsm8k".
    """

    id: str
    text: str
    answer: str | None
    kind: Kind
    choices: tuple[str, ...] | None
    split: str
    solution: str | None
    source: str

    @classmethod
    def make(
        cls,
        text: str,
        *,
        kind: Kind,
        answer: str | None,
        split: str,
        source: str,
        choices: Sequence[str] | None = None,
        solution: str | None = None,
    ) -> Self:
        """The question with its id filled in; `text` loses the white space around it."""
        text = text.strip()
        options = None if choices is None else tuple(choices)
        return cls(
            id=content_id(kind, text, options), text=text, answer=answer, kind=kind, choices=options,
            split=split, solution=solution, source=source,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a text cost; None where nobody counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rationale(Record):
    """One reasoning text for one question.

    Args:
        id: hash of question_id and text.
        teacher: who wrote it: a model's content id, "reference" or a file's label.
        count: how many identical samples it stands for, >= 1.
        usage: tokens of all its samples together.
        finish: how generation ended; "recorded" for texts from a file.
        answer: what the filter extracted, or None before it.
        verdict: set by the filter, None before it.
    """

    id: str
    question_id: str
    text: str
    teacher: str
    count: int = 1
    usage: Usage | None = None
    finish: Finish = "recorded"
    answer: str | None = None
    verdict: Verdict | None = None

    @property
    def is_hinted(self) -> bool:
        """Whether its teacher was told the gold answer; such a teacher's name ends with `+hint`."""
        return self.teacher.endswith(HINT_MARK)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """As `Record.from_row`, with the usage as a Usage."""
        usage = row.get("usage")
        return cls(**{**row, "usage": None if usage is None else Usage(**usage)})

    @classmethod
    def make(
        cls,
        question_id: str,
        text: str,
        *,
        teacher: str,
        count: int = 1,
        usage: Usage | None = None,
        finish: Finish = "recorded",
        answer: str | None = None,
        verdict: Verdict | None = None,
    ) -> Self:
        """The rationale with its id filled in."""
        return cls(
            id=content_id(question_id, text), question_id=question_id, text=text, teacher=teacher,
            count=count, usage=usage, finish=finish, answer=answer, verdict=verdict,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeights(Record):
    """How much each stretch of a rationale counts, by character span, so that any tokenizer can use it.

    Args:
        spans: (start, end) character offsets into the rationale's text, in order.
        weights: one a span, in [0, 1].
    """

    rationale_id: str
    spans: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty(Record):
    """How hard each step of a rationale is: (start, end, nats); the spans partition the text."""

    rationale_id: str
    steps: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(Record):
    """Which cluster a question belongs to, counted from 0."""

    question_id: str
    cluster: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum(Record):
    """How much of a rationale is input at each epoch; one entry for every epoch, index 0 is the first.

    Args:
        num_steps: steps in the rationale.
        given: number of input steps; 0 = generate all.
        cut: the character offset where they end; 0 where nothing is given.
    """

    rationale_id: str
    num_steps: int
    given: tuple[int, ...]
    cut: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Record):
    """What a model said to a question.

    Args:
        model: content id of the model.
        sample: index of the sample, from 0.
        answer: what the extractor found, or None.
        is_correct: None where the question has no gold answer.
        rule: name of the extraction rule that fired, or None.
        num_tokens: generated tokens, without the end token.
    """

    question_id: str
    model: str
    sample: int
    text: str
    answer: str | None
    is_correct: bool | None
    rule: str | None
    num_tokens: int
    finish: Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakpoint(Record):
    """Where a wrong answer breaks: how much of the question's own solution a model has to be given until it ends right.

    Args:
        model: content id of the model.
        num_steps: steps of the solution, >= 2.
        broken_step: counted from 1, < num_steps: the fewest first steps that, once given, let the model end right; None: none do.
    """

    question_id: str
    model: str
    num_steps: int
    broken_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Record):
    """Scores of one model on one set of questions.

    Args:
        model: content id of the model.
        data: content digest of the questions.
        n: scored questions.
        num_correct: of those.
        accuracy: num_correct / n, in [0, 1]; None where n is 0 (no gold answers).
        low, high: 95 % Wilson interval of the accuracy; None where n is 0.
        strict_frac, flexible_frac: accuracy under lm-eval's two rules for GSM8K; None where they do not apply.
        num_changed_by_extractor: questions on which our verdict differs from the flexible rule's.
        no_answer_frac: share of texts without an extracted answer.
        truncated_frac: share of texts cut at the token limit.
        mean_tokens: mean number of generated tokens.
    """

    model: str
    data: str
    n: int
    num_correct: int
    accuracy: float | None
    low: float | None
    high: float | None
    strict_frac: float | None
    flexible_frac: float | None
    num_changed_by_extractor: int | None
    no_answer_frac: float
    truncated_frac: float
    mean_tokens: float


class Model(Record):
    """A language model: a folder with `model.json`, and with the files of its weights or its adapter.

    See `kpod.stages._lm.artifact` for what the folder holds.
    """

    is_folder: ClassVar[bool] = True
