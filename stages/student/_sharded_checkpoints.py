"""Checkpoints of a student in pieces: the same files, gathered by all processes, written by the first, read by each for itself.

A training may go on with another number of processes, or with none that share the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kpod.stages._lm.training_state import save_state
from kpod.stages.student._best import save_best
from kpod.stages.student._checkpoints import Checkpoints
from kpod.stages.student._sharded import gathered, gathered_all, is_in_pieces, own_part

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from kpod.stages.student._tally import Tally
    from kpod.stages.student._team import Team


class ShardedCheckpoints(Checkpoints):
    """As `Checkpoints`; all processes must call every method that writes."""

    def __init__(
        self,
        folder: Path,
        parameters: dict[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        team: Team,
        every_s: float,
    ) -> None:
        # What reads files fills in whole tensors.
        fillable = {name: _Fillable(value) for name, value in parameters.items()}
        super().__init__(
            folder,
            cast("dict[str, torch.nn.Parameter]", fillable),
            cast("torch.optim.Optimizer", _FillableOptimizer(optimizer, list(parameters.values()))),
            team=team,
            every_s=every_s,
        )
        self._pieces = parameters
        self._moments = optimizer

    def _write(self, tally: Tally) -> None:
        keep = self._team.is_first
        whole = gathered_all(self._pieces, keep=keep)
        state = _gathered_state(self._pieces, self._moments, whole, keep=keep)
        if keep:
            save_state(
                self._folder, tally.to_json(), step=tally.step, parameters=whole,
                optimizer=cast("torch.optim.Optimizer", state),
            )  # fmt: skip

    def _write_best(self, tally: Tally) -> None:
        whole = gathered_all(self._pieces, keep=self._team.is_first)
        if self._team.is_first:
            save_best(self._folder, whole, step=tally.step)


class _Fillable:
    """Takes a whole tensor as a parameter would, and keeps this process's part of it."""

    def __init__(self, parameter: torch.nn.Parameter) -> None:
        self._parameter = parameter
        self.shape = parameter.shape

    def copy_(self, whole: torch.Tensor) -> None:
        """Fill the parameter."""
        self._parameter.copy_(own_part(whole, self._parameter))


class _FillableOptimizer:
    """Takes moments of whole parameters as an optimizer would, and keeps this process's part of them."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]
    ) -> None:
        self._optimizer = optimizer
        self._parameters = parameters

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's."""
        return self._optimizer.state_dict()

    def load_state_dict(self, said: dict[str, Any]) -> None:
        """Fill the optimizer."""
        state = {
            index: {slot: _part(value, self._parameters[index]) for slot, value in slots.items()}
            for index, slots in said["state"].items()
        }
        self._optimizer.load_state_dict({**said, "state": state})


def _part(value: Any, parameter: torch.nn.Parameter) -> Any:
    """Moments are as large as their parameter; what counts steps is not."""
    is_moment = getattr(value, "shape", None) == parameter.shape
    return own_part(value, parameter) if is_moment else value


class _State:
    """The moments of whole parameters, where `save_state` looks for an optimizer's."""

    def __init__(self, state: Mapping[torch.Tensor, dict[str, Any]]) -> None:
        self.state = state


def _gathered_state(
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    whole: Mapping[str, torch.Tensor],
    *,
    keep: bool,
) -> _State:
    state: dict[torch.Tensor, dict[str, Any]] = {}
    for name, parameter in parameters.items():
        slots = {
            slot: gathered(value, keep=keep) if is_in_pieces(value) else value
            for slot, value in optimizer.state.get(parameter, {}).items()
        }
        if keep and slots:
            state[whole[name]] = slots
    return _State(state)
