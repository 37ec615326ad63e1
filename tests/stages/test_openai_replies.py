"""The parts of teacher.openai that need no server: replies, limits, waits."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages.teacher._limits import Bucket, Window, backoff_s, retry_after_s
from kpod.stages.teacher._replies import read_reply, shares


@given(st.integers(0, 10_000), st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_shares_are_whole_and_sum_up(total: int, weights: list[int]) -> None:
    found = shares(total, weights)

    assert sum(found) == total
    assert all(
        abs(part - total * weight / sum(weights)) < 1
        for part, weight in zip(found, weights, strict=True)
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "finish_reason", "usage", "index", "model"]),
            inner, max_size=4,
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_json_is_a_reply_or_a_value_error(body: Any) -> None:
    try:
        reply = read_reply(body, num_texts=2)
    except ValueError:
        return
    assert 1 <= len(reply.texts) <= 2


def _choice(**facts: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": facts.pop("content", "so 5")}
    return {
        "index": 0,
        "finish_reason": "stop",
        "message": {**message, **facts.pop("message", {})},
        **facts,
    }


def test_choices_are_joined_by_index_and_tokens_shared_by_length() -> None:
    body = {
        "choices": [_choice(index=1, content="x" * 29), _choice(index=0, content="x" * 9)],
        "usage": {"prompt_tokens": 9, "completion_tokens": 40},
    }
    texts = read_reply(body, num_texts=2).texts

    assert [len(text.text) for text in texts] == [9, 29]
    assert [text.prompt_tokens for text in texts] == [4, 5]
    assert [text.completion_tokens for text in texts] == [10, 30]


@pytest.mark.parametrize(
    ("choice", "text", "finish"),
    [
        (_choice(message={"reasoning_content": "hm"}), "<think>\nhm\n</think>\n\nso 5", "stop"),
        (_choice(content=None, message={"reasoning": "hm"}, finish_reason="length"), "<think>\nhm", "length"),
        (_choice(content=None, message={"refusal": "no"}), "", "stop"),
        (_choice(finish_reason="eos_token"), "so 5", "stop"),
    ],
)  # fmt: skip
def test_thoughts_refusals_and_other_words_for_stop_are_understood(
    choice: dict[str, Any], text: str, finish: str
) -> None:
    found = read_reply({"choices": [choice]}, num_texts=1).texts[0]

    assert (found.text, found.finish) == (text, finish)


@pytest.mark.parametrize("finish", [None, "tool_calls", "error"])
def test_an_end_that_is_none_is_no_reply(finish: str | None) -> None:
    with pytest.raises(ValueError, match="finish_reason"):
        read_reply({"choices": [_choice(finish_reason=finish)]}, num_texts=1)


def test_one_overload_halves_a_window_once_and_a_round_of_answers_adds_one() -> None:
    window = Window(16)
    for _ in range(16):
        window.cut(sent_at=1.0, now=2.0)
    assert window.limit == 8
    for _ in range(8):
        window.grow()
    assert window.limit == pytest.approx(9, abs=0.1)
    for second in range(3, 20):
        window.cut(sent_at=float(second), now=float(second))
    assert window.limit == 1
    for _ in range(1000):
        window.grow()
    assert window.limit == 16


@given(st.lists(st.floats(0.5, 200), min_size=5, max_size=60), st.integers(60, 6000))
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(
    amounts: list[float], per_minute: int
) -> None:
    bucket = Bucket(per_minute, now=0.0)
    now = taken = 0.0
    for amount in amounts:
        now += bucket.wait_s(now)
        assert bucket.wait_s(now) == pytest.approx(0, abs=1e-6)
        # The one that is about to be taken may leave a debt; all before it are within the rate and the burst.
        assert taken <= max(1.0, per_minute / 60) + now * per_minute / 60 + 1e-6
        bucket.take(amount)
        taken += amount


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:07 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            7.0,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert retry_after_s(headers) == wait_s


def test_waits_double_up_to_a_minute_and_jitter_from_nothing() -> None:
    draw = random.Random(0)
    waits = {n: [backoff_s(n, first_s=0.5, draw=draw) for _ in range(300)] for n in (1, 3, 40)}

    for attempt, most in ((1, 0.5), (3, 2.0), (40, 60.0)):
        assert min(waits[attempt]) < 0.1 * most
        assert 0.9 * most < max(waits[attempt]) <= most
