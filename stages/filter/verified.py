"""Keep the rationales that come to the right answer by sound arithmetic; say what became of all the others.

The ladder, rung by rung; a rationale leaves at the first that it fails:

    truncated    generation was cut at the token limit
    no_answer    refused by a content filter, or no answer   } `require: [answer]`
    wrong        it is not the gold answer                   }
    arithmetic   an equation in it does not hold               `require: [arithmetic]`
    length       shorter or longer than the settings allow; nothing left beside the answer
    duplicates   the text was kept before (its samples add up)
    over_limit   the question has `per_question` already

Answer and arithmetic are judged on the full text; what is kept has lost the phrase that states the answer at its end,
because the student's template adds its own. `require: []` keeps all that are complete, as the KPOD paper does.
Source: DESIGN 4; STaR-style filtering by answer, and the arithmetic check of issue 1/5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Input,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
)


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


class Verified(Stage[Config]):
    """Rationales that are right, and the counts of those that were not."""

    uses = "filter.verified"
    version = 1
    rationales = Input(Rationale, many=True)
    questions = Input(Question, role="train")
    verified = Output(Rationale, refines="rationales")

    def run(self, ctx: Context[Config]) -> None:
        """Judge every rationale and write those that passed, in the order in which they came.

        Raises:
            StageError: a rationale's question is unknown, a gold answer is missing or unreadable, nothing passed.
        """
        from kpod.stages.filter._ladder import climb

        kept, counts, summary = climb(
            ctx.read(self.rationales), ctx.read(self.questions), ctx.config
        )
        for name, count in counts.items():
            ctx.note(name, count)
        ctx.note("summary", summary)
        with ctx.write(self.verified) as out:
            for rationale in kept:
                out.add(rationale)
