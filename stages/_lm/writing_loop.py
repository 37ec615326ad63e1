"""The loop that writes waiting rows: batches are filled up as rows leave them, and a common beginning is read once.

Prompts are read in groups of like length, so that little padding is computed, and decoded in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from kpod.runner.texts import GeneratedText
from kpod.stages._lm.decoding import (
    Decoding,
    DecodingBatch,
    FinishedRow,
    HasStopText,
    Row,
)
from kpod.stages._lm.heap import kept_heap
from kpod.stages._lm.length_runs import cheapest_runs
from kpod.stages._lm.ragged_attention import ragged
from kpod.stages._lm.waiting_rows import WaitingRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A batch is filled up when so much of it is left: often enough to stay full, seldom enough that copying its cache and the
# model call for the newcomers' prompts cost little. Measured in tests/benchmarks/generation.py.
_REFILL_AT_FRAC = 0.75
# Most tokens of the prompts that are read by one call, padding included: a prompt longer than that stands alone. What is held
# while reading them stays small. Measured on one thread with AVX-512: at width 96 the time a token is even from 256 to 1,536
# tokens; at width 896 it is 1.02 ms up to 768 and 1.19 ms at 1,024 tokens and more, whose activations outgrow the caches.
_PROMPT_TOKENS = 1024
_WIDE_PROMPT_TOKENS = 512
_WIDE = 512
# What one more call costs, in tokens: the weights are read once more (measured likewise: 32 tokens at width 896), and
# narrow layers wait for Python (43 tokens at width 576, 220 at 96; the square of 1300 / width meets all three).
_CALL_TOKENS = 30
_PYTHON_WIDTH = 1300
# The same on a GPU: operations a second over bytes a second, at one multiplication a 16-bit weight and token
# (NVIDIA's data sheet of the H100 SXM: 990 TFLOP/s dense, 3.35 TB/s).
_GPU_CALL_TOKENS = 300


def steps(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    waiting: WaitingRows,
    first: Sequence[Row],
    decoding: Decoding,
    *,
    end_ids: Sequence[int],
    prefix_ids: Sequence[int],
) -> Iterator[tuple[list[FinishedRow], int]]:
    """Decode rows until none is left: after every step the rows that ended, and how many tokens it wrote.

    Args:
        model: in eval mode.
        tokenizer: the model's.
        waiting: gives the rows.
        first: the rows to begin with, taken from `waiting`; at least one.
        decoding: how texts are chosen.
        end_ids: a text ends with any of these.
        prefix_ids: what all prompts begin with; none where they share nothing worth it.
    """
    from kpod.stages._lm.decoder_steps import Prefix, prefix_can_be_shared, rows_can_join

    pad_id = tokenizer.pad_token_id
    can_join = rows_can_join(model)
    is_shared = bool(prefix_ids) and prefix_can_be_shared(model)
    prefix = Prefix(model, prefix_ids) if is_shared else None
    num_read = 0 if prefix is None else len(prefix.ids)
    has_stop_text = _stop_text_test(tokenizer, decoding.stop)

    def begin(rows: Sequence[Row]) -> DecodingBatch:
        return DecodingBatch(
            model, rows, decoding, pad_id=0 if pad_id is None else int(pad_id), end_ids=end_ids,
            has_stop_text=has_stop_text, prefix=prefix,
        )  # fmt: skip

    def groups(rows: Sequence[Row]) -> list[list[Row]]:
        return _read_together(model, rows, num_read=num_read) if can_join else [list(rows)]

    taken = list(first)
    with kept_heap(model.device.type), ragged(model) if can_join else nullcontext():
        while taken:
            batch = yield from _begun(None, groups(taken), begin)
            most_rows = batch.num_rows
            while num_rows := batch.num_rows:
                if can_join and waiting and num_rows <= _REFILL_AT_FRAC * most_rows:
                    taken = waiting.take(beside=num_rows, tokens_a_row=batch.tokens_a_row)
                    batch = yield from _begun(batch, groups(taken), begin)
                    most_rows = num_rows = batch.num_rows
                yield batch.step(), num_rows
            taken = waiting.take()


def _begun(
    batch: DecodingBatch | None,
    groups: Iterable[Sequence[Row]],
    begin: Callable[[Sequence[Row]], DecodingBatch],
) -> Generator[tuple[list[FinishedRow], int], None, DecodingBatch]:
    """Take a first step with every group, and let them join the batch; returns the batch."""
    batches = [] if batch is None else [batch]
    for group in groups:
        newcomers = begin(group)
        yield newcomers.step(), len(group)
        batches.append(newcomers)
    assert batches, "there is a batch, or rows to make one of"
    # All join at once: every cache is copied once, however many groups there are.
    first, *others = [one for one in batches if one.num_rows] or batches[-1:]
    if others:
        first.take_in(others)
    return first


def _read_together(model: Any, rows: Sequence[Row], *, num_read: int) -> list[list[Row]]:
    """Rows in groups whose prompts, behind a prefix that is read, are padded alike and read by one model call.

    Args:
        model: causal; its width and device say what a call costs.
        rows: to be read.
        num_read: tokens of the prefix.
    """
    width = model.config.get_text_config().hidden_size
    is_on_cpu = model.device.type == "cpu"
    is_wide = is_on_cpu and width >= _WIDE
    groups = length_groups(
        [len(row.prompt_ids) - num_read for row in rows],
        most_tokens=_WIDE_PROMPT_TOKENS if is_wide else _PROMPT_TOKENS,
        call_tokens=_CALL_TOKENS + (_PYTHON_WIDTH / width) ** 2 if is_on_cpu else _GPU_CALL_TOKENS,
    )
    return [[rows[index] for index in group] for group in groups]


def length_groups(
    lengths: Sequence[int], *, most_tokens: int, call_tokens: float
) -> list[list[int]]:
    """The cheapest split of prompts into runs of like length: padded tokens, and so many more a run.

    Args:
        lengths: tokens of every prompt, at least one.
        most_tokens: of a run, padding included; a longer prompt stands alone.
        call_tokens: what a run costs beside its tokens, >= 0.

    Returns:
        Indices into `lengths`, shortest run first; every index once.
    """
    sides = [(0, length) for length in lengths]
    return cheapest_runs(sides, most_tokens=most_tokens, run_tokens=call_tokens)


def _stop_text_test(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> HasStopText | None:
    """Whether tokens end in a text that holds a stop text, looking at no more of their end than could matter.

    A token is at least one byte, so a stop text of n bytes that the newest token completed lies in the last n + 1 tokens,
    give or take a few that decode to nothing.
    """
    if not stop:
        return None
    window = max(len(text.encode()) for text in stop) + 8

    def has_stop_text(ids: list[int]) -> bool:
        tail = _decoded(tokenizer, ids[-window:])
        return any(text in tail for text in stop)

    return has_stop_text


def finished_text(
    tokenizer: PreTrainedTokenizerBase, row: Row, ended: FinishedRow, *, stop: Sequence[str]
) -> GeneratedText:
    """The text of a row that ended, cut before the first stop text in it."""
    text = _decoded(tokenizer, ended.ids)
    for one in stop:
        text = text.partition(one)[0]
    return GeneratedText(
        text=text,
        finish=ended.finish,
        prompt_tokens=len(row.prompt_ids),
        completion_tokens=len(ended.ids),
    )


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text: Any = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text)
