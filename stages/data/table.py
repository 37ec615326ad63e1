"""Questions from any table: JSON Lines, JSON, CSV, TSV or Parquet, a file or a hub repository, columns mapped in the recipe.

Rows that repeat a question (several rationales for each, as teachers leave them) merge into one. The split files of MCC-KD
(Chen et al. 2023, github.com/homzer/MCC-KD: {instruction, output, label}) are read with
`columns: {question: [instruction], answer: label}`; their CommonsenseQA holds the choices in the text, see `choices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner import (
    Added,
    Doc,
    Ge,
    HubRepository,
    Kind,
    LocalPath,
    Lt,
    MinItems,
    Output,
    Question,
    SettingError,
    Stage,
    StageError,
)
from kpod.stages._lm.rows import column, table_source
from kpod.stages.data._cells import (
    Choices,
    answer_text,
    choice_letter,
    choice_texts,
    choices_in_text,
)
from kpod.stages.data._origin import file_parts, folder_files, named_files
from kpod.stages.data._splits import NO_LIMIT, Limit, Split, publish

if TYPE_CHECKING:
    from kpod.runner import Context, Source


_NO_ANSWER = (
    "name the column in the recipe, or set columns.answer_optional: true where rows without it have no"
    " gold answer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold what; a dot goes into a nested object (`question.stem`)."""

    question: Annotated[
        tuple[str, ...], Doc("Columns of the question, joined by a space."), MinItems(1)
    ] = ("question",)
    answer: Annotated[str | None, Doc("Column of the gold answer; null: there is none.")] = "answer"
    answer_optional: Annotated[
        bool,
        Doc("A row without that column is a question without gold answer, instead of an error."),
        Added(),
    ] = False
    choices: Annotated[
        tuple[str, ...],
        Doc(
            "One column that holds a list of choices, or a column for each choice; [] where kind is choice: they stand "
            "under the question, `Answer Choices:` and a line `A. …` for each."
        ),
    ] = ()
    solution: Annotated[str | None, Doc("Column of the worked solution; null: there is none.")] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of data.table."""

    train: Annotated[str | None, Doc("A file of training questions."), LocalPath()] = None
    validation: Annotated[str | None, Doc("A file of validation questions."), LocalPath()] = None
    test: Annotated[str | None, Doc("A file of test questions."), LocalPath()] = None
    hub: Annotated[str | None, Doc("A data set on the Hugging Face hub, instead of files.")] = None
    revision: Annotated[str | None, Doc("Branch, tag or commit on the hub; null: the newest.")] = (
        None
    )
    subset: Annotated[str | None, Doc("Folder of the hub repository that holds the files.")] = None
    columns: Annotated[Columns, Doc("Which columns hold what.")] = Columns()
    kind: Annotated[Kind, Doc("What answers are: numeric, choice, text or yesno.")] = "numeric"
    validation_frac: Annotated[
        float,
        Doc("Share of train held out, by hash of the question id, where there is no validation."),
        Ge(0),
        Lt(1),
    ] = 0.1
    limit: Annotated[Limit, Doc("Questions to keep of each split.")] = NO_LIMIT

    def __post_init__(self) -> None:
        files = named_files(self)
        if self.hub is None and not {"train", "test"} & set(files):
            raise SettingError(
                "train",
                "no questions are named",
                hint="name a file in 'train' or 'test', or set 'hub'",
            )
        if self.hub is not None and files:
            raise SettingError(
                "hub", "files are named as well", hint="name files or 'hub', not both"
            )
        for name in ("revision", "subset"):
            if self.hub is None and getattr(self, name) is not None:
                raise SettingError(
                    name, "it needs 'hub'", hint="leave it out where files are named"
                )
        if self.kind != "choice" and self.columns.choices:
            raise SettingError(
                "columns", f"'choices' and kind {self.kind} do not go together",
                hint="map 'choices' only where kind is choice",
            )  # fmt: skip


class Table(Stage[Config]):
    """Questions from files or the hub; a question in two splits is an error."""

    uses = "data.table"
    version = 1
    determinism = "pure"
    train = Output(Question, role="train")
    validation = Output(Question, role="validation")
    test = Output(Question, role="test")

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The files, or the hub repository."""
        if config.hub is not None:
            return {"hub": HubRepository(config.hub, "dataset", config.revision)}
        files = named_files(config).items()
        return {split: table_source(path, setting=split) for split, path in files}

    def run(self, ctx: Context[Config]) -> None:
        """Read, split and write the questions, streamed."""
        config = ctx.config
        publish(
            ctx,
            {"train": self.train, "validation": self.validation, "test": self.test},
            file_parts(_files(ctx), _parser(config), validation_frac=config.validation_frac),
            limit=config.limit,
            drops_overlap=False,
        )


def _files(ctx: Context[Config]) -> Mapping[Split, list[Path]]:
    if ctx.config.hub is not None:
        return folder_files(ctx.source("hub"), subset=ctx.config.subset)
    return {split: [ctx.source(split)] for split in named_files(ctx.config)}


def _parser(config: Config) -> Callable[[Mapping[str, Any], str], Question]:
    columns, kind = config.columns, config.kind

    def parse(row: Mapping[str, Any], where: str) -> Question:
        answer = _answer(row, columns, kind, where)
        text = _question_text(row, columns, where)
        choices = _choices(row, columns, where)
        if kind == "choice" and choices is None:
            text, choices = choices_in_text(text, where)
        solution = columns.solution and column(row, columns.solution, where)
        return Question.make(
            text,
            kind=kind,
            answer=choice_letter(answer, choices, where) if choices else answer,
            split="train",
            source="table",
            choices=choices and choices.texts,
            solution=None if solution is None else str(solution),
        )

    return parse


def _answer(row: Mapping[str, Any], columns: Columns, kind: Kind, where: str) -> str | None:
    name = columns.answer
    if not name:
        return None
    if columns.answer_optional and name not in row and name.partition(".")[0] not in row:
        return None
    return answer_text(column(row, name, where, advice=_NO_ANSWER), kind, where)


def _question_text(row: Mapping[str, Any], columns: Columns, where: str) -> str:
    cells = [column(row, name, where) for name in columns.question]
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if not texts or not all(cell is None or isinstance(cell, str) for cell in cells):
        raise StageError(
            f"{where}: got the question {cells[0]!r}\n  allowed: a text that is not empty\n"
            "  map the setting 'columns.question', or delete the row"
        )
    return " ".join(texts)


def _choices(row: Mapping[str, Any], columns: Columns, where: str) -> Choices | None:
    if not columns.choices:
        return None
    cells = [column(row, name, where) for name in columns.choices]
    return choice_texts(cells[0] if len(cells) == 1 else cells, where)
