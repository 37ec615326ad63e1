"""The weights and moments of a training that DeepSpeed spreads, seen as whole tensors: gathered, and filled in.

It keeps parameters of a group flat in one tensor, of which each process steps a part; its own functions put the parts together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpod.stages.student._zero import quiet_collectives

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from kpod.stages.student._zero import ZeroUpdate

_WEIGHTS_TOO = 3


class ZeroParts:
    """Trained parameters and AdamW's moments over them; all processes must call every method together.

    Args:
        update: the training.
        parameters: the trained ones, by name, in the order the optimizer was given them.
        optimizer: AdamW, which now holds flat parts.

    Attributes:
        names: of the parameters.
    """

    def __init__(
        self,
        update: ZeroUpdate,
        parameters: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._zero = update.engine.optimizer
        self._is_spread = update.settings.stage == _WEIGHTS_TOO
        self._parameters = parameters
        self._optimizer = optimizer
        self.names = tuple(parameters)

    def shape(self, name: str) -> torch.Size:
        """Of the whole parameter."""
        parameter: Any = self._parameters[name]
        return parameter.ds_shape if self._is_spread else parameter.shape  # type: ignore[no-any-return]

    def gathered(self, slot: str | None = None, *, keep: bool) -> dict[str, torch.Tensor]:
        """Whole parameters, or whole moments, in main memory; empty where they are not wanted.

        Args:
            slot: of AdamW; None: the parameters.
            keep: whether this process wants them.
        """
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        self._link()
        found = {}
        for name, parameter in self._parameters.items():
            with quiet_collectives():
                if slot is not None:
                    whole = safe_get_full_optimizer_state(parameter, slot)
                elif self._is_spread:
                    whole = safe_get_full_fp32_param(parameter)
                else:
                    whole = parameter.detach()
            if keep:
                found[name] = whole.detach().cpu().reshape(self.shape(name))
        return found

    @property
    def num_steps(self) -> int:
        """Optimizer steps that the moments have seen."""
        counted = self._optimizer.state.get(self._flat[0], {}).get("step", 0)
        return int(counted)

    def counted(self) -> torch.Tensor:
        """`num_steps`, as AdamW keeps it beside each moment."""
        return self._optimizer.state[self._flat[0]]["step"].clone()  # type: ignore[no-any-return]

    def begin_moments(self, *, num_steps: int) -> None:
        """Make moments of zeros, to be filled."""
        import torch

        for flat in self._flat:
            self._optimizer.state[flat] = {
                "step": torch.tensor(float(num_steps), device=flat.device),
                "exp_avg": torch.zeros_like(flat),
                "exp_avg_sq": torch.zeros_like(flat),
            }
        self._link()

    def fill(self, name: str, whole: torch.Tensor, *, slot: str | None = None) -> None:
        """Put a whole parameter or moment in; nothing is communicated."""
        parameter: Any = self._parameters[name]
        value = whole.to(device=self._flat[0].device, dtype=self._flat[0].dtype)
        if self._is_spread:
            _fill_part(parameter, value, slot)
        else:
            _fill_whole(parameter, value, slot)

    @property
    def _flat(self) -> list[torch.Tensor]:
        """What AdamW steps on this process, by group of parameters."""
        zero = self._zero
        found: list[torch.Tensor] = (
            zero.fp32_partitioned_groups_flat
            if self._is_spread
            else zero.single_partition_of_fp32_groups
        )
        return found

    def _link(self) -> None:
        """DeepSpeed 0.19.8 looks for moments after its first group was stepped, and never again for the others."""
        if self._is_spread:
            return
        for group, flat in zip(self._zero.bit16_groups, self._flat, strict=True):
            for parameter in group:
                if parameter._hp_mapping is not None:
                    state = self._optimizer.state.get(flat, {})
                    parameter._hp_mapping.set_optim_state_fragment(flat, state)


def _fill_whole(parameter: Any, whole: torch.Tensor, slot: str | None) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if slot is not None:
        safe_set_full_optimizer_state(parameter, whole, slot)
        return
    parameter.data.copy_(whole)
    safe_set_full_fp32_param(parameter, whole)


def _fill_part(parameter: Any, whole: torch.Tensor, slot: str | None) -> None:
    """Of whole tensors DeepSpeed takes only those that divide evenly, so each process takes its part itself."""
    import torch
    import torch.distributed as dist
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    size = parameter.ds_tensor.numel()
    begin = size * dist.get_rank()
    part = torch.zeros(size, device=whole.device, dtype=whole.dtype)
    own = whole.flatten()[begin : begin + size]
    part[: own.numel()] = own
    if slot is not None:
        safe_set_local_optimizer_state(parameter, part, slot)
        return
    safe_set_local_fp32_param(parameter, part)
    parameter.ds_tensor.data.copy_(part)
