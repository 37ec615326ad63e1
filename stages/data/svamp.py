"""SVAMP: one-step word problems with varied structure. Source: Patel et al. 2021, arXiv 2103.07191.

A row: {"ID": "chal-1", "Body": "Each pack of dvds costs 76 dollars. If …", "Question": "How much do you have to pay …?",
"Equation": "( 76.0 - 25.0 )", "Answer": 51.0, "Type": "Subtraction"}.

The hub copy is split into train and test. The release, SVAMP.json, is ONE list of 1,000 questions: it is split here by hash
of the question id, by default into 700, 150 and 150, the sizes of MCC-KD (Chen et al. 2023, arXiv 2310.14747). These
are not the published 700, 150 and 150 questions: scores on them do not compare with a paper's question by question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner import Doc, Ge, Output, Question, Stage, StageError
from kpod.stages._lm.rows import column, read_rows
from kpod.stages.data._cells import answer_text
from kpod.stages.data._origin import (
    PublishedConfig,
    file_parts,
    published_files,
    published_sources,
)
from kpod.stages.data._splits import Part, Placed, Split, id_rank, publish

if TYPE_CHECKING:
    from kpod.runner import Context, Source

_LIST = "SVAMP.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(PublishedConfig):
    """Settings of data.svamp."""

    name: Annotated[str, Doc("Data set on the Hugging Face hub; unused where files are named.")] = (
        "ChilleD/SVAMP"
    )
    num_validation: Annotated[
        int, Doc("Validation questions of SVAMP.json, which is one list; unused elsewhere."), Ge(0)
    ] = 150
    num_test: Annotated[int, Doc("Test questions of SVAMP.json; the rest are train."), Ge(0)] = 150


class Svamp(Stage[Config]):
    """Questions whose text is the body and the question as one; gold answers are numbers."""

    uses = "data.svamp"
    version = 1
    determinism = "pure"
    train = Output(Question, role="train")
    validation = Output(Question, role="validation")
    test = Output(Question, role="test")

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The hub repository, the folder or file, or the files."""
        return published_sources(
            config,
            expects="data.svamp reads SVAMP.json, or train.json and test.json,"
            ' rows of {"Body", "Question", "Answer"}',
        )

    def run(self, ctx: Context[Config]) -> None:
        """Read, split and write the questions; what train shares with test is dropped from train."""
        config = ctx.config
        publish(
            ctx,
            {"train": self.train, "validation": self.validation, "test": self.test},
            _parts(ctx),
            limit=config.limit,
            drops_overlap=True,
        )


def _parts(ctx: Context[Config]) -> list[Part]:
    config = ctx.config
    if config.path is not None:
        path = ctx.source("path")
        single = path / _LIST if path.is_dir() else path
        if single.is_file():
            return [_single_list(single, config)]
    files = published_files(ctx, config)
    return file_parts(files, svamp_question, validation_frac=config.validation_frac)


def _single_list(path: Path, config: Config) -> Part:
    """All questions of one file, the first ones by hash of the id to test, the next to validation."""

    def read() -> Iterator[Placed]:
        for number, row in read_rows(path):
            where = f"{path}:{number}"
            yield Placed(where, svamp_question(row, where))

    ids = sorted(
        {placed.question.id for placed in read()}, key=lambda one: id_rank(one, purpose="split")
    )
    num_held = config.num_test + config.num_validation
    if num_held >= len(ids):
        raise StageError(
            f"{path}: got {len(ids)} questions, and 'num_validation' and 'num_test' ask for {num_held}\n"
            "  allowed: fewer than there are, so that some remain for train\n  lower one of the two"
        )
    splits: dict[str, Split] = dict.fromkeys(ids, "train")
    splits |= dict.fromkeys(ids[: config.num_test], "test")
    splits |= dict.fromkeys(ids[config.num_test : num_held], "validation")
    return Part(read=read, split_of=splits.__getitem__)


def svamp_question(row: Mapping[str, Any], where: str) -> Question:
    """The question of a row; body and question are joined by a full stop only where the body ends without one.

    Raises:
        StageError: the row lacks a column, or its answer is not a number.
    """
    body = str(column(row, "Body", where)).strip()
    joint = " " if body.endswith((".", "?", "!")) else ". "
    return Question.make(
        body + joint + str(column(row, "Question", where)).strip(),
        kind="numeric",
        answer=answer_text(column(row, "Answer", where), "numeric", where),
        split="train",
        source="svamp",
    )
