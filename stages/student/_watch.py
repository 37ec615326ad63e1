"""When a student is judged while it trains, which one is the best, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kpod.runner import Context, StageError
from kpod.stages._lm.statistics import wilson_interval
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._tally import Judgement, Tally
from kpod.stages.student._validate import Validate

if TYPE_CHECKING:
    from kpod.stages._lm.parts import Parts
    from kpod.stages.student._team import Team

_TELL_EVERY_S = 1.0


class Sums(NamedTuple):
    """What a judgement is the ratio of.

    Args:
        amount: right answers, or nats.
        num: questions asked, or target tokens.
    """

    amount: float
    num: int


Tell = Callable[[int], None]


class Judge(Protocol):
    """Looks at a student; changes nothing of it."""

    def __call__(self, student: Parts, tell: Tell) -> Sums:
        """Judge a student in eval mode; `tell` hears how many questions or tokens are done, and may raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Judges a student at the ends of epochs.

    Args:
        settings: by what, how often, how patiently.
        judge: does it.
        num: what a judgement rests on: questions, or target tokens.
    """

    settings: Validate
    judge: Judge
    num: int

    def is_due(self, tally: Tally, plan: StepPlan) -> bool:
        """Whether the student is to be judged before the next step."""
        if not tally.step or (tally.judgements and tally.judgements[-1].step == tally.step):
            return False
        is_end = tally.step == plan.num_steps
        return is_end or tally.step % (plan.steps_per_epoch * self.settings.every_epochs) == 0

    def observe(
        self, ctx: Context[Any], student: Parts, tally: Tally, *, plan: StepPlan, team: Team
    ) -> None:
        """Judge the student and keep the judgement in the tally.

        The first process judges; the others wait, and take its number, so that all of them decide alike.

        Raises:
            StageError: the loss is not finite.
            Interrupted: the run was asked to stop; nothing was kept of the judgement.
        """
        amount, num = 0.0, 0
        if team.is_first:
            student.model.eval()
            try:
                amount, num = self.judge(student, _teller(ctx, tally, plan, team))
            finally:
                student.model.train()
        amount, total = team.sum_numbers(amount, num)
        value = amount / total
        epoch = plan.epoch(tally.step - 1)
        if not math.isfinite(value):
            raise StageError(
                f"after epoch {epoch}, the validation loss is {value}; it must be finite\n"
                "lower learning_rate, add warmup_frac, or set precision: fp32"
            )
        best = tally.best
        made = Judgement(epoch=epoch, step=tally.step, value=value)
        tally.judgements.append(made)
        if best is None or self._is_better(made, best):
            tally.best_step = made.step

    def _is_better(self, one: Judgement, other: Judgement) -> bool:
        if self.settings.metric == "accuracy":
            return one.value > other.value
        return one.value < other.value

    def is_over(self, tally: Tally) -> bool:
        """Whether patience has run out."""
        if self.settings.patience is None or tally.best_step is None:
            return False
        return sum(one.step > tally.best_step for one in tally.judgements) >= self.settings.patience

    def told(self, tally: Tally, plan: StepPlan) -> dict[str, object]:
        """The curve and what came of it, for the report."""
        best = tally.best
        assert best is not None, "the end of a training is judged"
        return {
            "metric": self.settings.metric,
            "n": self.num,
            "curve": [
                {"epoch": one.epoch, "step": one.step, "value": one.value}
                for one in tally.judgements
            ],
            "best_epoch": best.epoch,
            "best_step": best.step,
            "best_value": best.value,
            "has_stopped_early": tally.step < plan.num_steps,
        }

    def summary(self, tally: Tally, plan: StepPlan) -> str:
        """What a person is told of it, in one line."""
        best = tally.best
        assert best is not None, "the end of a training is judged"
        if self.settings.metric == "accuracy":
            low, high = wilson_interval(round(best.value * self.num), self.num)
            how = f"accuracy {best.value:.2f} [{low:.2f}, {high:.2f}], n = {self.num:,}"
        else:
            how = f"validation loss {best.value:.3f}, {self.num:,} tokens"
        epochs = plan.epoch(plan.num_steps - 1)
        stopped = f"; stopped after epoch {tally.judgements[-1].epoch}"
        is_early = tally.step < plan.num_steps
        return f"best after epoch {best.epoch} of {epochs} ({how}){stopped if is_early else ''}"


def _teller(ctx: Context[Any], tally: Tally, plan: StepPlan, team: Team) -> Tell:
    """Tells the run once a second that it lives, and stops when asked to; a team stops between two steps only."""
    told_at = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told_at
        if team.size > 1:
            return
        now = time.monotonic()
        if ctx.should_stop or now - told_at >= _TELL_EVERY_S:
            told_at = now
            ctx.progress(tally.step, plan.num_steps, unit="steps", judged=done)

    return tell
