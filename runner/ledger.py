"""The ledger: every request to an endpoint, written down before it is sent, and what became of it.

A request is `sent` until it is answered or failed. One whose sender died, or went away, without closing it is `unknown`:
it may have been answered and paid for (DESIGN 5; PRACTICE, "nothing paid twice").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner.events import utc_now
from kpod.runner.fields import Doc, Ge
from kpod.runner.texts import GeneratedText, TextStore, insert_texts

if TYPE_CHECKING:
    from kpod.runner.shared_file import SharedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an endpoint takes; from the recipe, never guessed."""

    input: Annotated[float, Doc("USD a million prompt tokens."), Ge(0)]
    output: Annotated[float, Doc("USD a million completion tokens."), Ge(0)]

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost, in USD."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """What a set of requests came to.

    Args:
        answered, failed, unknown, in_flight: requests by state.
        texts: that came with the answers.
        prompt_tokens, completion_tokens: of the answers, as the endpoint counted them.
        usd: of the answers that have a price.
        unpriced: answers without one.
        seconds: that answered and failed requests took, one after another.
    """

    answered: int = 0
    failed: int = 0
    unknown: int = 0
    in_flight: int = 0
    texts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """All that were sent."""
        return self.answered + self.failed + self.unknown + self.in_flight

    def to_json(self) -> dict[str, int | float]:
        """As JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_TOTALS = (
    "COALESCE(SUM(state = 'answered'), 0), COALESCE(SUM(state = 'failed'), 0), COALESCE(SUM(state = 'unknown'), 0),"
    " COALESCE(SUM(state = 'sent'), 0), COALESCE(SUM(num_texts), 0), COALESCE(SUM(prompt_tokens), 0),"
    " COALESCE(SUM(completion_tokens), 0), COALESCE(SUM(usd), 0.0),"
    " COALESCE(SUM(state = 'answered' AND usd IS NULL), 0), COALESCE(SUM(seconds), 0.0)"
)


