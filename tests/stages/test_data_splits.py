"""Questions into splits: merged, disjoint, limited by hash of the id, and told where they are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kpod.runner import Interrupted, Output, Question, StageError
from kpod.stages.data._splits import (
    NO_LIMIT,
    Limit,
    Part,
    Placed,
    Split,
    held_out,
    id_rank,
    publish,
)
from tests.stages.fakes import FakeContext

OUTPUTS: dict[Split, Output[Question]] = {
    "train": Output(Question, role="train", name="train"),
    "validation": Output(Question, role="validation", name="validation"),
    "test": Output(Question, role="test", name="test"),
}


def question(text: str, *, answer: str | None = "1") -> Question:
    return Question.make(text, kind="numeric", answer=answer, split="train", source="table")


def part(rows: list[Question], split_of: Callable[[str], Split], *, name: str = "f.jsonl") -> Part:
    def read() -> Iterator[Placed]:
        return (Placed(f"{name}:{number}", row) for number, row in enumerate(rows, 1))

    return Part(read=read, split_of=split_of)


def published(
    parts: list[Part], *, limit: Limit = NO_LIMIT, drops: bool = False
) -> FakeContext[Any]:
    ctx: FakeContext[Any] = FakeContext(config=None)
    publish(ctx, OUTPUTS, parts, limit=limit, drops_overlap=drops)
    return ctx


def texts(ctx: FakeContext[Any], split: str) -> list[str]:
    return [row.text for row in ctx.rows(split)]


def test_equal_rows_merge_and_are_counted() -> None:
    ctx = published([part([question("a"), question("b"), question("a")], held_out(0))])

    assert texts(ctx, "train") == ["a", "b"]
    assert ctx.notes["rows_merged"] == 1


def test_a_question_with_two_gold_answers_is_told_with_both_places() -> None:
    rows = [question("a"), question("b", answer="3"), question("b", answer=None)]
    with pytest.raises(StageError, match="two gold answers") as caught:
        published([part(rows, held_out(0))])

    assert str(caught.value) == (
        f"question {rows[1].id} has two gold answers: 'b'\n"
        "  f.jsonl:2: '3'\n"
        "  f.jsonl:3: none\n"
        "  allowed: equal rows (they merge)\n"
        "  mend or delete one of the two"
    )


def test_a_question_in_two_splits_is_an_error_that_counts_and_shows_some() -> None:
    shared = [question(text) for text in "abcde"]
    parts = [
        part(shared, lambda _: "test", name="test.jsonl"),
        part([question("x"), *shared], held_out(0), name="train.jsonl"),
    ]
    with pytest.raises(StageError, match="more than one split") as caught:
        published(parts)

    assert str(caught.value) == (
        "got 5 questions in more than one split:\n"
        f"  train.jsonl:2: {shared[0].id} 'a'\n"
        f"  train.jsonl:3: {shared[1].id} 'b'\n"
        f"  train.jsonl:4: {shared[2].id} 'c'\n"
        "  and 2 more\n"
        "  allowed: a question in one of train, validation and test\n"
        "  delete them from the file that is named here"
    )


def test_what_a_published_set_shares_is_dropped_from_the_later_split_and_counted() -> None:
    parts = [
        part([question("a")], lambda _: "test"),
        part([question("a"), question("a"), question("b")], held_out(0)),
    ]
    ctx = published(parts, drops=True)

    assert (texts(ctx, "test"), texts(ctx, "train")) == (["a"], ["b"])
    assert ctx.notes["overlap_removed"] == 1


def test_an_empty_split_is_noted_and_an_empty_set_refused() -> None:
    ctx = published([part([question("a")], held_out(0))])

    assert ctx.notes["empty_splits"] == ["validation", "test"]
    with pytest.raises(StageError, match="empty data set: got 1 rows and kept no question"):
        published([part([question("a")], held_out(0))], limit=Limit(train=0))


def test_reading_a_long_table_stops_when_asked() -> None:
    ctx: FakeContext[Any] = FakeContext(config=None, stop_at=1)
    rows = [question(str(number)) for number in range(5_000)]
    with pytest.raises(Interrupted, match="interrupted"):
        publish(ctx, OUTPUTS, [part(rows, held_out(0))], limit=NO_LIMIT, drops_overlap=False)


def test_the_split_of_a_question_is_written_into_it() -> None:
    ctx = published([part([question(str(number)) for number in range(50)], held_out(0.5))])

    for split in ("train", "validation"):
        assert {row.split for row in ctx.rows(split)} == {split}


@given(
    names=st.lists(st.text("abc", min_size=1), min_size=2, max_size=30, unique=True),
    frac=st.floats(0, 0.9),
)
def test_growth_and_order_move_no_question_between_splits(names: list[str], frac: float) -> None:
    rows = [question(name) for name in names]
    half = rows[: len(rows) // 2]
    assume(held(half, frac))
    small = published([part(half, held_out(frac))])
    large = published([part(rows[::-1], held_out(frac))])

    for split in ("train", "validation"):
        assert set(texts(small, split)) <= set(texts(large, split))


def held(rows: list[Question], frac: float) -> bool:
    """Whether something stays in train, as a set must."""
    return any(held_out(frac)(row.id) == "train" for row in rows)


@given(
    names=st.lists(st.text("abc", min_size=1), min_size=1, max_size=30),
    num=st.integers(1, 20),
    frac=st.sampled_from([0.0, 0.3]),
)
def test_a_limit_keeps_the_first_by_hash_of_the_id_in_the_order_of_the_file(
    names: list[str], num: int, frac: float
) -> None:
    rows = [question(name) for name in names]
    distinct = list({row.id: row for row in rows}.values())
    assume(held(rows, frac))
    ctx = published([part(rows, held_out(frac))], limit=Limit(train=num, validation=num))

    for split in ("train", "validation"):
        mine = [row for row in distinct if held_out(frac)(row.id) == split]
        kept = {
            row.id for row in sorted(mine, key=lambda row: id_rank(row.id, purpose="limit"))[:num]
        }
        assert texts(ctx, split) == [row.text for row in mine if row.id in kept]


def test_the_share_held_out_is_about_what_was_asked() -> None:
    ids = [question(str(number)).id for number in range(4_000)]
    num_held = sum(held_out(0.1)(one) == "validation" for one in ids)

    assert 340 <= num_held <= 460  # three standard deviations of a binomial are 57
