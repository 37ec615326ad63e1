"""Teacher-forced batches for both families of models: a context that is only read, then the tokens to predict.

A decoder-only model reads context and targets as one sequence; an encoder-decoder reads the context (and the end token)
in its encoder, and its decoder's logits stand where their targets stand: nothing is shifted twice (KPOD 9, statement 26).
B sequences, S encoder tokens, T tokens, N targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Passage(NamedTuple):
    """What one sequence of a batch is made of.

    Args:
        context_ids: at least one token; question, prompt and, under a curriculum, the steps that are given.
        target_ids: the tokens to predict, the end token last.
        weights: one a target, >= 0: its share of the loss.
    """

    context_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def num_tokens(self) -> int:
        """Context and targets together."""
        return len(self.context_ids) + len(self.target_ids)


class EncoderIds(NamedTuple):
    """What an encoder-decoder needs to know to read a passage.

    Args:
        start: the token its decoder begins with.
        end: the token that ends the encoder's input.
    """

    start: int
    end: int


class Batch(NamedTuple):
    """Passages padded on the right; causal attention never looks at what follows, so only an encoder needs a mask.

    Args:
        inputs: (B, T) int64 token ids of the decoder, 0 where padded.
        positions: (N,) int64, where in the flattened B*T the hidden state stands that predicts each target.
        targets: (N,) int64 ids to predict.
        weights: (N,) float32 share of the loss of each target, >= 0.
        encoder_inputs: (B, S) int64 token ids, 0 where padded; None for a decoder-only model.
        encoder_mask: (B, S) int64, 1 where a token stands; None for a decoder-only model.
    """

    inputs: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    encoder_inputs: torch.Tensor | None = None
    encoder_mask: torch.Tensor | None = None

    @property
    def num_computed(self) -> int:
        """Tokens computed, padding included."""
        encoder = 0 if self.encoder_inputs is None else self.encoder_inputs.numel()
        return self.inputs.numel() + encoder


def pad(
    passages: Sequence[Passage], *, device: torch.device, encoder: EncoderIds | None = None
) -> Batch:
    """The tensors of passages that are computed together.

    Args:
        passages: at least one.
        device: where the tensors go.
        encoder: None for a decoder-only model.
    """
    return (
        _pad_causal(passages, device)
        if encoder is None
        else _pad_seq2seq(passages, device, encoder)
    )


def _pad_causal(passages: Sequence[Passage], device: torch.device) -> Batch:
    width = max(passage.num_tokens for passage in passages)
    rows = [[*passage.context_ids, *passage.target_ids] for passage in passages]
    # Position t predicts token t + 1, so the state before the first target predicts it.
    firsts = [row * width + len(passage.context_ids) - 1 for row, passage in enumerate(passages)]
    return Batch(_padded(rows, width, device), *_targets(passages, firsts, device))


def _pad_seq2seq(passages: Sequence[Passage], device: torch.device, encoder: EncoderIds) -> Batch:
    import torch

    width = max(len(passage.target_ids) for passage in passages)
    rows = [[encoder.start, *passage.target_ids[:-1]] for passage in passages]
    contexts = [[*passage.context_ids, encoder.end] for passage in passages]
    longest = max(map(len, contexts))
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in contexts]
    firsts = [row * width for row in range(len(passages))]
    return Batch(
        _padded(rows, width, device), *_targets(passages, firsts, device),
        encoder_inputs=_padded(contexts, longest, device),
        encoder_mask=torch.tensor(mask, device=device),
    )  # fmt: skip


def _padded(rows: Sequence[Sequence[int]], width: int, device: torch.device) -> torch.Tensor:
    import torch

    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)


def _targets(
    passages: Sequence[Passage], firsts: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions, ids and weights of all targets."""
    import torch

    positions = [
        first + offset
        for first, passage in zip(firsts, passages, strict=True)
        for offset in range(len(passage.target_ids))
    ]
    targets = [token for passage in passages for token in passage.target_ids]
    weights = [weight for passage in passages for weight in passage.weights]
    return (
        torch.tensor(positions, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(weights, dtype=torch.float32, device=device),
    )
