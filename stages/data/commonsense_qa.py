"""CommonsenseQA: five choices about everyday knowledge. Source: Talmor et al. 2019, arXiv 1811.00937, random split 1.11.

A row of the release: {"answerKey": "A", "id": "075e…", "question": {"stem": "…", "question_concept": "…",
"choices": [{"label": "A", "text": "ignore"}, …]}}; on the hub `question` is the stem and `choices` stands beside it.

The labels of the official test split are not published, so its dev split is our test, and validation is held out of train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner import Doc, Output, Question, Stage
from kpod.stages._lm.rows import column
from kpod.stages.data._cells import answer_text, choice_letter, choice_texts
from kpod.stages.data._origin import (
    PublishedConfig,
    file_parts,
    published_files,
    published_sources,
)
from kpod.stages.data._splits import Split, publish

if TYPE_CHECKING:
    from kpod.runner import Context, Source

_WORDS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train_rand_split", "train"),
    "validation": (),
    "test": ("dev_rand_split", "dev", "validation"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(PublishedConfig):
    """Settings of data.commonsense_qa."""

    name: Annotated[str, Doc("Data set on the Hugging Face hub; unused where files are named.")] = (
        "tau/commonsense_qa"
    )


class CommonsenseQa(Stage[Config]):
    """Questions with lettered choices; the official dev split is the test split."""

    uses = "data.commonsense_qa"
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
            expects="data.commonsense_qa reads train_rand_split.jsonl and dev_rand_split.jsonl,"
            ' rows of {"answerKey", "question"}',
        )

    def run(self, ctx: Context[Config]) -> None:
        """Read, split and write the questions; what train shares with test is dropped from train."""
        config = ctx.config
        files = published_files(ctx, config, words=_WORDS)
        publish(
            ctx,
            {"train": self.train, "validation": self.validation, "test": self.test},
            file_parts(files, commonsense_question, validation_frac=config.validation_frac),
            limit=config.limit,
            drops_overlap=True,
        )


def commonsense_question(row: Mapping[str, Any], where: str) -> Question:
    """The question of a row of the release or of the hub.

    Raises:
        StageError: the row lacks a column, or its answer is none of the choices.
    """
    nested = isinstance(row.get("question"), Mapping)
    choices = choice_texts(column(row, "question.choices" if nested else "choices", where), where)
    answer = answer_text(column(row, "answerKey", where), "choice", where)
    return Question.make(
        str(column(row, "question.stem" if nested else "question", where)),
        kind="choice",
        answer=choice_letter(answer, choices, where),
        split="train",
        source="commonsense_qa",
        choices=choices.texts,
    )
