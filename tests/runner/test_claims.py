"""Claims on texts: of all that live, one owner at most may write a text; the dead hold nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner.texts import GeneratedText, TextStore


def text(said: str = "x", finish: str = "stop") -> GeneratedText:
    return GeneratedText(text=said, finish=finish, prompt_tokens=1, completion_tokens=1)  # type: ignore[arg-type]


def two(tmp_path: Path) -> tuple[TextStore, TextStore]:
    return TextStore(tmp_path / "t.sqlite"), TextStore(tmp_path / "t.sqlite")


def test_a_claimed_key_is_given_to_nobody_else_and_again_to_the_one_who_has_it(
    tmp_path: Path,
) -> None:
    one, other = two(tmp_path)

    assert one.claim(["a", "b"]) == {"a", "b"}
    assert other.claim(["a", "b", "c"]) == {"c"}
    assert one.claim(["a", "c"]) == {"a"}


def test_a_stored_text_is_not_claimed_and_putting_it_gives_the_claim_back(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    one.claim(["a"])
    one.put({"a": text()}, provenance={})

    assert other.claim(["a"]) == one.claim(["a"]) == set()
    assert (
        one.file.connection.execute("SELECT COUNT(*) FROM claims").fetchone()
        == other.file.connection.execute("SELECT 0").fetchone()
    )


def test_a_released_key_is_free_and_nobody_releases_what_another_holds(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    one.claim(["a", "b"])
    other.claim(["c"])
    other.release(["a"])
    one.release(["b"])

    assert other.claim(["a", "b"]) == {"b"}


def test_an_owner_that_closes_its_store_holds_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    one.claim(["a"])
    one.close()

    assert other.claim(["a"]) == {"a"}
    other.close()
    assert list((tmp_path / "owners").iterdir()) == []


@pytest.mark.parametrize(("said", "finish"), [("", "stop"), (" \n\u00a0", "stop"), ("no", "content_filter")])  # fmt: skip
def test_a_refused_text_is_found_claimed_and_replaced_only_where_it_is_asked_for(
    tmp_path: Path, said: str, finish: str
) -> None:
    store, other = two(tmp_path)
    store.put({"a": text(said, finish), "b": text()}, provenance={})

    assert set(store.get(["a", "b"])) == store.stored(["a", "b"]) == {"a", "b"}
    assert set(store.get(["a", "b"], but_refused=True)) == {"b"}
    assert store.stored(["a", "b"], but_refused=True) == {"b"}
    assert store.claim(["a", "b"]) == set()
    assert store.claim(["a", "b"], but_refused=True) == {"a"}
    assert other.claim(["a"], but_refused=True) == set()

    store.put({"a": text("yes"), "b": text("later")}, provenance={"n": 2})

    assert {key: found.text for key, found in other.get(["a", "b"]).items()} == {
        "a": "yes",
        "b": "x",
    }


def test_an_empty_text_that_was_cut_is_no_refusal() -> None:
    assert not text("", "length").is_refused
    assert not text("x").is_refused


def test_many_keys_are_claimed_at_once(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    keys = [f"{number}" for number in range(40_000)]

    assert len(one.claim(keys[:30_000])) == 30_000
    assert other.claim(keys) == set(keys[30_000:])


@pytest.mark.parametrize("ahead_s", [-10 * 365 * 86400.0, 10 * 365 * 86400.0])
def test_a_clock_that_is_set_back_or_ahead_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    one, other = two(tmp_path)
    one.claim(["a"])
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + ahead_s)

    assert other.claim(["a", "b"]) == {"b"}
    one.close()
    assert other.claim(["a"]) == {"a"}


OWNERS, KEYS = range(3), "abcd"
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "release", "put", "close", "retry"]),
        st.sampled_from(OWNERS),
        st.sets(st.sampled_from(KEYS), min_size=1),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(STEPS)
def test_no_two_living_owners_ever_hold_the_same_claim(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, set[str], bool]]
) -> None:
    path = tmp_path_factory.mktemp("claims") / "t.sqlite"
    stores = [TextStore(path) for _ in OWNERS]
    held: list[set[str]] = [set() for _ in OWNERS]
    stored: dict[str, bool] = {}
    try:
        for act, who, keys, is_refused in steps:
            if act in {"claim", "retry"}:
                given_keys = stores[who].claim(keys, but_refused=act == "retry")
                others = set().union(*(held[o] for o in OWNERS if o != who))
                there = {k for k, refused in stored.items() if not (refused and act == "retry")}
                assert given_keys == keys - others - there
                held[who] |= given_keys
            elif act == "release":
                stores[who].release(keys)
                held[who] -= keys
            elif act == "put":
                said = text("" if is_refused else "x")
                stores[who].put(dict.fromkeys(keys, said), provenance={})
                held[who] -= keys
                stored |= {k: is_refused for k in keys if stored.get(k, True)}
            else:
                stores[who].close()
                held[who] = set()
            rows = stores[who].file.connection.execute("SELECT key FROM claims").fetchall()
            assert sorted(key for (key,) in rows) == sorted(k for one in held for k in one)
    finally:
        for store in stores:
            store.close()
