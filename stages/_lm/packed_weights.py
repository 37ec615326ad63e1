"""Weights laid out once as the processor multiplies them, for models that only write.

A decode step multiplies few rows by large weights. Without packing, the CPU library lays the weights out anew at every product:
for 896 x 4864 in fp32 on one thread, 1.8 ms at 1 row and 4.9 ms at 16; packed, 1.9 and 2.7 ms. Prompts of a thousand tokens
cost the same either way. The products differ by float noise alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Smaller ones are multiplied faster as they are (measured: 256 x 1024 is even, 96 x 256 is twice as slow packed).
_SMALLEST = 2**18
_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")
# Rows that the layout is made for; from 2 to 1,024 rows it is as good as any other.
_ROWS = 16


def pack_weights(model: Any) -> int:
    """Pack the large linear layers of a model on a CPU in fp32; it can write afterwards, and not be trained or saved.

    Returns:
        How many layers were packed; none on another device, in another precision, or without oneDNN and the two operators of
        torch that this rests on, which are not part of its public interface (torch 2.13).
    """
    import torch

    one_dnn: Any = torch.backends.mkldnn
    if model.device.type != "cpu" or not one_dnn.is_available():
        return 0
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return 0
    layers = [
        module
        for module in model.modules()
        if type(module) is torch.nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.numel() >= _SMALLEST
    ]
    with torch.inference_mode():
        for layer in layers:
            _pack(layer)
    return len(layers)


def _pack(layer: Any) -> None:
    """Give the layer a packed weight; its own keeps only shape and type, which transformers asks for (T5)."""
    import torch

    weight = layer.weight
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
    layer.forward = partial(_product, packed=packed, bias=layer.bias)
    layer.weight = torch.nn.Parameter(weight.new_empty(1).expand(weight.shape), requires_grad=False)


def _product(inputs: Tensor, *, packed: Tensor, bias: Tensor | None) -> Tensor:
    import torch

    made: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")
    return made
