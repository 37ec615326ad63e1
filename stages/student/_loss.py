"""The loss of a micro-batch and its gradient, with logits made for targets only.

Source: Eq. 15 of KPOD (each target's negative log-likelihood counts by its weight; all weights 1 is Eq. 1). Hidden states
are gathered at target positions before the head, so prompt and padding never cost a row of the vocabulary (DESIGN 7).
N targets, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpod.stages._lm.parts import Parts
from kpod.stages._lm.parts import take_apart as take_model_apart
from kpod.stages._lm.passages import Batch
from kpod.stages.student._norms import use_fast_norms

if TYPE_CHECKING:
    import torch

# 2^24 float32 logits are 64 MB; a step with more is scored in pieces, each freed before the next.
_MAX_LOGITS = 1 << 24


def take_apart(model: Any, *, precision: str, probe_ids: tuple[int, ...]) -> Parts:
    """As `parts.take_apart`, with faster norms where they pay; `restore_norms` undoes them."""
    device = next(model.parameters()).device
    is_fast = precision == "fp32" and device.type == "cpu"
    return take_model_apart(
        model, precision=precision, probe_ids=probe_ids, prepare=use_fast_norms if is_fast else None
    )


def backward(student: Parts, batch: Batch, *, denominator: float) -> torch.Tensor:
    """Add the gradient of sum(weight * nll) / denominator to the parameters.

    Args:
        student: in training mode.
        batch: with at least one target.
        denominator: > 0, of the whole optimizer step: its targets, sequences or weights (`normalise`).

    Returns:
        Scalar float32 without gradient: this micro-batch's part of the step's loss, in nats.
    """
    import torch

    with torch.autocast(
        student.device.type, dtype=torch.bfloat16, enabled=student.precision == "bf16"
    ):
        hidden_ND = student.hidden(batch)
        size = max(1, _MAX_LOGITS // student.output_layer.weight.shape[0])
        if len(batch.targets) <= size:
            loss = _loss(student, hidden_ND, batch.targets, batch.weights, denominator)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        leaf_ND = hidden_ND.detach().requires_grad_()
        total = torch.zeros((), device=student.device)
        pieces = (torch.split(values, size) for values in (leaf_ND, batch.targets, batch.weights))
        for hidden, target, weight in zip(*pieces, strict=True):
            loss = _loss(student, hidden, target, weight, denominator)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        hidden_ND.backward(leaf_ND.grad)  # type: ignore[no-untyped-call]
    return total


def _loss(
    student: Parts,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    weight_N: torch.Tensor,
    denominator: float,
) -> torch.Tensor:
    import torch.nn.functional as F  # noqa: N812 - the name everybody knows

    logits_NV = student.head(hidden_ND).float()
    nll_N = F.cross_entropy(logits_NV, target_N, reduction="none")
    return (nll_N * weight_N).sum() / denominator
