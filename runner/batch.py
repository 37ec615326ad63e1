"""What a stage would ask an endpoint, for a batch service; and the store's memory of it, so that answers find their texts.

The files' format is OpenAI's Batch API, which `vllm run-batch` reads and writes too: one JSON object a line, joined on custom_id.
Source: https://platform.openai.com/docs/guides/batch (at most 50,000 requests and 200 MB a file, one model a file).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from kpod.runner.canonical import digest_of
from kpod.runner.ledger import Ledger, Price
from kpod.runner.texts import GeneratedText, TextStore

if TYPE_CHECKING:
    from kpod.runner.context import Context

# What stands in the ledger as the endpoint of an answer that came through a file.
ENDPOINT = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """One line of a batch file.

    Args:
        custom_id: names the request for ever: made from its keys, so that an equal request has an equal name.
        body: what a live request would send to /v1/chat/completions.
        keys: of the texts that it asks for, in the order of the choices.
    """

    custom_id: str
    body: dict[str, Any]
    keys: tuple[str, ...]


@runtime_checkable
class Batchable(Protocol):
    """A stage whose requests can go through batch files."""

    def batch_requests(self, ctx: Context[Any]) -> Iterator[BatchRequest]:
        """Requests for the texts that are not stored; sends nothing."""

    @classmethod
    def read_batch_answer(cls, body: Mapping[str, Any], num_texts: int) -> list[GeneratedText]:
        """The texts of a chat.completion object, at most `num_texts`; raises ValueError where it is none."""

    @classmethod
    def price(cls, config: Any) -> Price | None:
        """What the endpoint takes, from the stage's settings."""


class Sent(NamedTuple):
    """What the store remembers of an exported request."""

    uses: str
    keys: tuple[str, ...]
    model: str
    price: Price | None


class Taken(NamedTuple):
    """What became of an answer's texts: stored now, or there already."""

    num_stored: int
    num_there: int


class BatchBook:
    """The exported requests of one store, and which answers were taken in."""

    def __init__(self, texts: TextStore) -> None:
        self._texts = texts
        self._ledger = Ledger(texts, run="batch import")

    def note(self, requests: Iterable[BatchRequest], *, uses: str, price: Price | None) -> None:
        """Remember exported requests; those that were exported before keep one entry, with the newest price."""
        rows = [
            (
                request.custom_id, uses, json.dumps(request.keys), ENDPOINT, str(request.body.get("model", "")),
                price and price.input, price and price.output,
            )
            for request in requests
        ]  # fmt: skip
        with self._texts.file.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )

    def find(self, custom_id: str) -> Sent | None:
        """The exported request of that name, or None."""
        if not self._texts.file.is_there:
            return None
        row = self._texts.file.connection.execute(
            "SELECT uses, keys, model, input_price, output_price FROM batch WHERE custom_id = ?",
            (custom_id,),
        ).fetchone()
        if row is None:
            return None
        uses, keys, model, input_price, output_price = row
        price = None if input_price is None else Price(input=input_price, output=output_price)
        return Sent(uses, tuple(json.loads(keys)), model, price)

    def num_waiting(self) -> int:
        """How many exported requests have a text that is not stored yet."""
        if not self._texts.file.is_there:
            return 0
        (number,) = self._texts.file.connection.execute(
            "SELECT COUNT(*) FROM batch WHERE EXISTS (SELECT 1 FROM json_each(batch.keys) AS wanted"
            " WHERE wanted.value NOT IN (SELECT key FROM texts))"
        ).fetchone()
        return int(number)

    def take(
        self, custom_id: str, sent: Sent, body: Mapping[str, Any], texts: list[GeneratedText]
    ) -> Taken:
        """Store an answer's texts and enter it in the ledger, in one transaction; the same answer again changes nothing.

        Args:
            custom_id: of the request.
            sent: what the store remembers of it.
            body: the answer, a chat.completion object.
            texts: of its choices, in their order; fewer than were asked for are welcome.
        """
        named = dict(zip(sent.keys, texts, strict=False))
        missing = set(named) - self._texts.stored(named, but_refused=True)
        usage = body.get("usage")
        prompt_tokens, completion_tokens = _tokens(usage if isinstance(usage, dict) else {})
        with self._texts.file.writing() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO batch_answers VALUES (?, ?)",
                (digest_of([custom_id, body]), custom_id),
            )
            if added.rowcount == 0:
                return Taken(0, len(named))
            self._ledger.enter(
                named, unit=sent.uses, endpoint=ENDPOINT, model=sent.model,
                provenance={"engine": ENDPOINT, "model": body.get("model"), "custom_id": custom_id},
                prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
                usd=None if sent.price is None else sent.price.usd(prompt_tokens, completion_tokens),
            )  # fmt: skip
        return Taken(len(missing), len(named) - len(missing))


def _tokens(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt and completion tokens; 0 where the endpoint did not count."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (
        prompt if isinstance(prompt, int) else 0,
        completion if isinstance(completion, int) else 0,
    )
