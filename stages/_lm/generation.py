"""The engine that writes texts, for teachers and for evaluation: each text once, stored as it ends.

Requests are looked up in the record store first. What is left is claimed and decoded in batches, longest first, by a budget
of tokens, and given back in the order it was asked for. What another process is writing is waited for, or written here when that
process is gone. Source: DESIGN 5 and 7.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import StageError
from kpod.runner.texts import GeneratedText, TextStore, text_key
from kpod.stages._lm.decoding import Decoding, FinishedRow, Row
from kpod.stages._lm.waiting_rows import WaitingRows
from kpod.stages._lm.writing_loop import finished_text, steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.family import Family
    from kpod.stages._lm.loading import Limits

# Part of every text's key: raise it when a fix changes what is written, and no old text is found again.
ENGINE = "kpod.local/1"
# How often to look whether another process has written, or given up, what is left.
_LOOK_EVERY_S = 0.5


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
OnFound = Callable[[Sequence[GeneratedText]], None]
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
    but_refused: bool = False,
    on_found: OnFound | None = None,
) -> list[GeneratedText]:
    """The text of every request, in their order; texts that are stored, or that another process writes, are not written again.

    Args:
        load_model: gives the model in eval mode; not called where all texts are stored.
        tokenizer: the model's.
        requests: equal ones are written once.
        decoding: how texts are chosen.
        limits: of the model.
        batch_tokens: tokens of prompts and texts that are held at once; at least one row is.
        store: where texts are looked up, claimed and kept.
        model_facts: names the model in the keys: its content digest and its resolved precision.
        on_progress: called after every step and while waiting; what it raises passes through, after ended texts are stored.
        family: of the model; where an encoder reads the prompt, the text has a context of its own.
        but_refused: texts that were refused are written again.
        on_found: hears of texts that were found and not written here.

    Raises:
        StageError: a prompt is empty or leaves no room in the model's context; nothing is ever cut.
    """
    ends = tuple(sorted(limits.end_ids))
    keys = [text_key(_key_facts(request, decoding, model_facts, ends)) for request in requests]
    texts = store.get(keys, but_refused=but_refused)
    rows: dict[str, Row] = {}
    for key, request in zip(keys, requests, strict=True):
        if key not in texts and key not in rows:
            rows[key] = _row(key, request, decoding, limits, family)
    if on_found is not None:
        on_found(list(texts.values()))
    desk = _Desk(
        tokenizer, decoding, store=store, texts=texts, rows=rows, on_progress=on_progress,
        model_facts=model_facts, load_model=load_model, batch_tokens=batch_tokens, but_refused=but_refused,
    )  # fmt: skip
    desk.tell()
    while missing := desk.missing():
        elsewhere = desk.write(missing, ends)
        found = store.get([row.name for row in elsewhere], but_refused=but_refused)
        texts |= found
        if on_found is not None:
            on_found(list(found.values()))
        if len(elsewhere) == len(missing) and not found:
            time.sleep(_LOOK_EVERY_S)
        if elsewhere:
            desk.tell()
    return [texts[key] for key in keys]


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


class _Desk:
    """Lets rows be written, and stores every text as it ends."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        *,
        store: TextStore,
        texts: dict[str, GeneratedText],
        rows: Mapping[str, Row],
        on_progress: OnProgress,
        model_facts: Mapping[str, str],
        load_model: LoadModel,
        batch_tokens: int,
        but_refused: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._decoding = decoding
        self._store = store
        self._texts = texts
        self._rows = rows
        self._total = len(texts) + len(rows)
        self._on_progress = on_progress
        self._model_facts = model_facts
        self._load_model = cache(load_model)
        self._batch_tokens = batch_tokens
        self._but_refused = but_refused
        self._new_tokens = 0

    def tell(self) -> None:
        """Say how far the writing is."""
        self._on_progress(Progress(len(self._texts), self._total, self._new_tokens))

    def missing(self) -> list[Row]:
        """Rows without a text."""
        return [row for key, row in self._rows.items() if key not in self._texts]

    def write(self, missing: Sequence[Row], end_ids: Sequence[int]) -> list[Row]:
        """Write what no other process is writing; returns the rest.

        Args:
            missing: rows without a text.
            end_ids: a text ends with any of these.
        """
        waiting = WaitingRows(
            missing, budget=self._batch_tokens, store=self._store, but_refused=self._but_refused
        )
        prefix_ids = waiting.common_prefix()
        try:
            if first := waiting.take():
                for finished, num_rows in steps(
                    self._load_model(), self._tokenizer, waiting, first, self._decoding,
                    end_ids=end_ids, prefix_ids=prefix_ids,
                ):  # fmt: skip
                    self._new_tokens += num_rows
                    self._take(finished)
                    self.tell()
        finally:
            self._store.release(sorted(waiting.claimed - self._texts.keys()))
        return waiting.elsewhere

    def _take(self, finished: Sequence[FinishedRow]) -> None:
        """Turn what ended into texts, and store them."""
        if not finished:
            return
        ended = {
            row.name: finished_text(
                self._tokenizer, self._rows[row.name], row, stop=self._decoding.stop
            )
            for row in finished
        }
        self._store.put(
            ended,
            provenance=_provenance(
                self._model_facts,
                device=str(self._load_model().device),
                batch_tokens=self._batch_tokens,
            ),
        )
        self._texts |= ended
