"""LoRA layers in fewer passes over memory, while a student trains, in fp32 or in bf16.

peft computes y = x W' + s (x A') B' as three products, a scaling and a sum, each through a module and a node of autograd's graph;
here it is one node with its gradient written out, and what is added is added by the product itself.
With g the gradient of y: dx = g W + (s g B) A, dA = (s g B)' x, dB = s g' (x A'). Under dropout the adapter reads another x than the layer.
Source: Hu et al. 2022 (arXiv 2106.09685), section 4.1. Measured on one busy thread of a Cascade Lake, least of 20 to 180 times forward and backward, r 8: 1400 rows, 96 -> 256:
4.6 ms before, 2.9 after; 96 -> 96: 2.2, 1.3; 492 rows, 896 -> 4864: 95, 83; 4864 -> 896: 91, 94. On a GPU, where peft casts what its
adapters read to fp32 and autocast casts it back: Qwen2.5-0.5B's shape in bf16, H100, 57,883 tokens a second before, 70,064 after.
N rows, I and O width of input and output, R rank.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def use_fast_adapters(model: Any) -> None:
    """Give every plain LoRA layer the faster computation, in place.

    Left to peft are layers with DoRA, a bias of their own, several adapters, quantised weights, or a half-precision adapter.
    """
    for module in model.modules():
        if _is_plain(module):
            module.forward = partial(_forward, module)


def restore_adapters(model: Any) -> None:
    """Undo `use_fast_adapters`."""
    for module in model.modules():
        own = vars(module).get("forward")
        if isinstance(own, partial) and own.func is _forward:
            del module.forward


def _is_plain(module: Any) -> bool:
    """Whether a module is a LoRA layer over a plain linear one that trains nothing but its two matrices, in fp32."""
    import torch

    if not (type(module).__module__.startswith("peft.") and type(module).__name__ == "Linear"):
        return False
    if len(module.active_adapters) != 1 or list(module.lora_A) != list(module.active_adapters):
        return False
    (name,) = module.lora_A
    base, down, up = module.base_layer, module.lora_A[name], module.lora_B[name]
    return (
        type(base) is torch.nn.Linear
        and not any(parameter.requires_grad for parameter in base.parameters())
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], torch.nn.Identity | torch.nn.Dropout)
        and down.bias is None
        and up.bias is None
        and base.weight.dtype in {torch.float32, torch.bfloat16}
        and {down.weight.dtype, up.weight.dtype} == {torch.float32}
    )


def _forward(module: Any, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    import torch

    base = module.base_layer
    is_other = args or kwargs or module.merged or module.disable_adapters
    if is_other or not hidden.dtype == base.weight.dtype == _computed_in(hidden):
        return type(module).forward(module, hidden, *args, **kwargs)  # type: ignore[no-any-return]
    (name,) = module.lora_A
    dropout = module.lora_dropout[name]
    read = dropout(hidden) if isinstance(dropout, torch.nn.Dropout) else None
    return _linear().apply(  # type: ignore[no-any-return]
        hidden, read, base.weight, base.bias, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
    )  # fmt: skip


def _computed_in(hidden: torch.Tensor) -> torch.dtype:
    """What a product of these is computed in: under autocast not what they are held in."""
    import torch

    device = hidden.device.type
    is_cast = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_cast else hidden.dtype


def _narrow(wide_NW: torch.Tensor, matrix_WR: torch.Tensor) -> torch.Tensor:
    """Their product [N, R]; in fp32 worked out as R rows against many columns.

    MKL takes half to a quarter of the time for that where R is 8, and the same where it is 16 (Zen 4, one thread, 1,071 rows of
    256: 81 us, not 308); all of LoRA's own products: 96 -> 256 297 us, not 558; 896 -> 4864 4.0 ms, not 6.3. In bf16 it is none faster.
    """
    import torch

    if wide_NW.dtype != torch.float32:
        return torch.mm(wide_NW, matrix_WR)
    return torch.mm(matrix_WR.t(), wide_NW.t()).t()


@cache
def _linear() -> Any:
    """The autograd function; made once torch is there. `read` is what the adapter reads under dropout; None: what the layer reads."""
    import torch

    class LowRankLinear(torch.autograd.Function):
        @staticmethod
        def forward(  # noqa: PLR0917 - autograd hands over positions
            ctx: Any,
            hidden: Any,
            read: Any,
            weight: Any,
            bias: Any,
            down: Any,
            up: Any,
            scale: float,
        ) -> Any:
            ctx.held, ctx.scale, ctx.is_dropped = down.dtype, scale, read is not None
            read = read if ctx.is_dropped else hidden
            down, up = down.to(hidden.dtype), up.to(hidden.dtype)
            low_NR = _narrow(read.reshape(-1, read.shape[-1]), down.t())
            out_NO = torch.nn.functional.linear(hidden.reshape(-1, hidden.shape[-1]), weight, bias)
            out_NO.addmm_(low_NR, up.t(), alpha=scale)
            ctx.save_for_backward(read, low_NR, weight, down, up)
            return out_NO.view(*hidden.shape[:-1], -1)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            read, low_NR, weight, down, up = ctx.saved_tensors
            needs_hidden, needs_read, _, _, needs_down, needs_up, _ = ctx.needs_input_grad
            out_NO = gradients[0].reshape(-1, gradients[0].shape[-1])
            d_hidden = d_read = d_down = d_up = None
            if needs_up:
                # R rows against many columns: half the time of many rows against R columns
                d_up = torch.mm(low_NR.t(), out_NO).to(ctx.held).mul_(ctx.scale).t()
            d_low_NR = _narrow(out_NO, up).mul_(ctx.scale)
            if needs_down:
                d_down = torch.mm(d_low_NR.t(), read.reshape(-1, read.shape[-1])).to(ctx.held)
            if needs_read:
                d_read = torch.mm(d_low_NR, down).view_as(read)
            if needs_hidden:
                d_hidden = torch.mm(out_NO, weight)
                if not ctx.is_dropped:
                    d_hidden.addmm_(d_low_NR, down)
                d_hidden = d_hidden.view_as(read)
            return d_hidden, d_read, None, None, d_down, d_up, None

    return LowRankLinear
