"""AdamW over the parameters that train, with moments in fp32 or in 8 bits.

Source: Loshchilov & Hutter 2019 (AdamW); Dettmers et al. 2022, 8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861):
each 256 values of a moment share a scale, tensors under 4,096 elements keep theirs in fp32. beta and epsilon are those of
torch in all of them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kpod.runner import MissingExtra
from kpod.stages._lm.parts import Parts
from kpod.stages.student._settings import OptimizerName
from kpod.stages.student._training import Training

if TYPE_CHECKING:
    import torch


def trainable(student: Parts) -> dict[str, torch.nn.Parameter]:
    """The parameters that require a gradient, by name: matrices first, as the optimizer's groups have them."""
    named = {name: value for name, value in student.model.named_parameters() if value.requires_grad}
    return dict(sorted(named.items(), key=lambda item: item[1].dim() < 2))


def make_optimizer(
    parameters: dict[str, torch.nn.Parameter], training: Training, student: Parts
) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, as is usual for language models.

    Args:
        parameters: as `trainable` gives them.
        training: which AdamW, and its weight decay.
        student: on the device where it trains; paged moments are plain ones on a CPU (`optimizer_remark`).

    Raises:
        MissingExtra: the moments are to be in 8 bits, and bitsandbytes is not installed.
    """
    import torch

    matrices = [value for value in parameters.values() if value.dim() > 1]
    vectors = [value for value in parameters.values() if value.dim() < 2]
    groups = [
        {"params": values, "weight_decay": decay}
        for values, decay in ((matrices, training.weight_decay), (vectors, 0.0))
        if values
    ]
    device = student.device.type
    if training.optimizer != "adamw":
        return _in_8_bits(groups, training.optimizer, device=device)
    return torch.optim.AdamW(groups, lr=0.0, fused=device in {"cpu", "cuda"})


def _in_8_bits(
    groups: list[dict[str, Any]], name: OptimizerName, *, device: str
) -> torch.optim.Optimizer:
    if find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", needed_by=f"optimizer: {name}")
    from kpod.stages._lm.loading import quiet

    with quiet():
        from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit
    is_paged = name == "paged_adamw_8bit" and device != "cpu"
    made: torch.optim.Optimizer = (PagedAdamW8bit if is_paged else AdamW8bit)(groups, lr=0.0)
    return made


def optimizer_remark(name: OptimizerName, *, device: str) -> str | None:
    """What is to be said where another optimizer runs than the recipe names; None where nothing is.

    Args:
        name: as the recipe has it.
        device: torch's type of the device, e.g. "cpu".
    """
    if name == "paged_adamw_8bit" and device == "cpu":
        return "paged_adamw_8bit ran as adamw_8bit: paging means nothing on a CPU"
    return None
