"""ASDiv: word problems of many kinds from primary school. Source: Miao, Liang, Su 2020, aclanthology.org/2020.acl-main.92.

A problem of the release, ASDiv.xml, which holds 2,305 of them in ONE list:

    <Problem ID="nluds-0001" Grade="1" Source="http://www.k5learning.com">
      <Body>Seven red apples and two green apples are in the basket.</Body>
      <Question>How many apples are in the basket?</Question>
      <Solution-Type>Addition</Solution-Type> <Answer>9 (apples)</Answer> <Formula>7+2=9</Formula>
    </Problem>

The hub copy has the same problems as columns body, question, solution_type, answer and formula. The list is split here by
hash of the question id, by default with the validation and test sizes of MCC-KD (Chen et al. 2023, arXiv 2310.14747): 313
and 314. These are not the published questions: scores on them do not compare with a paper's question by question.

A problem whose answer is not ONE number (a name, a time, a ratio, two amounts) is left out and counted, as in PAL's copy
of the set and in the 2,096 problems of Wei et al. 2022: what reads a student's answer looks for one number. lm-eval keeps
them, and takes what stands before the first unit ("5 (dimes); 4 (nickels)" is 5 there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from kpod.runner import Doc, Ge, Output, Question, Stage
from kpod.stages.data._origin import PublishedConfig, published_sources
from kpod.stages.data._splits import publish

if TYPE_CHECKING:
    from kpod.runner import Context, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(PublishedConfig):
    """Settings of data.asdiv."""

    name: Annotated[str, Doc("Data set on the Hugging Face hub; unused where files are named.")] = (
        "EleutherAI/asdiv"
    )
    num_validation: Annotated[
        int,
        Doc("Validation questions of the list; unused where files are named one by one."),
        Ge(0),
    ] = 313
    num_test: Annotated[
        int,
        Doc("Test questions of the list; the rest are train. Unused where files are named."),
        Ge(0),
    ] = 314


class Asdiv(Stage[Config]):
    """Questions whose text is the body and the question as one; gold answers are numbers without their unit."""

    uses = "data.asdiv"
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
            expects="data.asdiv reads ASDiv.xml, or tables with the columns body, question and answer",
        )

    def run(self, ctx: Context[Config]) -> None:
        """Read, split and write the questions; what train shares with test is dropped from train."""
        from kpod.stages.data._asdiv import Problems

        problems = Problems()
        publish(
            ctx,
            {"train": self.train, "validation": self.validation, "test": self.test},
            problems.parts(ctx),
            limit=ctx.config.limit,
            drops_overlap=True,
        )
        ctx.note("left_out", problems.counts())
