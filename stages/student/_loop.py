"""The training loop: optimizer steps over a fixed order, with exact resume.

It is ours because it is the method (DESIGN 7): token weights and the progressive cut enter through the examples, whose
passages change from epoch to epoch. A training that was stopped and continued ends with the same bits as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.stages._lm.encoding import Example
from kpod.stages._lm.heap import kept_heap
from kpod.stages._lm.parts import Parts
from kpod.stages.student._checkpoints import Checkpoints
from kpod.stages.student._monitor import Monitor
from kpod.stages.student._norms import restore_norms
from kpod.stages.student._optimizer import make_optimizer, trainable
from kpod.stages.student._processes import ZeroTeam
from kpod.stages.student._sharded import ShardedParts, judged_together
from kpod.stages.student._sharded_checkpoints import ShardedCheckpoints
from kpod.stages.student._step import NotFinite, Step, run_step
from kpod.stages.student._tally import Tally
from kpod.stages.student._team import Alone, Team, tell_progress
from kpod.stages.student._training import Training
from kpod.stages.student._update import OwnUpdate, Update
from kpod.stages.student._zero import ZeroUpdate
from kpod.stages.student._zero_checkpoints import ZeroCheckpoints
from kpod.stages.student._zero_parts import ZeroParts

if TYPE_CHECKING:
    from kpod.runner import Context
    from kpod.stages.student._watch import Watch


def train(
    ctx: Context[Any],
    student: Parts,
    examples: Sequence[Example],
    training: Training,
    *,
    team: Team | None = None,
    monitor: Monitor | None = None,
    watch: Watch | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Train the student's parameters that require a gradient, in place.

    Args:
        ctx: its checkpoint folder is read first, and written every so often and before an interruption.
        student: the model, taken apart.
        examples: what the plan's indices mean.
        training: how.
        team: the processes that share every step; None: this one alone.
        monitor: told of every step.
        watch: judges the student as it goes; the best one is what is left. None: the last one is.
        clock: seconds, for checkpoints and rates.

    Returns:
        What was done, over all attempts.

    Raises:
        NotFinite: a loss or gradient is not; the text names the step's examples and the file that lists all of them.
        Interrupted: the run was asked to stop; the checkpoint is written.
    """
    team, monitor = team or Alone(), monitor or Monitor()
    update, checkpoints = _begin(ctx.checkpoint, student, training, team)
    tally = checkpoints.load()
    last = clock()
    checkpoints.saved_at = last
    student.model.train()
    with (
        _own_random_numbers(student),
        kept_heap(student.device.type),
        checkpoints.written_when_interrupted(tally),
    ):
        while True:
            if watch is not None and watch.is_due(tally, training.plan):
                with judged_together(student, team) as judges:
                    watch.observe(ctx, student, tally, plan=training.plan, team=judges)
                checkpoints.save_judged(tally)
                last = clock()
            if _is_over(tally, training, watch):
                break
            batch = [examples[index] for index in training.plan.indices(tally.step)]
            with _saved_where_not_finite(ctx.checkpoint, team):
                done = run_step(student, update, batch, training, step=tally.step, team=team)
            now = clock()
            _count(tally, done, training.plan.epoch(tally.step), now - last)
            last = now
            if checkpoints.is_due(now, must_stop=ctx.should_stop):
                checkpoints.save(tally)
                checkpoints.saved_at = last = clock()
            facts = monitor.after(done, tally)
            tell_progress(ctx, team, tally.step, training.plan.num_steps, facts)
    checkpoints.restore_best(tally)
    if isinstance(update, ZeroUpdate):
        update.end()
    student.model.eval()
    restore_norms(student.model)
    return tally


def _begin(
    folder: Path, student: Parts, training: Training, team: Team
) -> tuple[Update, Checkpoints]:
    """What makes the steps, and what keeps them: ours, or where processes spread the student, of those who do."""
    parameters = trainable(student)
    optimizer = make_optimizer(parameters, training, student)
    every_s = training.checkpoint_every_s
    if isinstance(team, ZeroTeam):
        zero = ZeroUpdate(student, optimizer, team=team, grad_clip=training.grad_clip)
        pieces = ZeroParts(zero, parameters, optimizer)
        return zero, ZeroCheckpoints(folder, pieces, team=team, every_s=every_s)
    kind = ShardedCheckpoints if isinstance(student, ShardedParts) else Checkpoints
    update = OwnUpdate(student, optimizer, team=team, grad_clip=training.grad_clip)
    return update, kind(folder, parameters, optimizer, team=team, every_s=every_s)


@contextmanager
def _saved_where_not_finite(folder: Path, team: Team) -> Iterator[None]:
    """Leave the ids of a step that had no finite loss or gradient beside the checkpoint, and say where."""
    try:
        yield
    except NotFinite as error:
        path = folder / "not_finite.json"
        if team.is_first:
            path.write_text(json.dumps(error.example_ids, indent=1) + "\n", encoding="utf-8")
        raise NotFinite(f"{error}\nall ids of the step: {path}", error.example_ids) from None


def _is_over(tally: Tally, training: Training, watch: Watch | None) -> bool:
    is_patient = watch is None or not watch.is_over(tally)
    return tally.step >= training.plan.num_steps or not is_patient


@contextmanager
def _own_random_numbers(student: Parts) -> Iterator[None]:
    """Dropout reads torch's global generators: whatever is done to them here is undone at the end."""
    import torch

    devices = [student.device] if student.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _count(tally: Tally, done: Step, epoch: int, seconds: float) -> None:
    """Add a step to the tally."""
    if len(tally.epoch_nats) < epoch:
        tally.epoch_nats.append(0.0)
        tally.epoch_shares.append(0.0)
        tally.epoch_targets.append(0)
    tally.epoch_nats[-1] += done.loss * done.denominator
    tally.epoch_shares[-1] += done.denominator
    tally.epoch_targets[-1] += done.num_targets
    tally.processed_tokens += done.num_tokens
    tally.padded_tokens += done.num_padded
    tally.seconds += seconds
    tally.step += 1
