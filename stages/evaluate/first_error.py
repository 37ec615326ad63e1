"""Which step breaks first: a model that was wrong is given more and more of the question's own solution, until it ends right.

For each wrong question with a solution of s >= 2 steps the first c = 1 … s - 1 steps are given behind the prompt, as a
progressive curriculum gives steps to a student (KPOD Sec. 3.4: before the model's own text; at the end of what an encoder
reads), and the model goes on greedily. The smallest c after which it is right names the step that broke: behind c - 1 steps it
is wrong, and once it has step c it goes on by itself (an earlier step may have been wrong too). Where it is wrong behind all
but the last step, no step is named: the last one breaks, or the answer. Only what the model writes itself is read for its
answer. Source: our choice; the paper counts right answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Breakpoint, Context, Doc, Ge, Output
from kpod.stages._lm.steps import Rule
from kpod.stages.evaluate import _asking
from kpod.stages.evaluate._asking import Asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(_asking.Config):
    """How models are asked: as in evaluate.accuracy, whose texts are then found and not written again."""

    limit: Annotated[
        int,
        Doc(
            "At most so many wrong questions are looked at, drawn by a hash of their ids: each costs as many texts as its "
            "solution has steps, less one. 200 is our choice: a share of 200 is known to 7 points (Wilson, 95 %)."
        ),
        Ge(1),
    ] = 200
    steps: Rule = "sentence"


class FirstError(Asking[Config]):
    """The first broken step of every model's wrong answers."""

    uses = "evaluate.first_error"
    version = 2
    breakpoints = Output(Breakpoint)

    def run(self, ctx: Context[Config]) -> None:
        """Ask the model every question, and again with the first steps of its solution where it was wrong.

        Raises:
            StageError: no question has a gold answer and a solution of two steps or more, or the model's prompt has no
                reasoning that could be given.
        """
        from kpod.stages._lm.artifact import locate
        from kpod.stages._lm.judging import check_gold
        from kpod.stages.evaluate._first_error import find_breaks, note_breaks

        questions = list(ctx.read(self.questions))
        check_gold(questions)
        found = find_breaks(ctx, locate(ctx, self.models), questions)
        with ctx.write(self.breakpoints) as out:
            for row in found.rows:
                out.add(row)
        note_breaks(ctx, found)
