"""How the predictor is shown question, masked prefix and answer: rows of indices into a pool of vectors.

The pool holds the vectors of the rationales' tokens first, then those of ordinary token ids. A packed row holds one
rationale: [question][r_1 … r_n][tail][tail] …, one copy of the tail (connective and answer) for each prefix, which sees the
question, its own prefix and itself, and continues at the position where its prefix ends. It equals one plain sequence
[question][r_1 … r_k][tail] a prefix, and computes question and rationale once.
R rows, T tokens, N answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kpod.stages._lm.passages import EncoderIds
from kpod.stages.weighting._items import Item

if TYPE_CHECKING:
    import torch


class Targets(NamedTuple):
    """The answer tokens to predict.

    Args:
        positions: (N,) where in the flattened R*T (of the decoder) the hidden state stands that predicts each.
        ids: (N,) what is to be predicted.
        owners: (N,) which prefix each belongs to, counted over all rationales of the batch, in order.
    """

    positions: torch.Tensor
    ids: torch.Tensor
    owners: torch.Tensor


class Layout(NamedTuple):
    """What is computed together.

    Args:
        pool: (R, T) which vector stands where; 0 where padded.
        token_ids: the ordinary tokens of the pool, after the rationales' vectors.
        places: (R, T) positions of a packed row, or None: 0, 1, 2, …
        allowed: (R, 1, T, T) bool, what each token of a packed row sees; (R, T) int64 of an encoder's rows; or None: causal.
        decoder_ids: (R, S) int64 for an encoder-decoder; None for a decoder-only model.
        targets: what to predict.
    """

    pool: torch.Tensor
    token_ids: torch.Tensor
    places: torch.Tensor | None
    allowed: torch.Tensor | None
    decoder_ids: torch.Tensor | None
    targets: Targets


class _Row(NamedTuple):
    """A row before it is padded: which vectors, and for packed rows where each stands, in which segment, how far it sees."""

    pool: list[int]
    places: list[int]
    segments: list[int]
    reaches: list[int]


class _Pool:
    """Numbers for vectors: those of the rationales' tokens come first, then ordinary tokens as they are asked for."""

    def __init__(self, num_rationale_vectors: int) -> None:
        self._start = num_rationale_vectors
        self.token_ids: list[int] = []

    def take(self, ids: Sequence[int]) -> list[int]:
        first = self._start + len(self.token_ids)
        self.token_ids += ids
        return list(range(first, first + len(ids)))


def packed(
    items: Sequence[Item], prefixes: Sequence[Sequence[int]], *, width: int, device: torch.device
) -> Layout:
    """One row a rationale, for decoder-only models.

    Args:
        items: of the batch.
        prefixes: lengths k of each one's prefixes.
        width: tokens that the batch of rationale vectors is padded to (N of B, N): vector b * width + j is token j of item b.
        device: where the tensors go.
    """
    pool = _Pool(len(items) * width)
    rows = [
        _packed_row(item, ks, pool, first=b * width)
        for b, (item, ks) in enumerate(zip(items, prefixes, strict=True))
    ]
    longest = max(len(row.pool) for row in rows)
    places = _padded([row.places for row in rows], longest, fill=0, device=device)
    starts = [
        b * longest + len(item.question_ids) + item.num_tokens + copy * (len(item.tail_ids) - 1)
        for b, (item, ks) in enumerate(zip(items, prefixes, strict=True))
        for copy in range(len(ks))
    ]
    return Layout(
        _padded([row.pool for row in rows], longest, fill=0, device=device),
        _flat(pool.token_ids, device),
        places,
        _seen(rows, places),
        None,
        _targets(_owners(items, prefixes), starts, device),
    )


