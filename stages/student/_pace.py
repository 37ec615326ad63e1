"""How hard the machine works while a student trains: the arithmetic of a step against the fastest product of matrices here.

Counted is what the method needs (Chowdhery et al. 2022, PaLM, App. B, "model FLOPs utilization"): padding, activations that are
computed twice, and the optimizer are time without arithmetic. A matrix of N entries costs a token, at 2 FLOPs a multiply-add,
2 N forward, 2 N for the gradient of what went in and, only where it trains, 2 N for its own gradient. The output layer, and
beside adapters the last feed-forward block, are computed for targets only. Attention, with n tokens to look at, costs 4 n a FLOPs a token and layer forward (queries by keys,
weights by values; a = heads times their width), half of it where it is causal, and twice as much backward.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.stages._lm.parts import Parts
from kpod.stages.student._last_block import targets_only_block

if TYPE_CHECKING:
    import torch

# A product is repeated for so long, in seconds; the fastest repetition counts.
_MEASURED_S = 0.08
# Rows of the product, and its greatest width: a CPU is as fast at 1024 as at more, and a product there takes 20 ms of one core.
_CPU_ROWS, _CPU_WIDTH, _CUDA_ROWS = 512, 1024, 8192
_CROSS = ("EncDecAttention.k", "EncDecAttention.v")


class Work(NamedTuple):
    """What a token costs, forward and backward.

    Args:
        context: FLOPs of the matrices for a token that is only read.
        target: for a token that is predicted, the output layer included.
        encoder, causal, cross: FLOPs of attention for a token and each token that it may look at, over all layers:
            everything in an encoder, what came before in a decoder, the encoder's from a decoder.
    """

    context: float
    target: float
    encoder: float
    causal: float
    cross: float

    def of_step(self, *, num_sequences: int, num_tokens: int, num_targets: int) -> float:
        """FLOPs of an optimizer step whose sequences are about equally long.

        Args:
            num_sequences: of the step.
            num_tokens: context and targets, without padding.
            num_targets: of these.
        """
        num_context = num_tokens - num_targets
        matrices = self.context * num_context + self.target * num_targets
        if not self.encoder:
            return matrices + self.causal * num_tokens * num_tokens / num_sequences
        read, said = num_context / num_sequences, num_targets / num_sequences
        looks = self.encoder * read * read + self.causal * said * said + self.cross * said * read
        return matrices + looks * num_sequences


def work_of(student: Parts) -> Work:
    """What a token costs this student, by its linear layers (a 4-bit one counts as what it stands for)."""
    import torch

    block = targets_only_block(student)
    at_targets = set() if block is None else set(block.modules())
    body = encoder = cross = last = 0.0
    for name, module in student.inner.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is student.output_layer:
            continue
        cost = _cost(module)
        body += cost
        last += cost if module in at_targets else 0.0
        if ".encoder." in f".{name}.":
            encoder += cost
        elif any(f".{part}." in f".{name}." for part in _CROSS):
            cross += cost
    head = _cost(student.output_layer)
    whole, half = _attention(student.inner.config)
    if student.encoder is None:
        return Work(body - last, body + head, 0.0, half, 0.0)
    return Work(encoder + cross, body - encoder - cross + head, whole, half, whole)


def _cost(linear: Any) -> float:
    """FLOPs a token: forward, the input's gradient, and the weights' where they train."""
    size = linear.in_features * linear.out_features
    return float(size * (6 if linear.weight.requires_grad else 4))


def _attention(config: Any) -> tuple[float, float]:
    """FLOPs for a token and each token that there is to look at, over all layers of a stack: all of them, or half (causal)."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    size = heads * (width or config.hidden_size // heads)
    whole = 3.0 * 4.0 * size * config.num_hidden_layers
    return whole, whole / 2


def peak_flops(student: Parts) -> float:
    """The most FLOPs a second that a product of matrices as wide as the model reaches on its device, with the threads it has."""
    import torch

    width, device = int(student.inner.config.hidden_size), student.device
    dtype = torch.bfloat16 if student.precision == "bf16" else torch.float32
    if device.type == "cuda":
        return _peak(_CUDA_ROWS, width, dtype, device, 0)
    return _peak(_CPU_ROWS, min(width, _CPU_WIDTH), dtype, device, torch.get_num_threads())


@cache
def _peak(rows: int, width: int, dtype: torch.dtype, device: torch.device, _threads: int) -> float:
    """Measured once a process, for so many threads of torch; draws no random number."""
    import torch

    def made(height: int) -> torch.Tensor:
        # Numbers, because zeros would be a lighter load for a GPU.
        return (torch.arange(height * width, device=device) % 17 / 17).view(height, width).to(dtype)

    left, right = made(rows), made(width)
    out = left @ right
    fastest_s, end_s = float("inf"), time.perf_counter() + _MEASURED_S
    while fastest_s == float("inf") or time.perf_counter() < end_s:
        _wait(device)
        start_s = time.perf_counter()
        torch.mm(left, right, out=out)
        _wait(device)
        fastest_s = min(fastest_s, time.perf_counter() - start_s)
    return 2.0 * rows * width * width / fastest_s


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_gb(device: torch.device) -> float | None:
    """Memory that this process holds now, in GB (1e9 bytes): torch's on a CUDA device, else what is resident; None where unknown."""
    import os
    from pathlib import Path

    import torch

    if device.type == "cuda":
        return float(torch.cuda.memory_reserved(device)) / 1e9
    told = Path("/proc/self/statm")  # Linux only; the second number is resident pages
    if not told.exists():
        return None
    pages = int(told.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9
