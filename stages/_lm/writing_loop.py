"""The loop that writes waiting rows: batches are filled up as rows leave them, and a common beginning is read once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kpod.runner.texts import GeneratedText
from kpod.stages._lm.decoding import (
    Decoding,
    DecodingBatch,
    FinishedRow,
    HasStopText,
    Row,
)
from kpod.stages._lm.waiting_rows import WaitingRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A batch is filled up when so much of it is left: often enough to stay full, seldom enough that copying its cache and the
# model call for the newcomers' prompts cost little. Measured in tests/benchmarks/generation.py.
_REFILL_AT_FRAC = 0.75
# Prompts that are read by one call: enough to fill matrix products, few enough that prompts of one call are of like length (a wide
# model pays for padding) and that what is held while reading them stays small.
_PROMPT_TOKENS = 1024


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
    from kpod.stages._lm.decoder_steps import Prefix, rows_can_join

    pad_id = tokenizer.pad_token_id
    can_join = rows_can_join(model)
    prefix = Prefix(model, prefix_ids) if prefix_ids and can_join else None
    num_read = 0 if prefix is None else len(prefix.ids)
    has_stop_text = _stop_text_test(tokenizer, decoding.stop)

    def begin(rows: Sequence[Row]) -> DecodingBatch:
        return DecodingBatch(
            model, rows, decoding, pad_id=0 if pad_id is None else int(pad_id), end_ids=end_ids,
            has_stop_text=has_stop_text, prefix=prefix,
        )  # fmt: skip

    group = list(first)
    while group:
        batch = yield from _begun(
            None, _parts(group, num_read=num_read) if can_join else [group], begin
        )
        most_rows = batch.num_rows
        while num_rows := batch.num_rows:
            if can_join and waiting and num_rows <= _REFILL_AT_FRAC * most_rows:
                group = waiting.take(beside=num_rows, tokens_a_row=batch.tokens_a_row)
                batch = yield from _begun(batch, _parts(group, num_read=num_read), begin)
                most_rows = num_rows = batch.num_rows
            yield batch.step(), num_rows
        group = waiting.take()


def _begun(
    batch: DecodingBatch | None,
    parts: Iterable[Sequence[Row]],
    begin: Callable[[Sequence[Row]], DecodingBatch],
) -> Generator[tuple[list[FinishedRow], int], None, DecodingBatch]:
    """Take a first step with every part, and let it join the batch; returns the batch."""
    for part in parts:
        newcomers = begin(part)
        yield newcomers.step(), len(part)
        if batch is None or not batch.num_rows:
            batch = newcomers
        elif newcomers.num_rows:
            batch.take_in(newcomers)
    assert batch is not None, "there is a batch, or rows to make one of"
    return batch


def _parts(rows: Sequence[Row], *, num_read: int) -> Iterator[list[Row]]:
    """Rows in their order, in parts whose prompts, behind a prefix that is read, are read by one model call."""
    part: list[Row] = []
    longest = 0
    for row in rows:
        length = len(row.prompt_ids) - num_read
        longest = max(longest, length)
        if part and longest * (len(part) + 1) > _PROMPT_TOKENS:
            yield part
            part, longest = [], length
        part.append(row)
    if part:
        yield part


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
