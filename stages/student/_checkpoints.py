"""The files from which a training goes on: its state, and the best student so far. There whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner import Interrupted
from kpod.stages._lm.training_state import UnreadableState, load_state, save_state, state_facts
from kpod.stages.student._best import drop_others, has_best, load_best, save_best
from kpod.stages.student._tally import Tally

if TYPE_CHECKING:
    import torch

    from kpod.stages.student._team import Team


class Checkpoints:
    """Writes the state of a training at its times, and puts it back.

    Args:
        folder: of the files; it belongs to this training alone.
        parameters: the trained ones, by name.
        optimizer: over these.
        team: its first process writes, the others wait.
        every_s: seconds between two states.

    Attributes:
        saved_at: when the state was written last, by the loop's clock.
    """

    def __init__(
        self,
        folder: Path,
        parameters: dict[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        team: Team,
        every_s: float,
    ) -> None:
        self._folder = folder
        self._parameters = parameters
        self._optimizer = optimizer
        self._team = team
        self._every_s = every_s
        self._saved = (0, 0)
        self.saved_at = 0.0

    def load(self) -> Tally:
        """Put back the state that is there; where it cannot be read, training starts anew and the tally says why."""
        try:
            facts = state_facts(self._folder, parameters=self._parameters)
            tally = self._tally(facts)
        except UnreadableState as error:
            return Tally(refused=str(error))
        if facts is not None:
            load_state(self._folder, parameters=self._parameters, optimizer=self._optimizer)
        self._saved = _place(tally)
        return tally

    def _tally(self, facts: dict[str, Any] | None) -> Tally:
        try:
            tally = Tally.from_json(facts or {})
        except TypeError as error:
            raise UnreadableState(
                f"the checkpoint was written by another version of kpod ({error})"
            ) from error
        if tally.best_step is not None and not has_best(self._folder, step=tally.best_step):
            raise UnreadableState(
                f"the weights of the best student, after step {tally.best_step}, are gone or cut short"
            )
        return tally

    def is_due(self, now: float, *, must_stop: bool) -> bool:
        """Whether the state is to be written now; all processes say the same."""
        return self._team.any(must_stop or now - self.saved_at >= self._every_s)

    def save(self, tally: Tally) -> None:
        """Write the state."""
        self._write(tally)
        self._team.wait()
        self._saved = _place(tally)

    def _write(self, tally: Tally) -> None:
        if self._team.is_first:
            save_state(
                self._folder, tally.to_json(), step=tally.step,
                parameters=self._parameters, optimizer=self._optimizer,
            )  # fmt: skip

    def save_judged(self, tally: Tally) -> None:
        """Write the state after a judgement, and the student's weights where it is the best so far."""
        if tally.best_step == tally.step:
            self._write_best(tally)
        self.save(tally)
        if self._team.is_first and tally.best_step is not None:
            drop_others(self._folder, step=tally.best_step)

    def _write_best(self, tally: Tally) -> None:
        if self._team.is_first:
            save_best(self._folder, self._parameters, step=tally.step)

    def restore_best(self, tally: Tally) -> None:
        """Put the best student's weights back, where the last one is not the best."""
        if tally.kept_step != tally.step:
            load_best(self._folder, self._parameters, step=tally.kept_step)

    @contextmanager
    def written_when_interrupted(self, tally: Tally) -> Iterator[None]:
        """Write the state before an interruption goes on its way, if the last one is older."""
        try:
            yield
        except Interrupted:
            if self._saved != _place(tally):
                self.save(tally)
            raise


def _place(tally: Tally) -> tuple[int, int]:
    """Where a training stands: two states at one place are equal."""
    return tally.step, len(tally.judgements)
