r"""GSM8K: grade-school word problems with worked solutions. Source: Cobbe et al. 2021, arXiv 2110.14168.

A row: {"question": "Natalia sold clips …", "answer": "… 48/2 = <<48/2=24>>24 clips in May.\n…\n#### 72"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner import Doc, Output, Question, Stage, StageError
from kpod.stages._lm.rows import column
from kpod.stages.data._cells import answer_text
from kpod.stages.data._origin import (
    PublishedConfig,
    file_parts,
    published_files,
    published_sources,
)
from kpod.stages.data._splits import publish

if TYPE_CHECKING:
    from kpod.runner import Context, Source

_MARK = "####"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(PublishedConfig):
    """Settings of data.gsm8k."""

    name: Annotated[str, Doc("Data set on the Hugging Face hub; unused where files are named.")] = (
        "openai/gsm8k"
    )
    subset: Annotated[str, Doc("Folder of the hub repository: main or socratic.")] = "main"


class Gsm8k(Stage[Config]):
    """Questions with the number after `####` as gold, and the text before it, marks and all, as solution."""

    uses = "data.gsm8k"
    version = 1
    determinism = "pure"
    train = Output(Question, role="train")
    validation = Output(Question, role="validation")
    test = Output(Question, role="test")

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The hub repository, the folder or the files."""
        return published_sources(
            config,
            expects='data.gsm8k reads train.jsonl and test.jsonl, rows of {"question", "answer"}'
            " whose answer ends in #### 72",
        )

    def run(self, ctx: Context[Config]) -> None:
        """Read, split and write the questions; what train shares with test is dropped from train."""
        config = ctx.config
        files = published_files(ctx, config, subset=config.subset)
        publish(
            ctx,
            {"train": self.train, "validation": self.validation, "test": self.test},
            file_parts(files, gsm8k_question, validation_frac=config.validation_frac),
            limit=config.limit,
            drops_overlap=True,
        )


def gsm8k_question(row: Mapping[str, Any], where: str) -> Question:
    """The question of a row.

    Raises:
        StageError: the row lacks a column, or its answer lacks the mark `####`.
    """
    solution, mark, answer = str(column(row, "answer", where)).rpartition(_MARK)
    if not mark or not answer.strip():
        raise StageError(
            f"{where}: got an answer without a number after '{_MARK}': {answer[-60:]!r}\n"
            f"  allowed: a worked solution that ends in '{_MARK} 72'\n"
            "  read other formats with data.table"
        )
    return Question.make(
        str(column(row, "question", where)),
        kind="numeric",
        answer=answer_text(answer.strip().replace(",", ""), "numeric", where),
        split="train",
        source="gsm8k",
        solution=solution.rstrip(),
    )
