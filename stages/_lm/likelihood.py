"""How surprised a model is by every token of given texts: teacher-forced, in batches of like length.

Source: Eq. 8 of KPOD needs `-log P(r_j | r_<j, x)` of every token and no gradient. Logits are made for targets only and
for a block of the vocabulary at a time, which is summed up while it is still in the cache: with 151,936 rows and one core
that takes as long as making the logits alone, where a cross-entropy over whole rows takes twice that (measured; the whole
stage: tests/benchmarks/difficulty.py).
N targets, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from kpod.stages._lm.passages import Passage, pad

if TYPE_CHECKING:
    import torch

    from kpod.stages._lm.parts import Parts

# Float32 logits held at once: 2 MB on a CPU (1 to 4 MB measured alike, within its caches), 64 MB elsewhere.
_CPU_LOGITS = 1 << 19
_MOST_LOGITS = 1 << 24
_MOST_TARGETS = 1 << 10


def token_nll(
    parts: Parts,
    passages: Sequence[Passage],
    *,
    batch_tokens: int,
    progress: Callable[[int, int], None],
) -> list[tuple[float, ...]]:
    """The negative log-likelihood of every target of every passage.

    Args:
        parts: of a model of either family, in eval mode.
        passages: each with at least one target; their weights are not looked at.
        batch_tokens: most tokens computed at once, padding included; a longer passage is computed alone.
        progress: told the tokens done and the tokens of all passages, after each batch.

    Returns:
        Nats, one tuple a passage, in the order of the passages: >= 0, or not finite where the model's logits are not.
        Computed in fp32 from the model's logits; the same to 1e-5 for every batch_tokens where the model is fp32.
    """
    import torch

    nats: list[tuple[float, ...]] = [()] * len(passages)
    total = sum(passage.num_tokens for passage in passages)
    done = 0
    with (
        torch.no_grad(),
        torch.autocast(parts.device.type, dtype=torch.bfloat16, enabled=parts.precision == "bf16"),
    ):
        for group in _groups(passages, batch_tokens, has_encoder=parts.encoder is not None):
            chosen = [passages[index] for index in group]
            batch = pad(chosen, device=parts.device, encoder=parts.encoder)
            values = target_nll(parts, parts.hidden(batch), batch.targets).tolist()
            at = 0
            for index, passage in zip(group, chosen, strict=True):
                nats[index] = tuple(values[at : at + len(passage.target_ids)])
                at += len(passage.target_ids)
            done += sum(passage.num_tokens for passage in chosen)
            progress(done, total)
    return nats


def target_nll(parts: Parts, hidden_ND: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood (N,) float32 of targets (N,), given the hidden states (N, D) that predict them."""
    import torch

    size = _piece_size(parts)
    pieces = zip(torch.split(hidden_ND, size), torch.split(target_N, size), strict=True)
    return torch.cat([_piece_nll(parts, hidden, target) for hidden, target in pieces])


def _piece_size(parts: Parts) -> int:
    """Targets that are scored at once."""
    if _has_plain_head(parts):
        return _MOST_TARGETS
    return max(1, _MOST_LOGITS // int(parts.output_layer.weight.shape[0]))


def _piece_nll(parts: Parts, hidden_ND: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """The logarithm of the sum of all exponentials, block by block, less the target's own logit."""
    import torch

    # Finite, so that a block of nothing but -inf stays harmless.
    top_N = hidden_ND.new_full(
        (len(target_N),), torch.finfo(torch.float32).min, dtype=torch.float32
    )
    sum_N = torch.zeros_like(top_N)
    own_N = torch.zeros_like(top_N)
    for first, logits_NV in _logit_blocks(parts, hidden_ND):
        stop = first + logits_NV.shape[1]
        rows = ((target_N >= first) & (target_N < stop)).nonzero().squeeze(1)
        own_N[rows] = logits_NV[rows, target_N[rows] - first]
        higher_N = torch.maximum(top_N, logits_NV.amax(dim=1))
        block_N = logits_NV.sub_(higher_N[:, None]).exp_().sum(dim=1)
        sum_N = sum_N * (top_N - higher_N).exp() + block_N
        top_N = higher_N
    return sum_N.log() + top_N - own_N


def _logit_blocks(parts: Parts, hidden_ND: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Where each block of the vocabulary begins, and its logits (N, V) float32, the receiver's to overwrite."""
    import torch.nn.functional as F  # noqa: N812 - the name everybody knows

    if not _has_plain_head(parts):
        yield 0, parts.head(hidden_ND).to(hidden_ND.new_empty(0).float().dtype, copy=True)
        return
    scaled_ND = hidden_ND if parts.scale == 1.0 else hidden_ND * parts.scale
    limit = _CPU_LOGITS if hidden_ND.device.type == "cpu" else _MOST_LOGITS
    size = max(1, limit // len(hidden_ND))
    weight, bias = parts.output_layer.weight, parts.output_layer.bias
    for first in range(0, len(weight), size):
        part_V = None if bias is None else bias[first : first + size]
        yield first, F.linear(scaled_ND, weight[first : first + size], part_V).float()


def _has_plain_head(parts: Parts) -> bool:
    """Whether the output layer is a linear layer and nothing around it, so that its rows can be taken one by one."""
    import torch

    return type(parts.output_layer) is torch.nn.Linear


def _groups(
    passages: Sequence[Passage], batch_tokens: int, *, has_encoder: bool
) -> Iterator[list[int]]:
    """Indices of passages that are computed together: of like length, the longest first, since they need most memory."""
    order = sorted(range(len(passages)), key=lambda index: (-passages[index].num_tokens, index))
    group: list[int] = []
    widths = (0, 0)
    for index in order:
        passage = passages[index]
        sides = (len(passage.context_ids), len(passage.target_ids))
        if not has_encoder:
            sides = (0, sum(sides))
        wider = (max(widths[0], sides[0]), max(widths[1], sides[1]))
        if group and (len(group) + 1) * sum(wider) > batch_tokens:
            yield group
            group, wider = [], sides
        group.append(index)
        widths = wider
    if group:
        yield group
