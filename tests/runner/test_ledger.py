"""The ledger: every request is there before it is sent, and what became of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kpod.runner import Ledger, LedgerTotals, Price
from kpod.runner.texts import GeneratedText, TextStore
from tests.chain import Chain, recipe

TEXT = GeneratedText(text="x", finish="stop", prompt_tokens=10, completion_tokens=5)
WHERE = {"endpoint": "http://here/v1", "model": "m"}


def ledger_of(path: Path, run: str = "r", unit: str = "u") -> tuple[TextStore, Ledger]:
    store = TextStore(path / "t.sqlite")
    return store, Ledger(store, run=run, unit=unit)


def answer(ledger: Ledger, number: int, *keys: str, usd: float | None = 0.5) -> None:
    ledger.answered(
        number, dict.fromkeys(keys, TEXT), provenance={},
        prompt_tokens=30, completion_tokens=12, usd=usd, seconds=2.0,
    )  # fmt: skip


def test_a_request_is_on_the_disk_before_it_is_sent(tmp_path: Path) -> None:
    _, ledger = ledger_of(tmp_path)
    number = ledger.sent(["a", "b"], attempt=3, **WHERE)

    with sqlite3.connect(tmp_path / "t.sqlite") as other:
        row = other.execute(
            "SELECT number, run, unit, endpoint, model, attempt, num_keys, state FROM requests"
        ).fetchall()
    assert row == [(number, "r", "u", "http://here/v1", "m", 3, 2, "sent")]
    assert ledger.totals() == LedgerTotals(in_flight=1)


def test_an_answer_stores_its_texts_frees_their_claims_and_closes_the_request(
    tmp_path: Path,
) -> None:
    store, ledger = ledger_of(tmp_path)
    other = TextStore(tmp_path / "t.sqlite")
    store.claim(["a", "b"])
    number = ledger.sent(["a", "b"], attempt=1, **WHERE)
    answer(ledger, number, "a")

    assert other.get(["a", "b"]) == {"a": TEXT}
    assert other.claim(["a", "b"]) == set()
    store.release(["b"])
    assert other.claim(["b"]) == {"b"}
    assert ledger.totals() == LedgerTotals(
        answered=1, texts=1, prompt_tokens=30, completion_tokens=12, usd=0.5, seconds=2.0
    )


def test_an_answer_that_cannot_be_stored_closes_nothing(tmp_path: Path) -> None:
    store, ledger = ledger_of(tmp_path)
    number = ledger.sent(["a"], attempt=1, **WHERE)

    with pytest.raises(AttributeError):
        ledger.answered(
            number, {"a": TEXT, "b": None}, provenance={},  # type: ignore[dict-item]
            prompt_tokens=1, completion_tokens=1, usd=None, seconds=1.0,
        )  # fmt: skip
    assert (store.count(), ledger.totals().in_flight) == (0, 1)


def test_a_failure_keeps_the_claim_for_another_attempt(tmp_path: Path) -> None:
    store, ledger = ledger_of(tmp_path)
    store.claim(["a"])
    ledger.failed(ledger.sent(["a"], attempt=1, **WHERE), reason="429", seconds=0.5)

    assert TextStore(tmp_path / "t.sqlite").claim(["a"]) == set()
    assert ledger.totals() == LedgerTotals(failed=1, seconds=0.5)


def test_a_request_whose_sender_went_away_is_unknown(tmp_path: Path) -> None:
    store, ledger = ledger_of(tmp_path)
    _, other = ledger_of(tmp_path)
    other.sent(["b"], attempt=1, **WHERE)
    ledger.sent(["a"], attempt=1, **WHERE)
    assert other.totals() == LedgerTotals(in_flight=2)

    store.close()

    assert other.totals() == LedgerTotals(in_flight=1, unknown=1)


def test_totals_are_told_by_run_by_unit_and_by_endpoint(tmp_path: Path) -> None:
    store, first = ledger_of(tmp_path, "one", "u")
    second = Ledger(store, run="two", unit="v")
    answer(first, first.sent(["a"], attempt=1, **WHERE), "a")
    answer(second, second.sent(["b"], attempt=1, **WHERE), "b", usd=None)
    answer(second, second.sent(["c"], attempt=1, endpoint="http://there", model="n"), "c")

    assert first.totals(run="one").requests == 1
    assert (first.totals(run="two").usd, first.totals(run="two").unpriced) == (0.5, 1)
    assert first.totals(unit="v").answered == 2
    assert first.totals(run="two", unit="u") == LedgerTotals()
    assert {name: totals.texts for name, totals in first.of_endpoints().items()} == {
        ("http://here/v1", "m"): 2,
        ("http://there", "n"): 1,
    }


def test_mean_usage_is_that_of_a_text_and_leaves_answers_without_a_count_out(
    tmp_path: Path,
) -> None:
    _, ledger = ledger_of(tmp_path)
    assert ledger.mean_usage(**WHERE) is None
    answer(ledger, ledger.sent(["a", "b", "c"], attempt=1, **WHERE), "a", "b", "c")
    number = ledger.sent(["d"], attempt=1, **WHERE)
    ledger.answered(
        number, {"d": TEXT}, provenance={}, prompt_tokens=0, completion_tokens=0, usd=None, seconds=1.0
    )  # fmt: skip

    assert ledger.mean_usage(**WHERE) == (10.0, 4.0, 3)
    assert ledger.mean_usage(endpoint="http://here/v1", model="other") is None


def test_nothing_is_made_by_asking_an_empty_store(tmp_path: Path) -> None:
    _, ledger = ledger_of(tmp_path)

    assert (ledger.totals(), ledger.of_endpoints()) == (LedgerTotals(), {})
    assert not (tmp_path / "t.sqlite").exists()


def test_a_price_is_in_usd_a_million_tokens() -> None:
    assert Price(input=2.0, output=8.0).usd(500_000, 250_000) == pytest.approx(3.0)


def test_a_store_of_before_the_ledger_gets_its_tables_and_keeps_its_texts(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.sqlite") as old:
        old.execute(
            "CREATE TABLE texts (key TEXT PRIMARY KEY, text TEXT NOT NULL, finish TEXT NOT NULL,"
            " prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, provenance TEXT NOT NULL)"
            " WITHOUT ROWID"
        )
        old.execute("INSERT INTO texts VALUES ('a', 'x', 'stop', 10, 5, '{}')")
    store, ledger = ledger_of(tmp_path)

    assert store.get(["a"]) == {"a": TEXT}
    answer(ledger, ledger.sent(["b"], attempt=1, **WHERE), "b")
    assert store.count() == 2


def priced(num_questions: int = 4, **settings: object) -> dict[str, object]:
    price = {"input": 1.0, "output": 2.0}  # 1,000 in and 500 out: 0.002 USD a text
    return recipe(
        s1={"uses": "chain.numbers", "with": {"count": num_questions}},
        said={"uses": "asker.echo", "with": {"price": price, **settings}},
    )


def test_a_run_says_what_it_spent_and_what_the_store_saved(chain: Chain) -> None:
    first = chain.run(priced(4)).archive
    second = chain.run(priced(6)).archive
    third = chain.run(priced(6)).archive

    spent = [
        [row["said"] for row in run.events() if row["event"] == "run_spent"]
        for run in (first, second, third)
    ]
    assert spent == [
        ["spent 0.0080 USD on 4 answered requests (4,000 tokens in, 2,000 out)"],
        [
            "spent 0.0040 USD on 2 answered requests (2,000 tokens in, 1,000 out);"
            " the store saved 0.0080 USD (4 texts were there)"
        ],
        [],
    ]
    assert second.facts["spent"]["usd"] == pytest.approx(0.004)
    assert third.facts["spent"] is None
