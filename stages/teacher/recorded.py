"""Rationales from a file: JSON Lines, JSON, CSV, TSV or Parquet, columns mapped in the recipe.

A row: {"question": "Natalia sold clips …", "rationale": "48 / 2 = 24 …"}; the rationale may be a list of texts. Rows are
joined to the questions by their text, so a file needs no ids: `columns: {question: input, rationale: chain}` reads the
files of Mentor-KD, `columns: {question: instruction, rationale: output}` those of MCC-KD, and
`rationale: 175b_verification.solution` goes into nested objects. A question with choices is known by its text alone and by
its text with `Answer Choices:` and the choices under it, white space apart; so two questions may share the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from kpod.runner import (
    Doc,
    Ge,
    Input,
    LocalPath,
    Output,
    Question,
    Rationale,
    Stage,
    StageError,
)
from kpod.stages._lm.prompts import question_text
from kpod.stages._lm.rows import column, read_rows, table_source

if TYPE_CHECKING:
    from kpod.runner import Context, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold what; a dot goes into a nested object."""

    question: Annotated[str, Doc("Column of the question's text.")] = "question"
    rationale: Annotated[str, Doc("Column of the rationale: a text, or a list of texts.")] = (
        "rationale"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of teacher.recorded."""

    path: Annotated[
        str,
        Doc("The file: .jsonl, .json (an array of objects), .csv, .tsv or .parquet."),
        LocalPath(),
    ]
    columns: Annotated[Columns, Doc("Which columns hold what.")] = field(default_factory=Columns)
    per_question: Annotated[
        int | None,
        Doc("At most so many different texts a question, the first of the file; null takes all."),
        Ge(1),
    ] = None
    label: Annotated[str, Doc("Name of the teacher that wrote the file, kept with each text.")] = (
        "recorded"
    )
    unknown_questions: Annotated[
        Literal["error", "count"],
        Doc(
            "Rows whose question is not among the questions: an error, or counted and left out (a"
            " file that covers more than this split)."
        ),
    ] = "error"


class Recorded(Stage[Config]):
    """The texts of a file as rationales; equal texts of a question become one with a count."""

    uses = "teacher.recorded"
    version = 1
    determinism = "pure"
    questions = Input(Question, role="train")
    rationales = Output(Rationale)

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The file, by its content."""
        return {"path": table_source(config.path, setting="path")}

    def run(self, ctx: Context[Config]) -> None:
        """Join the rows to the questions by text and write a rationale for each different text.

        Raises:
            StageError: a row cannot be read, lacks a column, or answers an unknown question; no row fits a question.
        """
        questions = _Questions.of(ctx.read(self.questions))
        counts: Counter[str] = Counter()
        texts = _texts(ctx.source("path"), ctx.config.columns)
        joined = _joined(texts, questions, ctx.config, counts)
        kept = _limited(joined, ctx.config.per_question)
        counts["over_limit"] = len(joined) - len(kept)
        counts["rationales"] = len(kept)
        counts["questions_without_rationale"] = questions.number - len(
            {r.question_id for r in kept}
        )
        for name in _NOTES:
            ctx.note(name, counts[name])
        ctx.note("summary", _summary(counts, num_questions=questions.number))
        if not kept:
            raise StageError(
                _no_rationale(ctx.source("path"), counts, num_questions=questions.number)
            )
        with ctx.write(self.rationales) as out:
            for rationale in kept:
                out.add(rationale)


_NOTES = (
    "texts", "empty", "unknown_questions", "duplicates", "over_limit", "rationales",
    "questions_without_rationale",
)  # fmt: skip


def _summary(counts: Counter[str], *, num_questions: int) -> str:
    num_answered = num_questions - counts["questions_without_rationale"]
    return (
        f"{counts['rationales']:,} rationales for {num_answered:,} of {num_questions:,} questions,"
        f" from {counts['texts']:,} texts"
    )


class _Text(NamedTuple):
    question: str
    rationale: str
    where: str


class _Questions(NamedTuple):
    """How questions are found.

    Args:
        number: of questions.
        ids: by text, and by text with choices where there are any; None for a text that two questions share.
    """

    number: int
    ids: Mapping[str, str | None]

    @classmethod
    def of(cls, questions: Iterable[Question]) -> _Questions:
        ids: dict[str, str | None] = {}
        number = 0
        for question in questions:
            number += 1
            ids[question.text] = None if question.text in ids else question.id
            if question.choices is not None:
                ids[_folded(question_text(question))] = question.id
        return cls(number, ids)

    def known_as(self, text: str) -> str:
        """The text by which a question is known: as it stands, else with its white space folded."""
        return text if text in self.ids else _folded(text)


def _folded(text: str) -> str:
    """The text with one space for every stretch of white space."""
    return " ".join(text.split())


def _texts(path: Path, columns: Columns) -> Iterator[_Text]:
    """Every text of the file, with the question it answers and the place it stands in."""
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        question = column(row, columns.question, where)
        if not isinstance(question, str):
            raise StageError(_wrong_type(where, columns.question, question, allowed="a text"))
        value = column(row, columns.rationale, where)
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if not isinstance(text, str):
                raise StageError(
                    _wrong_type(where, columns.rationale, text, allowed="a text or a list of texts")
                )
            yield _Text(question.strip(), text.strip(), where)


def _joined(
    texts: Iterable[_Text], questions: _Questions, config: Config, counts: Counter[str]
) -> list[Rationale]:
    """A rationale for each different text of a question, in the order of the file, with how often it stands there."""
    found: dict[str, Rationale] = {}
    for text in texts:
        counts["texts"] += 1
        name = questions.known_as(text.question)
        if name not in questions.ids:
            if config.unknown_questions == "error":
                raise StageError(_unknown(text, questions.number))
            counts["unknown_questions"] += 1
        elif not text.rationale:
            counts["empty"] += 1
        else:
            question_id = questions.ids[name]
            if question_id is None:
                raise StageError(_shared(text))
            new = Rationale.make(question_id, text.rationale, teacher=config.label)
            first = found.get(new.id)
            counts["duplicates"] += first is not None
            found[new.id] = replace(first, count=first.count + 1) if first else new
    return list(found.values())


def _limited(rationales: list[Rationale], per_question: int | None) -> list[Rationale]:
    taken: Counter[str] = Counter()
    kept = []
    for rationale in rationales:
        taken[rationale.question_id] += 1
        if per_question is None or taken[rationale.question_id] <= per_question:
            kept.append(rationale)
    return kept


def _wrong_type(where: str, name: str, value: object, *, allowed: str) -> str:
    return (
        f"{where}: column '{name}' holds {type(value).__name__} {str(value)[:60]!r}\n"
        f"  allowed: {allowed}\n"
        "  map another column in the recipe, or mend the row"
    )


def _unknown(text: _Text, num_questions: int) -> str:
    return (
        f"{text.where}: no question has the text {text.question[:80]!r}\n"
        f"  allowed: the texts of the {num_questions} questions of the input questions\n"
        "  check columns.question, or set unknown_questions: count where the file covers more than this split"
    )


def _shared(text: _Text) -> str:
    return (
        f"{text.where}: two questions have the text {text.question[:80]!r}\n"
        "  allowed: rationales for questions with a text of their own\n"
        "  write the choices under the question (Answer Choices: and a line 'A. …' for each), or leave the row out"
    )


def _no_rationale(path: Path, counts: Counter[str], *, num_questions: int) -> str:
    return (
        f"{path}: none of {counts['texts']} texts is a rationale for one of {num_questions} questions"
        f" (unknown question {counts['unknown_questions']}, empty {counts['empty']})\n"
        "  allowed: at least one\n"
        "  check the path and columns in the recipe"
    )
