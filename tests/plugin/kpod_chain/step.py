"""Adds a number to every question; can be slow, die, and go on from where it was."""

import os
import signal
import time
from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Context, Doc, Ge, Input, Output, Question, Stage, StageError, Volatile
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to add."""

    add: Annotated[int, Doc("Added to every number.")] = 0
    modulo: Annotated[
        int | None,
        Doc("The rest of dividing by this is kept; several inputs give one output."),
        Ge(1),
    ] = None
    name: Annotated[str, Doc("Written into the journal."), Volatile()] = "step"
    pause_s: Annotated[float, Doc("Seconds to wait for each question."), Ge(0), Volatile()] = 0.0
    die_at: Annotated[
        int | None, Doc("SIGKILL oneself before this question, once."), Volatile()
    ] = None
    fail: Annotated[str | None, Doc("Fail with this message."), Volatile()] = None


class Step(Stage[Config]):
    """One step of the chain."""

    uses = "chain.step"
    version = 1
    questions = Input(Question, role="train")
    result = Output(Question, role="train")

    def run(self, ctx: Context[Config]) -> None:
        """Add, one question at a time, keeping what is done in the checkpoint."""
        config = ctx.config
        journal.write(config.name)
        if config.fail:
            raise StageError(config.fail)
        kept = ctx.checkpoint / "done.txt"
        done = kept.read_text(encoding="utf-8").split() if kept.exists() else []
        questions = list(ctx.read(self.questions))
        for index, question in enumerate(questions):
            if index < len(done):
                continue
            self._maybe_die(ctx, index)
            number = int(question.text) + config.add
            done.append(str(number if config.modulo is None else number % config.modulo))
            journal.write(f"{config.name}:{index}")
            kept.write_text(" ".join(done), encoding="utf-8")
            time.sleep(config.pause_s)
            ctx.progress(index + 1, len(questions), unit="numbers")
        with ctx.write(self.result) as out:
            for text in done:
                out.add(
                    Question.make(text, kind="numeric", answer=text, split="train", source="chain")
                )

    @staticmethod
    def _maybe_die(ctx: Context[Config], index: int) -> None:
        marker = ctx.checkpoint / "died.txt"
        if index == ctx.config.die_at and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
