"""Attention of the newest tokens of rows that differ in length: rows of like length are read together, each without the others' padding.

Rows of a batch end in one column, so that one that joined late is padded with as many columns as its elders have read: on the
500 problems of the quickstart that was 42 % of all that the steps read. Here a step's rows fall into stretches, and each is
attended to by itself, without the columns that none of its rows fills, and without a mask where its rows fill all the others.
It is registered with transformers as one of its attention functions (docs/attention_interface), and computes everything but
such steps as "sdpa" does. A GPU is better served by one call for all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

_NAME = "kpod_ragged"
# What a stretch more costs, in bytes of keys and values read in that time: 15 us of Python at 20 GB/s (measured, one thread).
_STRETCH_BYTES = 300_000


class Stretch(NamedTuple):
    """Rows that are read together.

    Args:
        rows: of the batch.
        first: the column from which on any of them has a token.
        is_full: whether all of them have a token in every column from there on.
    """

    rows: slice
    first: int
    is_full: bool


@dataclass(slots=True)
class _Reading:
    """What one call of a model reads: its stretches, and the mask that it was given (None: not yet)."""

    stretches: Sequence[Stretch]
    mask_B11T: Tensor | None = None


_now: ContextVar[_Reading | None] = ContextVar("reading", default=None)


@contextmanager
def ragged(model: Any) -> Iterator[None]:
    """Within the block the model can attend by stretches, where it is on a CPU and attends by "sdpa" otherwise."""
    if (
        model.device.type != "cpu"
        or model.config._attn_implementation != "sdpa"
        or not _fits(model)
    ):
        yield
        return
    _register()
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


def is_ragged(model: Any) -> bool:
    """Whether the model attends by stretches now."""
    return bool(model.config._attn_implementation == _NAME)


@contextmanager
def attending(stretches: Sequence[Stretch]) -> Iterator[None]:
    """Within the block a call with one new token a row attends by these stretches, which hold every row once, in order."""
    token = _now.set(_Reading(stretches) if stretches else None)
    try:
        yield
    finally:
        _now.reset(token)


def stretches_of(mask_BT: Tensor, *, token_bytes: int) -> list[Stretch]:
    """The rows in stretches: a new one begins where it spares more reading than it costs.

    Args:
        mask_BT: bool; which columns hold a token of each row. The last column does.
        token_bytes: keys and values of a token, of one layer.
    """
    first_B = mask_BT.byte().argmax(-1)
    is_full_B = mask_BT.sum(-1) == mask_BT.shape[1] - first_B
    found: list[Stretch] = []
    row = 0
    for (first, is_full), alike in groupby(zip(first_B.tolist(), is_full_B.tolist(), strict=True)):
        rows = slice(row, row := row + len(list(alike)))
        if found and token_bytes * _padded(found[-1], rows, first) <= _STRETCH_BYTES:
            last = found.pop()
            both_full = last.is_full and is_full and last.first == first
            found.append(
                Stretch(slice(last.rows.start, rows.stop), min(last.first, first), both_full)
            )
        else:
            found.append(Stretch(rows, first, is_full))
    return found


def _padded(last: Stretch, rows: slice, first: int) -> int:
    """Tokens of padding that come of reading rows with the stretch before them."""
    shorter = rows if first > last.first else last.rows
    num_rows: int = shorter.stop - shorter.start
    return abs(first - last.first) * num_rows


def _fits(model: Any) -> bool:
    """Whether its class takes its attention from transformers' table of them, and none of its parts has one of its own."""
    can_set = getattr(model, "_can_set_attn_implementation", None)
    parts = [getattr(model.config, name, None) for name in model.config.sub_configs]
    is_even = all(part is None or part._attn_implementation == "sdpa" for part in parts)
    return is_even and can_set is not None and bool(can_set())


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **more: Any,
    ) -> Any:
        import torch

        now = _now.get()
        # A model that made another mask of the one it was given (Doge adds a learned one), or adds a bias, means all of it.
        is_own = now is not None and attention_mask is now.mask_B11T
        if (
            now is None
            or attention_mask is None
            or not is_own
            or more.get("position_bias") is not None
        ):
            return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
        parts = [
            sdpa_attention_forward(
                module, query[rows], key[rows, :, first:], value[rows, :, first:],
                None if is_full else attention_mask[rows, :, :, first:], **more,
            )[0]
            for rows, first, is_full in now.stretches
        ]  # fmt: skip
        return parts[0] if len(parts) == 1 else torch.cat(parts), None

    def mask(batch_size: int, q_length: int, kv_length: int, **more: Any) -> Any:
        now, padding_BT = _now.get(), more.get("attention_mask")
        is_causal = more.get("mask_function") is causal_mask_function
        if now is None or not is_causal or q_length != 1 or padding_BT is None:
            return sdpa_mask(batch_size, q_length, kv_length, **more)
        now.mask_B11T = padding_BT[:, None, None, :kv_length]
        return now.mask_B11T

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, mask)
