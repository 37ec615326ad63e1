"""Adds up numbers, a step at a time, each process its share; can be slow, die, fail, and go on from where it was."""

import os
import signal
import time
from dataclasses import dataclass
from typing import Annotated

from kpod_chain import journal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Input,
    Interrupted,
    Output,
    Question,
    Stage,
    StageError,
    Volatile,
)
from kpod.stages.student._processes import team_of
from kpod.stages.student._team import tell_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to do."""

    steps: Annotated[int, Doc("How many."), Ge(1)] = 4
    pause_s: Annotated[float, Doc("Seconds to wait in each."), Ge(0), Volatile()] = 0.0
    die_at: Annotated[int | None, Doc("Rank 1 kills itself in this step, once."), Volatile()] = None
    fail_at: Annotated[int | None, Doc("All ranks fail in this step."), Volatile()] = None
    crash_at: Annotated[int | None, Doc("Rank 1 raises in this step."), Volatile()] = None


class Pull(Stage[Config]):
    """One sum a step."""

    uses = "crew.pull"
    version = 1
    parallel = True
    questions = Input(Question, role="train")
    result = Output(Question, role="train")

    def run(self, ctx: Context[Config]) -> None:
        """Add up, keeping what is done in the checkpoint of the first process."""
        team = team_of(ctx.placement)
        rank = getattr(team, "rank", 0)
        journal.write(f"pid:{rank}:{os.getpid()}")
        numbers = [int(question.text) for question in ctx.read(self.questions)]
        kept = ctx.checkpoint / "done.txt"
        done = [int(x) for x in kept.read_text().split()] if kept.exists() else []
        team.wait()
        try:
            while len(done) < ctx.config.steps:
                step = len(done)
                _mishap(ctx, rank, step)
                mine = sum((step + 1) * number for number in numbers[rank :: team.size])
                (total,) = team.sum_numbers(mine)
                done.append(int(total))
                if team.is_first:
                    kept.write_text(" ".join(map(str, done)))
                    journal.write(f"step:{step}")
                time.sleep(ctx.config.pause_s)
                tell_progress(ctx, team, len(done), ctx.config.steps, {"size": team.size})
        except Interrupted:
            journal.write(f"stopped:{rank}:{len(done)}")
            raise
        if not team.is_first:
            return
        ctx.note("summary", f"{team.size} pulled")
        with ctx.write(self.result) as out:
            for total in done:
                out.add(
                    Question.make(
                        f"{total}", kind="numeric", answer="1", split="train", source="crew"
                    )
                )


def _mishap(ctx: Context[Config], rank: int, step: int) -> None:
    config, marker = ctx.config, ctx.checkpoint / "died.txt"
    if config.fail_at == step:
        raise StageError("the rope is too short")
    if rank == 1 and config.crash_at == step:
        raise ValueError("the rope broke")
    if rank == 1 and config.die_at == step and not marker.exists():
        print("about to die", flush=True)
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
