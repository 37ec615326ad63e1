"""Keep the rationales that come to the right answer by sound arithmetic; say what became of all the others.

The ladder, rung by rung; a rationale leaves at the first that it fails:

    truncated    generation was cut at the token limit
    no_answer    refused by a content filter, or no answer   } `require: [answer]`
    wrong        it is not the gold answer                   }
    arithmetic   an equation in it does not hold               `require: [arithmetic]`
    no_majority  without gold: too few votes, a tie, or too small a share  } `vote`
    outvoted     without gold: most samples give another answer            }
    leaked       its teacher was told the gold answer, and the text gives that away
    length       shorter or longer than the settings allow; nothing left beside the answer
    duplicates   the text was kept before (its samples add up)
    over_limit   the question has `per_question` already

Answer and arithmetic are judged on the full text; what is kept has lost the phrase that states the answer at its end,
because the student's template adds its own. `require: []` keeps all that are complete, as the KPOD paper does.

Two filters make the ladder of rationalisation: what the first kept goes to a teacher as `solved`, which asks the other
questions again with the answer as a hint, and the second takes both. A rationale that a filter judged before keeps its answer
and its verdict (its text no longer states the answer).

Source: DESIGN 4; STaR (Zelikman et al. 2022, arXiv 2203.14465, Sec. 3) for the filter by answer and for hints,
self-consistency (Wang et al. 2022, arXiv 2203.11171, Sec. 2) for the vote, and the arithmetic check of issue 1/5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Input,
    Le,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """When the most frequent answer of a question without gold counts as right."""

    min_samples: Annotated[
        int,
        Doc("Votes that a question needs: samples with an answer that stood so far (our choice)."),
        Ge(1),
    ] = 3
    min_share: Annotated[
        float,
        Doc(
            "Share of the votes that the most frequent answer needs, in [0, 1]; 0 is the plurality of Wang et al. 2022,"
            " the default half of them is our choice."
        ),
        Ge(0),
        Le(1),
    ] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of filter.verified."""

    require: Annotated[
        tuple[Literal["answer", "arithmetic"], ...],
        Doc(
            "What a rationale must show: the gold answer, equations that hold. [] keeps all that are complete."
        ),
    ] = ("answer", "arithmetic")
    min_chars: Annotated[
        int, Doc("Shortest kept text, in characters, without its answer phrase."), Ge(1)
    ] = 1
    max_chars: Annotated[
        int, Doc("Longest kept text, in characters, without its answer phrase."), Ge(1)
    ] = 20_000
    per_question: Annotated[
        int | None,
        Doc("At most so many a question, the most frequent first; null keeps all."),
        Ge(1),
    ] = None
    vote: Annotated[
        Vote | None,
        Doc(
            "For questions without a gold answer: keep the rationales of the answer that most samples give. null: such a"
            " question is an error where require holds answer."
        ),
    ] = None
    merge_duplicates: Annotated[
        bool,
        Doc("Make texts of a question that are equal after stripping one, and add their counts."),
    ] = True

    def __post_init__(self) -> None:
        if self.max_chars < self.min_chars:
            raise SettingError(
                "max_chars",
                f"{self.max_chars} is below min_chars {self.min_chars}",
                hint="no text can have both lengths",
            )
        if self.vote is not None and "answer" not in self.require:
            raise SettingError(
                "vote",
                "elects an answer, but require does not hold answer",
                hint="add answer to require, or leave vote out",
            )


class Verified(Stage[Config]):
    """Rationales that are right, and the counts of those that were not."""

    uses = "filter.verified"
    version = 1
    determinism = "pure"
    rationales = Input(Rationale, many=True)
    questions = Input(Question, role="train")
    verified = Output(Rationale, refines="rationales")

    def run(self, ctx: Context[Config]) -> None:
        """Judge every rationale and write those that passed, in the order in which they came.

        Raises:
            StageError: a rationale's question is unknown, a gold answer is missing or unreadable, nothing passed.
        """
        from kpod.stages.filter._ladder import climb

        kept, notes = climb(ctx.read(self.rationales), ctx.read(self.questions), ctx.config)
        for name, fact in notes.items():
            ctx.note(name, fact)
        with ctx.write(self.verified) as out:
            for rationale in kept:
                out.add(rationale)
