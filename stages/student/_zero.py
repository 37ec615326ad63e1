"""A training that DeepSpeed spreads over processes (ZeRO): moments, gradients and weights in parts, by its stage.

Source: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054). The loop, the denominators, the learning rate and AdamW stay ours; its
engine adds the gradients up, clips them and steps. It would average: over processes, which its sum or our factor undoes,
and over micro-batches, which it is told there are none of.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kpod.runner import StageError, ZeroSettings
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Batch
from kpod.stages.student._loss import pieces_needed, whole_loss
from kpod.stages.student._norms import restore_norms
from kpod.stages.student._optimizer import trainable
from kpod.stages.student._processes import ZeroTeam

if TYPE_CHECKING:
    import torch

# The first that was tried; earlier ones read `gradient_allreduce_op` and `managed_gradient_accumulation` as nothing.
_OLDEST = (0, 19, 8)
# Which also averages gradients whatever it is told.
_WEIGHTS_TOO = 3
_BUCKET = 500_000_000  # DeepSpeed's default
_RENAMED = r"`torch\.distributed\.\w+` is deprecated"


class ZeroUpdate:
    """An `Update` that DeepSpeed's engine makes; all processes must call every method together.

    Args:
        student: whole on every process; taken over.
        optimizer: over its trainable parameters; taken over.
        team: all of these.
        grad_clip: largest norm; None: no limit.

    Attributes:
        engine: DeepSpeed's.
        settings: how it spreads.
    """

    def __init__(
        self,
        student: Parts,
        optimizer: torch.optim.Optimizer,
        *,
        team: ZeroTeam,
        grad_clip: float | None,
    ) -> None:
        self.settings = team.settings
        self._student = student
        self._team = team
        if self.settings.stage == _WEIGHTS_TOO:
            # Ours keep weights for the backward pass, which are gone by then.
            restore_norms(student.model)
        self._optimizer = optimizer
        self._factor = float(team.size) if self.settings.stage == _WEIGHTS_TOO else 1.0
        num_trained = sum(value.numel() for value in trainable(student).values())
        deepspeed = deepspeed_for(student.device)
        with quiet_collectives():
            self.engine, *_ = deepspeed.initialize(
                model=_root_class()(student.model, self._loss),
                optimizer=optimizer,
                config=engine_config(self.settings, grad_clip=grad_clip, num_trained=num_trained),
            )

    def _loss(self, batch: Batch, denominator: float) -> torch.Tensor:
        num_pieces = pieces_needed(self._student, batch)
        if self.settings.stage == _WEIGHTS_TOO:
            # Each call of the head gathers it, so all processes must call it as often.
            num_pieces = self._team.most(num_pieces)
        return whole_loss(self._student, batch, denominator=denominator, num_pieces=num_pieces)

    def backward(self, batch: Batch, *, denominator: float) -> torch.Tensor:
        """Into DeepSpeed's parts of the gradient, or at its next step."""
        with quiet_collectives():
            loss = self.engine(batch, denominator)
            self.engine.backward(loss * self._factor, scale_wrt_gas=False)
        return loss.detach()  # type: ignore[no-any-return]

    def apply(self, rate: float, *, is_wanted: bool) -> float:
        """As `Update` has it; DeepSpeed leaves out a step whose gradient is not finite."""
        if not is_wanted:
            return float("nan")
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with quiet_collectives():
            self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def end(self) -> None:
        """Leave the student as torch has it: whole on every process, or on the first where weights were in parts.

        Frozen weights that were in parts stay behind, since nobody saves them.
        """
        import deepspeed

        whole: dict[str, torch.Tensor] = {}
        for name, parameter in trainable(self._student).items():
            if self.settings.stage != _WEIGHTS_TOO:
                whole[name] = parameter.detach().clone()
                continue
            with quiet_collectives(), deepspeed.zero.GatheredParameters([parameter]):
                if self._team.is_first:
                    whole[name] = parameter.detach().to("cpu", copy=True)
        self.engine.destroy()
        for name, parameter in trainable(self._student).items():
            if name in whole:
                parameter.data = whole[name]


def engine_config(
    settings: ZeroSettings, *, grad_clip: float | None, num_trained: int
) -> dict[str, Any]:
    """What DeepSpeed is told.

    Args:
        settings: how it spreads.
        grad_clip: largest norm of a gradient; None: no limit.
        num_trained: numbers that train.
    """
    # It makes a buffer of so many numbers at once, by default of half a billion.
    bucket = {"reduce_bucket_size": min(num_trained, _BUCKET)}
    return {
        # Ours say how many; it needs numbers.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # A step ends when we say so, after as many micro-batches as it has.
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if grad_clip is None else grad_clip,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {**bucket, **settings.passed, "stage": settings.stage},
        **({} if settings.stage == _WEIGHTS_TOO else {"gradient_allreduce_op": "sum"}),
        **settings.told,
    }


def deepspeed_for(device: torch.device) -> Any:
    """The library, told what it computes on.

    Raises:
        StageError: it is too old.
    """
    found = version("deepspeed")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:3])
    if numbers < _OLDEST:
        raise StageError(
            f"deepspeed is {found}, which averages where a step's gradient must be a sum\n"
            f'allowed: {".".join(map(str, _OLDEST))} or later: pip install --upgrade "kpod[deepspeed]"'
        )
    # Read when it is imported: a process may be told to leave its GPU alone.
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    with quiet_collectives():
        import deepspeed
    if device.type == "cpu":
        # It would look for compilers and build its sums over shared memory, for minutes; only its inference uses them.
        deepspeed.ops.__compatible_ops__ = {}
    return deepspeed


@contextmanager
def quiet_collectives() -> Iterator[None]:
    """DeepSpeed calls torch's collectives by names that torch renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _RENAMED, FutureWarning)
        yield


@cache
def _root_class() -> Any:
    """The module that DeepSpeed is given: it computes the loss itself; made once torch is there."""
    import torch

    class Root(torch.nn.Module):
        def __init__(self, model: Any, loss: Callable[[Batch, float], torch.Tensor]) -> None:
            super().__init__()
            self.model = model
            self._loss = loss

        def forward(self, batch: Batch, denominator: float) -> torch.Tensor:
            return self._loss(batch, denominator)

    return Root
