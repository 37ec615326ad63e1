"""What is told while a student trains: loss, rate, share of the machine's peak, memory, time left; and to trackers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.stages.student._step import Step
from kpod.stages.student._tally import Tally

if TYPE_CHECKING:
    from kpod.runner import Context
    from kpod.stages._lm.parts import Parts
    from kpod.stages.student._pace import Work
    from kpod.stages.student._settings import Config
    from kpod.stages.student._team import Team
    from kpod.stages.student._trackers import Trackers
    from kpod.stages.student._training import Training

# Rate and share are those of the last steps, so that a slow start or a longer epoch is not averaged away.
_WINDOW_STEPS = 20
# Shorter trainings are over before the measurement of the peak has paid; our choice.
_MEASURED_FROM_STEPS = 50


class _Recent(NamedTuple):
    """One of the last steps."""

    seconds: float
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What is needed to tell how fast a training is.

    Args:
        num_steps: of the whole training.
        num_sequences: of a step.
        work: what a token costs.
        peak: FLOPs a second of all processes together; None: not measured.
        memory_gb: tells what is held now.
    """

    num_steps: int
    num_sequences: int
    work: Work
    peak: float | None
    memory_gb: Callable[[], float | None]


@dataclass(slots=True, kw_only=True)
class Monitor:
    """Turns steps into the numbers that the console, the events and the trackers show.

    Args:
        pace: None: loss and rate only.
        trackers: None: nobody else is told.
    """

    pace: Pace | None = None
    trackers: Trackers | None = None
    _recent: deque[_Recent] = field(default_factory=lambda: deque(maxlen=_WINDOW_STEPS))
    _seconds: float | None = None
    _num_judged: int | None = None
    _tally: Tally | None = None

    def after(self, done: Step, tally: Tally) -> dict[str, float]:
        """The facts of a step for `ctx.progress`; `tally` holds it already."""
        rate = tally.processed_tokens / max(tally.seconds, 1e-9)
        facts = {"loss": done.loss, "tokens_per_s": rate}
        if self.pace is not None:
            facts |= self._pace_facts(self.pace, done, tally)
        if self.trackers is not None:
            self._tell(self.trackers, done, tally, rate)
        return facts

    def close(self) -> None:
        """Tell the trackers what was judged since the last step, and that it is over."""
        if self.trackers is not None:
            if self._tally is not None:
                self._tell_judgements(self.trackers, self._tally)
            self.trackers.close()

    def _pace_facts(self, pace: Pace, done: Step, tally: Tally) -> dict[str, float]:
        """The first step of an attempt only starts the clock: it pays for what is done once."""
        facts: dict[str, float] = {}
        if self._seconds is not None:
            flops = pace.work.of_step(
                num_sequences=pace.num_sequences, num_tokens=done.num_tokens, num_targets=done.num_targets
            )  # fmt: skip
            self._recent.append(_Recent(tally.seconds - self._seconds, flops))
            seconds = max(sum(step.seconds for step in self._recent), 1e-9)
            if pace.peak is not None:
                facts["peak_frac"] = sum(step.flops for step in self._recent) / seconds / pace.peak
            facts["seconds_left"] = (pace.num_steps - tally.step) * seconds / len(self._recent)
        self._seconds = tally.seconds
        memory_gb = pace.memory_gb()
        return facts if memory_gb is None else {**facts, "memory_gb": memory_gb}

    def _tell(self, trackers: Trackers, done: Step, tally: Tally, rate: float) -> None:
        if self._num_judged is None:
            # What a checkpoint holds was told before the interruption.
            self._num_judged = sum(one.step < tally.step - 1 for one in tally.judgements)
        self._tell_judgements(trackers, tally)
        values = {
            "loss": done.loss,
            "learning_rate": done.learning_rate,
            "grad_norm": done.grad_norm,
            "tokens_per_s": rate,
        }
        trackers.log(values, step=tally.step)
        self._tally = tally

    def _tell_judgements(self, trackers: Trackers, tally: Tally) -> None:
        """Each under the step that it was made after."""
        for one in tally.judgements[self._num_judged or 0 :]:
            trackers.log({f"validation_{trackers.metric}": one.value}, step=one.step)
        self._num_judged = len(tally.judgements)


@contextmanager
def monitoring(
    ctx: Context[Config], student: Parts, training: Training, *, team: Team | None = None
) -> Iterator[Monitor]:
    """A monitor of one training; it is closed however the training ends.

    Args:
        ctx: settings, checkpoint and the folder of the trackers.
        student: ready to train, on its device, with the threads it trains with.
        training: how.
        team: the processes that share it; only the first one tells trackers and measures.
    """
    from kpod.stages.student._trackers import trackers_of

    is_first = team is None or team.is_first
    monitor = Monitor(
        pace=_pace(student, training, num_processes=1 if team is None else team.size) if is_first else None,
        trackers=trackers_of(ctx, device=student.device.type) if is_first else None,
    )  # fmt: skip
    try:
        yield monitor
    finally:
        monitor.close()


def _pace(student: Parts, training: Training, *, num_processes: int) -> Pace:
    from kpod.stages.student._pace import memory_gb, peak_flops, work_of

    plan: Any = training.plan
    is_measured = plan.num_steps >= _MEASURED_FROM_STEPS
    return Pace(
        num_steps=plan.num_steps,
        num_sequences=min(plan.batch_size, plan.num_examples),
        work=work_of(student),
        peak=peak_flops(student) * num_processes if is_measured else None,
        memory_gb=lambda: memory_gb(student.device),
    )
