"""What is told while a student trains: loss, rate, share of the machine's peak, memory."""

from __future__ import annotations

from kpod.stages.student._step import Step
from kpod.stages.student._tally import Tally


class Monitor:
    """Turns steps into the numbers that the console, the events and the trackers show."""

    def after(self, done: Step, tally: Tally) -> dict[str, float]:
        """The facts of a step for `ctx.progress`; `tally` holds it already."""
        rate = tally.processed_tokens / max(tally.seconds, 1e-9)
        return {"loss": done.loss, "tokens_per_s": rate}