def separate(
    items: Sequence[Item],
    prefixes: Sequence[Sequence[int]],
    *,
    width: int,
    device: torch.device,
    encoder: EncoderIds | None,
) -> Layout:
    """One row a prefix: for encoder-decoders, and where a model takes no mask of its own. Arguments as for `packed`."""
    pool = _Pool(len(items) * width)
    rows: list[list[int]] = []
    for b, (item, ks) in enumerate(zip(items, prefixes, strict=True)):
        for k in ks:
            context = [*pool.take(item.question_ids), *range(b * width, b * width + k)]
            end = [encoder.end] if encoder else item.tail_ids[:-1]
            rows.append([*context, *pool.take(end)])
    longest = max(map(len, rows))
    owners = _owners(items, prefixes)
    tails = [item.tail_ids for item in owners]
    decoder_ids = allowed = None
    if encoder is None:
        starts = [
            row * longest + len(vectors) - len(tail) + 1
            for row, (vectors, tail) in enumerate(zip(rows, tails, strict=True))
        ]
    else:
        inputs = [[encoder.start, *tail[:-1]] for tail in tails]
        most = max(map(len, inputs))
        decoder_ids = _padded(inputs, most, fill=0, device=device)
        allowed = _padded([[1] * len(row) for row in rows], longest, fill=0, device=device)
        starts = [row * most + 1 for row in range(len(rows))]
    return Layout(
        _padded(rows, longest, fill=0, device=device),
        _flat(pool.token_ids, device),
        None,
        allowed,
        decoder_ids,
        _targets(owners, starts, device),
    )


def _seen(rows: Sequence[_Row], places: torch.Tensor) -> torch.Tensor:
    """(R, 1, T, T) what each token of packed rows sees, as `Layout.allowed`."""
    import torch

    longest, device = places.shape[1], places.device
    segments = _padded([row.segments for row in rows], longest, fill=-1, device=device)
    reaches = _padded([row.reaches for row in rows], longest, fill=0, device=device)
    in_trunk = (segments == 0)[:, None, :] & (places[:, None, :] < reaches[:, :, None])
    in_own_copy = (segments[:, :, None] > 0) & (segments[:, :, None] == segments[:, None, :])
    in_own_copy &= places[:, None, :] <= places[:, :, None]
    # A padded token sees itself, because a softmax over nothing is not a number.
    itself = torch.eye(longest, dtype=torch.bool, device=device)
    return (in_trunk | in_own_copy | itself)[:, None]


def _packed_row(item: Item, ks: Sequence[int], pool: _Pool, *, first: int) -> _Row:
    trunk = len(item.question_ids) + item.num_tokens
    tail = item.tail_ids[:-1]  # the last token of the answer is predicted, never read
    row = _Row(
        [*pool.take(item.question_ids), *range(first, first + item.num_tokens)],
        list(range(trunk)),
        [0] * trunk,
        list(range(1, trunk + 1)),
    )
    for copy, k in enumerate(ks, 1):
        seen = len(item.question_ids) + k
        row.pool.extend(pool.take(tail))
        row.places.extend(range(seen, seen + len(tail)))
        row.segments.extend([copy] * len(tail))
        row.reaches.extend([seen] * len(tail))
    return row


def _owners(items: Sequence[Item], prefixes: Sequence[Sequence[int]]) -> list[Item]:
    """The item of every prefix of the batch, in order."""
    return [item for item, ks in zip(items, prefixes, strict=True) for _ in ks]


def _targets(owners: Sequence[Item], starts: Sequence[int], device: torch.device) -> Targets:
    """The answer tokens of every prefix, given where the states stand that have read its first tail token."""

    def each() -> Iterator[tuple[int, int, int]]:
        for number, (item, start) in enumerate(zip(owners, starts, strict=True)):
            first = len(item.tail_ids) - item.num_answer
            # The state that has read tail token t - 1 predicts tail token t.
            for at in range(first, len(item.tail_ids)):
                yield start + at - 1, item.tail_ids[at], number

    positions, ids, numbers = zip(*each(), strict=True)
    return Targets(*(_flat(values, device) for values in (positions, ids, numbers)))


def _flat(values: Sequence[int], device: torch.device) -> torch.Tensor:
    import torch

    return torch.tensor(values, device=device)


def _padded(
    rows: Sequence[Sequence[int]], width: int, *, fill: int, device: torch.device
) -> torch.Tensor:
    import torch

    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)
