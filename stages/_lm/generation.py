"""The engine that writes texts, for teachers and for evaluation: each text once, stored as it ends.

Requests are looked up in the record store first. What is left is sorted by length, longest first, cut into batches by a
budget of tokens, decoded, stored, and given back in the order it was asked for. Source: DESIGN 5 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import StageError
from kpod.runner.texts import GeneratedText, TextStore, text_key
from kpod.stages._lm.decoding import Decoding, DecodingBatch, FinishedRow, HasStopText, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.family import Family
    from kpod.stages._lm.loading import Limits

# Part of every text's key: raise it when a fix changes what is written, and no old text is found again.
ENGINE = "kpod.local/1"
_STORE_EVERY = 16  # texts; each group is one transaction of about a millisecond


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to be written.

    Args:
        prompt_ids: the rendered prompt; nothing is added to it.
        sample: index of the sample, 0 for a greedy text.
        asked_by: id of the question, for messages.
    """

    prompt_ids: tuple[int, ...]
    sample: int = 0
    asked_by: str = ""


class Progress(NamedTuple):
    """How far the engine is: texts done of all that were asked for, and tokens written so far."""

    done: int
    total: int
    new_tokens: int


OnProgress = Callable[[Progress], None]
LoadModel = Callable[[], Any]


def generate_texts(
    load_model: LoadModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    limits: Limits,
    batch_tokens: int,
    store: TextStore,
    model_facts: Mapping[str, str],
    on_progress: OnProgress,
    family: Family = "causal",
) -> list[GeneratedText]:
    """The text of every request, in their order; texts that are stored are not written again.

    Args:
        load_model: gives the model in eval mode; not called where all texts are stored.
        tokenizer: the model's.
        requests: equal ones are written once.
        decoding: how texts are chosen.
        limits: of the model.
        batch_tokens: tokens of prompts and texts that are held at once; at least one row is.
        store: where texts are looked up and kept.
        model_facts: names the model in the keys: its content digest and its resolved precision.
        on_progress: called after every step; what it raises passes through, after ended texts are stored.
        family: of the model; where an encoder reads the prompt, the text has a context of its own.

    Raises:
        StageError: a prompt is empty or leaves no room in the model's context; nothing is ever cut.
    """
    ends = tuple(sorted(limits.end_ids))
    keys = [text_key(_key_facts(request, decoding, model_facts, ends)) for request in requests]
    texts = store.get(keys)
    rows: dict[str, Row] = {}
    for key, request in zip(keys, requests, strict=True):
        if key not in texts and key not in rows:
            rows[key] = _row(key, request, decoding, limits, family)
    total = len(texts) + len(rows)
    on_progress(Progress(len(texts), total, 0))
    if rows:
        model = load_model()
        provenance = _provenance(model_facts, device=str(model.device), batch_tokens=batch_tokens)
        desk = _Desk(
            tokenizer, decoding, store=store, provenance=provenance, texts=texts, rows=rows
        )
        try:
            new_tokens = 0
            for finished, num_rows in _steps(
                model,
                tokenizer,
                list(rows.values()),
                decoding,
                ends=ends,
                budget=batch_tokens,
            ):
                new_tokens += num_rows
                desk.take(finished)
                on_progress(Progress(len(texts), total, new_tokens))
        finally:
            desk.store_finished()
    return [texts[key] for key in keys]


def _steps(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    decoding: Decoding,
    *,
    ends: Sequence[int],
    budget: int,
) -> Iterator[tuple[list[FinishedRow], int]]:
    """Decode all rows, batch by batch: after every step the rows that ended, and how many tokens it wrote."""
    pad_id = tokenizer.pad_token_id
    for batch in _batches(rows, budget=budget):
        running = DecodingBatch(
            model,
            batch,
            decoding,
            pad_id=0 if pad_id is None else int(pad_id),
            end_ids=ends,
            has_stop_text=_stop_text_test(tokenizer, decoding.stop),
        )
        while running.num_rows:
            num_rows = running.num_rows
            yield running.step(), num_rows


def _key_facts(
    request: Request, decoding: Decoding, model_facts: Mapping[str, str], end_ids: Sequence[int]
) -> dict[str, Any]:
    """All that decides a text (DESIGN 5); not the batch, the device or the library versions."""
    facts: dict[str, Any] = {
        "engine": ENGINE,
        "model": dict(model_facts),
        "prompt": request.prompt_ids,
        "max_new_tokens": decoding.max_new_tokens,
        "stop": decoding.stop,
        "end": end_ids,
    }
    if not decoding.is_greedy:
        facts |= {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": decoding.seed,
            "sample": request.sample,
        }
    return facts


def _provenance(
    model_facts: Mapping[str, str], *, device: str, batch_tokens: int
) -> dict[str, str | int]:
    """What else was there when a text was written: kept beside it, and in no key."""
    return {
        "engine": ENGINE,
        **model_facts,
        "device": device,
        "batch_tokens": batch_tokens,
        **_library_versions(),
    }


@cache
def _library_versions() -> Mapping[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}


def _row(key: str, request: Request, decoding: Decoding, limits: Limits, family: Family) -> Row:
    """The request as a row; it grows to the token limit or to the end of the context, whichever is nearer."""
    length = len(request.prompt_ids)
    if length == 0:
        raise StageError(
            f"question {request.asked_by}: its prompt has no token; check the prompt's template"
        )
    room = decoding.max_new_tokens
    if limits.context_tokens is not None:
        left = limits.context_tokens - length
        is_apart = family == "seq2seq" and left >= 0
        room = min(room, limits.context_tokens if is_apart else left)
    if room < 1:
        raise StageError(
            f"question {request.asked_by}: its prompt has {length} tokens, but the model's context holds {limits.context_tokens}\n"
            "shorten the prompt, take the question out, or use a model with a longer context; kpod never cuts a prompt"
        )
    return Row(key, request.prompt_ids, room)


def _batches(rows: Sequence[Row], *, budget: int) -> Iterator[list[Row]]:
    """Rows of like length together, longest first, each batch within the budget of tokens or one row."""
    batch: list[Row] = []
    width = 0
    for row in sorted(rows, key=lambda row: (-len(row.prompt_ids) - row.max_new, row.name)):
        row_tokens = len(row.prompt_ids) + row.max_new
        width = max(width, row_tokens)
        if batch and width * (len(batch) + 1) > budget:
            yield batch
            batch, width = [], row_tokens
        batch.append(row)
    if batch:
        yield batch


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


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text: Any = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text)


class _Desk:
    """Takes finished rows, turns them into texts, and stores them in groups."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        *,
        store: TextStore,
        provenance: Mapping[str, str | int],
        texts: dict[str, GeneratedText],
        rows: Mapping[str, Row],
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = decoding.stop
        self._store = store
        self._provenance = provenance
        self._texts = texts
        self._rows = rows
        self._unstored: dict[str, GeneratedText] = {}

    def take(self, finished: Sequence[FinishedRow]) -> None:
        """Keep what ended; a group that is large enough is stored."""
        for row in finished:
            text = _decoded(self._tokenizer, row.ids)
            for stop in self._stop:
                text = text.partition(stop)[0]
            self._texts[row.name] = self._unstored[row.name] = GeneratedText(
                text=text,
                finish=row.finish,
                prompt_tokens=len(self._rows[row.name].prompt_ids),
                completion_tokens=len(row.ids),
            )
        if len(self._unstored) >= _STORE_EVERY:
            self.store_finished()

    def store_finished(self) -> None:
        """Store what has not been stored yet."""
        if self._unstored:
            self._store.put(self._unstored, provenance=self._provenance)
            self._unstored = {}
