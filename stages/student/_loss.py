"""The loss of a micro-batch and its gradient, with logits made for targets only.

Source: Eq. 1 of KPOD (sum of the targets' negative log-likelihoods); the hidden states are gathered at target positions
before the head, so prompt and padding never cost a row of the vocabulary (DESIGN 7). N targets, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import StageError
from kpod.stages.student._batches import MicroBatch
from kpod.stages.student._norms import use_fast_norms

if TYPE_CHECKING:
    import torch

# 2^24 float32 logits are 64 MB; a step with more is scored in pieces, each freed before the next.
_MAX_LOGITS = 1 << 24


class Student(NamedTuple):
    """A causal language model, taken apart where the loss enters.

    Args:
        model: the whole, as peft or transformers made it.
        backbone: token ids to hidden states.
        head: hidden states to logits.
        precision: fp32, or bf16 (autocast).
    """

    model: Any
    backbone: Any
    head: Any
    precision: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]


def take_apart(model: Any, *, precision: str, probe_ids: tuple[int, ...]) -> Student:
    """The model's backbone and head, made fast for training and checked to give the model's own logits.

    `restore_norms` undoes what was made fast.

    Raises:
        StageError: the architecture does something to its logits after the head, which would be left out.
    """
    import torch

    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    student = Student(model, causal_lm.get_decoder(), causal_lm.get_output_embeddings(), precision)
    ids_BT = torch.tensor([probe_ids], device=student.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=ids_BT, use_cache=False).logits.float()
        if precision == "fp32" and student.device.type == "cpu":
            use_fast_norms(model)
        actual = student.head(_hidden(student, ids_BT)).float()
    model.train(was_training)
    # Rounding is far smaller than this, a scaling or a soft cap far larger.
    if not torch.allclose(actual, expected, rtol=1e-2, atol=1e-3):
        raise StageError(
            f"{type(causal_lm).__name__} changes its logits after the output layer, which this training loop leaves out\n"
            "allowed: architectures with a plain output layer, such as Qwen2, Qwen3, Llama, Mistral"
        )
    return student


def backward(student: Student, batch: MicroBatch, *, denominator: float) -> torch.Tensor:
    """Add the gradient of sum(weight * nll) / denominator to the parameters.

    Args:
        student: in training mode.
        batch: with at least one target.
        denominator: > 0; for a mean over targets, the number of targets of the whole optimizer step.

    Returns:
        Scalar float32 without gradient: this micro-batch's part of the step's loss, in nats a target token.
    """
    import torch

    with torch.autocast(
        student.device.type, dtype=torch.bfloat16, enabled=student.precision == "bf16"
    ):
        hidden_BTD = _hidden(student, batch.inputs)
        hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.positions)
        size = max(1, _MAX_LOGITS // student.head.weight.shape[0])
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


def _hidden(student: Student, input_BT: torch.Tensor) -> torch.Tensor:
    return student.backbone(input_ids=input_BT, use_cache=False).last_hidden_state  # type: ignore[no-any-return]


def _loss(
    student: Student,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    weight_N: torch.Tensor,
    denominator: float,
) -> torch.Tensor:
    import torch.nn.functional as F  # noqa: N812 - the name everybody knows

    logits_NV = student.head(hidden_ND).float()
    nll_N = F.cross_entropy(logits_NV, target_N, reduction="none")
    return (nll_N * weight_N).sum() / denominator
