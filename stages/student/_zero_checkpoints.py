"""Checkpoints of a training that DeepSpeed spreads: the same files, gathered by all processes, written by the first, read by each.

A training may go on with another number of processes, under another stage, or without DeepSpeed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kpod.stages._lm.training_state import save_state
from kpod.stages.student._best import save_best
from kpod.stages.student._checkpoints import Checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from kpod.stages.student._tally import Tally
    from kpod.stages.student._team import Team
    from kpod.stages.student._zero_parts import ZeroParts

_MOMENTS = ("exp_avg", "exp_avg_sq")


class ZeroCheckpoints(Checkpoints):
    """As `Checkpoints`; all processes must call every method that writes."""

    def __init__(self, folder: Path, pieces: ZeroParts, *, team: Team, every_s: float) -> None:
        # What reads files fills in whole tensors.
        fillable = {name: _Fillable(pieces, name) for name in pieces.names}
        super().__init__(
            folder,
            cast("dict[str, torch.nn.Parameter]", fillable),
            cast("torch.optim.Optimizer", _FillableOptimizer(pieces)),
            team=team,
            every_s=every_s,
        )
        self._pieces = pieces

    def _write(self, tally: Tally) -> None:
        keep = self._team.is_first
        whole = self._pieces.gathered(keep=keep)
        state = _State()
        for slot in _MOMENTS if self._pieces.num_steps else ():
            for name, value in self._pieces.gathered(slot, keep=keep).items():
                state.of(whole[name])[slot] = value
        if keep:
            for slots in state.state.values():
                slots["step"] = self._pieces.counted()
            save_state(
                self._folder, tally.to_json(), step=tally.step, parameters=whole,
                optimizer=cast("torch.optim.Optimizer", state),
            )  # fmt: skip

    def _write_best(self, tally: Tally) -> None:
        whole = self._pieces.gathered(keep=self._team.is_first)
        if self._team.is_first:
            save_best(self._folder, whole, step=tally.step)


class _Fillable:
    """Takes a whole tensor as a parameter would."""

    def __init__(self, pieces: ZeroParts, name: str) -> None:
        self._pieces = pieces
        self._name = name
        self.shape = pieces.shape(name)

    def copy_(self, whole: torch.Tensor) -> None:
        """Fill the parameter, and the part of it that this process steps."""
        self._pieces.fill(self._name, whole)


class _FillableOptimizer:
    """Takes moments of whole parameters as an optimizer would."""

    def __init__(self, pieces: ZeroParts) -> None:
        self._pieces = pieces

    def state_dict(self) -> dict[str, Any]:
        """Only its groups are asked for, and given back."""
        return {"param_groups": []}

    def load_state_dict(self, said: dict[str, Any]) -> None:
        """Fill the optimizer."""
        states: dict[int, dict[str, Any]] = said["state"]
        if not states:
            return
        self._pieces.begin_moments(num_steps=int(next(iter(states.values()))["step"]))
        for index, name in enumerate(self._pieces.names):
            for slot in _MOMENTS:
                if index in states:
                    self._pieces.fill(name, states[index][slot], slot=slot)


class _State:
    """The moments of whole parameters, where `save_state` looks for an optimizer's."""

    def __init__(self) -> None:
        self.state: dict[torch.Tensor, dict[str, Any]] = {}

    def of(self, whole: torch.Tensor) -> dict[str, Any]:
        """Of one of them."""
        return self.state.setdefault(whole, {})