class Ledger:
    """The requests of one store, written under the name of a run and of a unit.

    Each of `sent`, `answered` and `failed` is one transaction, committed when it returns.
    """

    def __init__(self, texts: TextStore, *, run: str = "", unit: str = "") -> None:
        self._file: SharedFile = texts.file
        self._run = run
        self._unit = unit

    def sent(self, keys: Sequence[str], *, endpoint: str, model: str, attempt: int) -> int:
        """Write a request down; it may be sent once this has returned.

        Args:
            keys: of the texts that it asks for.
            endpoint: where it goes, without credentials.
            model: as it is asked for.
            attempt: from 1.

        Returns:
            The request's number.
        """
        with self._file.writing() as connection:
            number = connection.execute(
                "INSERT INTO requests (owner, run, unit, endpoint, model, attempt, num_keys, state, sent_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'sent', ?)",
                (self._file.owner(), self._run, self._unit, endpoint, model, attempt, len(keys), utc_now()),
            ).lastrowid  # fmt: skip
        assert number is not None
        return number

    def answered(
        self,
        request: int,
        texts: Mapping[str, GeneratedText],
        *,
        provenance: Mapping[str, Any],
        prompt_tokens: int,
        completion_tokens: int,
        usd: float | None,
        seconds: float,
    ) -> None:
        """Store a request's texts, give back their claims and close it, in one transaction.

        Args:
            request: its number; one that was closed before is an error of the caller.
            texts: by key; may be fewer than were asked for.
            provenance: kept beside the texts.
            prompt_tokens: of the whole answer, as the endpoint counted them; 0 where it did not.
            completion_tokens: likewise.
            usd: what it cost; None without a price.
            seconds: from sending to the last byte.
        """
        with self._file.writing():
            insert_texts(self._file, texts, provenance=provenance)
            self._close(
                request,
                "answered",
                None,
                len(texts),
                prompt_tokens,
                completion_tokens,
                usd,
                seconds,
            )

    def enter(
        self,
        texts: Mapping[str, GeneratedText],
        *,
        unit: str,
        endpoint: str,
        model: str,
        provenance: Mapping[str, Any],
        prompt_tokens: int,
        completion_tokens: int,
        usd: float | None,
    ) -> None:
        """Store an answer that came by another way than a request of ours, inside a transaction that is open already."""
        insert_texts(self._file, texts, provenance=provenance)
        self._file.connection.execute(
            "INSERT INTO requests (owner, run, unit, endpoint, model, attempt, num_keys, state, num_texts,"
            " prompt_tokens, completion_tokens, usd, seconds, sent_at)"
            " VALUES ('', ?, ?, ?, ?, 1, ?, 'answered', ?, ?, ?, ?, 0.0, ?)",
            (
                self._run, unit, endpoint, model, len(texts), len(texts), prompt_tokens, completion_tokens, usd,
                utc_now(),
            ),
        )  # fmt: skip

    def failed(self, request: int, *, reason: str, seconds: float) -> None:
        """Close a request that brought nothing; the claims on its texts stay, for another attempt.

        Args:
            request: its number.
            reason: short, and without the endpoint's own words where they may quote a secret.
            seconds: until it failed.
        """
        with self._file.writing():
            self._close(request, "failed", reason, None, None, None, None, seconds)

    def _close(self, request: int, *state: object) -> None:
        closed = self._file.connection.execute(
            "UPDATE requests SET state = ?, reason = ?, num_texts = ?, prompt_tokens = ?, completion_tokens = ?,"
            " usd = ?, seconds = ? WHERE number = ? AND state IN ('sent', 'unknown')",
            (*state, request),
        )
        assert closed.rowcount == 1, f"request {request} is not open"

    def totals(self, *, run: str | None = None, unit: str | None = None) -> LedgerTotals:
        """What was asked and paid, of one run or one unit or of all."""
        return self._totals(
            "(?1 IS NULL OR run = ?1) AND (?2 IS NULL OR unit = ?2)"
            if run is None
            else "run = ?1 AND (?2 IS NULL OR unit = ?2)",
            (run, unit),
        )

    def of_endpoints(self) -> dict[tuple[str, str], LedgerTotals]:
        """What was asked and paid, by endpoint and model."""
        if not self._file.is_there:
            return {}
        names = self._file.connection.execute(
            "SELECT DISTINCT endpoint, model FROM requests ORDER BY endpoint, model"
        ).fetchall()
        return {tuple(name): self._totals("endpoint = ?1 AND model = ?2", name) for name in names}

    def _totals(self, condition: str, values: tuple[str | None, ...]) -> LedgerTotals:
        if not self._file.is_there:
            return LedgerTotals()
        self._find_the_dead()
        row = self._file.connection.execute(
            f"SELECT {_TOTALS} FROM requests WHERE {condition}",  # noqa: S608 - literals of this class
            values,
        ).fetchone()
        names = [field.name for field in fields(LedgerTotals)]
        return LedgerTotals(**dict(zip(names, row, strict=True)))

    def _find_the_dead(self) -> None:
        """Make requests unknown that were sent by owners that live no more."""
        question = "SELECT DISTINCT owner FROM requests WHERE state = 'sent'"
        if self._file.connection.execute(question).fetchone() is None:
            return
        with self._file.writing() as connection:
            for (owner,) in connection.execute(question).fetchall():
                self._file.is_alive(owner)

    def mean_usage(self, *, endpoint: str, model: str) -> tuple[float, float, int] | None:
        """Mean prompt and completion tokens of a text that an endpoint answered, and how many texts; None before the first.

        A prompt that was sent once for several texts is shared among them. Answers without a count are left out.
        """
        if not self._file.is_there:
            return None
        prompt_tokens, completion_tokens, num_texts = self._file.connection.execute(
            "SELECT SUM(prompt_tokens), SUM(completion_tokens), SUM(num_texts) FROM requests"
            " WHERE state = 'answered' AND endpoint = ? AND model = ? AND prompt_tokens > 0",
            (endpoint, model),
        ).fetchone()
        if not num_texts:
            return None
        return prompt_tokens / num_texts, completion_tokens / num_texts, num_texts
