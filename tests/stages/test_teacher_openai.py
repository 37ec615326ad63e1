"""teacher.openai: what is sent, what is stored, and what it costs; against a real server on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import (
    Batchable,
    BudgetReached,
    Forecasting,
    Rationale,
    SettingError,
    StageError,
    Usage,
)
from kpod.runner.config import config_to_json, keyed_settings
from kpod.stages.teacher._prompt import AskPrompt, Example
from kpod.stages.teacher.openai import Config, OpenAi
from tests.faults.endpoint import Endpoint
from tests.stages.endpoint_inputs import (
    PRICE,
    QUESTIONS,
    bodies_since,
    config_for,
    context_of,
    num_requests,
    question_of,
)


def test_every_question_gets_a_rationale_with_its_usage(endpoint: Endpoint) -> None:
    ctx = context_of(config_for(endpoint, price=PRICE))
    OpenAi().run(ctx)
    rows = ctx.rows("rationales")

    assert [row.question_id for row in rows] == [question.id for question in QUESTIONS]
    assert rows[0].text == "Adding all numbers.\nThe answer is 6."
    assert rows[0].usage == Usage(prompt_tokens=20, completion_tokens=10)
    assert {row.teacher for row in rows} == {"teacher"}
    assert ctx.notes["requests"] == 6
    assert ctx.notes["usd"] == pytest.approx(6 * (20 + 2 * 10) / 1e6)
    assert ctx.notes["summary"] == "6 rationales for 6 questions; 60 tokens written"


def test_a_request_holds_what_was_set_and_nothing_else(endpoint: Endpoint) -> None:
    before = num_requests(endpoint)
    prompt = AskPrompt(
        template="{question}",
        system="Be brief.",
        examples=(Example(question="1+1?", rationale="2."),),
    )
    config = config_for(
        endpoint, prompt=prompt, samples=3, temperature=0.7, top_p=0.9, stop=("\n\nQ",), seed=7,
        max_new_tokens=99, thinking="off", extra_body={"min_p": 0.05}, token_limit="max_completion_tokens",
    )  # fmt: skip
    OpenAi().run(context_of(config, questions=QUESTIONS[:1]))
    plain = config_for(endpoint, prompt=AskPrompt(template="{question}"))
    OpenAi().run(context_of(plain, questions=QUESTIONS[:1]))
    sent, plainly = bodies_since(endpoint, before)

    assert sent == {
        "model": "teacher",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": "2."},
            {"role": "user", "content": QUESTIONS[0].text},
        ],
        "max_completion_tokens": 99, "temperature": 0.7, "top_p": 0.9, "seed": 7, "n": 3, "stop": ["\n\nQ"],
        "min_p": 0.05, "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert plainly == {
        "model": "teacher",
        "messages": [{"role": "user", "content": QUESTIONS[0].text}],
        "max_tokens": 512,
        "temperature": 0.0,
    }


def test_statement_08_more_questions_and_samples_pay_only_for_what_is_new(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    config = config_for(endpoint, temperature=1.0, samples=2)
    OpenAi().run(context_of(config, tmp_path, QUESTIONS[:4]))
    before = num_requests(endpoint)
    grown = context_of(replace(config, samples=3), tmp_path, QUESTIONS[::-1])
    OpenAi().run(grown)
    new = bodies_since(endpoint, before)

    assert sorted(body.get("n", 1) for body in new) == [1, 1, 1, 1, 3, 3]
    assert {body["seed"] for body in new if "n" not in body} == {2}
    assert grown.notes["saved"]["texts"] == 8
    assert sum(row.count for row in grown.rows("rationales")) == 18


def test_a_store_that_has_every_text_needs_no_server_and_no_key(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KPOD_TEST_KEY", raising=False)
    first = context_of(config_for(endpoint, provider="lab"), tmp_path)
    OpenAi().run(first)
    moved = Config(
        urls=("http://127.0.0.1:1/v1",), provider="lab", model="teacher", api_key_env="KPOD_TEST_KEY",
        price=PRICE,
    )  # fmt: skip
    again = context_of(moved, tmp_path, budget_usd=0.0001)
    OpenAi().run(again)

    assert again.rows("rationales") == first.rows("rationales")
    assert again.notes["requests"] == 0
    assert again.notes["saved"] == {
        "texts": 6, "prompt_tokens": 120, "completion_tokens": 60, "usd": pytest.approx(0.00024)
    }  # fmt: skip


def test_settings_that_change_no_text_keep_the_key_of_the_stage(endpoint: Endpoint) -> None:
    config = config_for(endpoint)
    assert set(config_to_json(config)) - set(keyed_settings(config)) == {
        "api_key_env", "check_model", "concurrency", "requests_per_minute", "tokens_per_minute",
        "deadline_s", "max_attempts", "first_wait_s", "price",
    }  # fmt: skip


def test_pace_changes_no_rationale(endpoint: Endpoint) -> None:
    found = []
    for settings in (
        {"concurrency": 1},
        {"concurrency": 50, "requests_per_minute": 60_000, "tokens_per_minute": 10**7},
        {"samples_per_request": 1, "check_model": False},
    ):
        ctx = context_of(config_for(endpoint, temperature=0.5, samples=2, **settings))
        OpenAi().run(ctx)
        found.append(ctx.rows("rationales"))

    assert found[0] == found[1]
    # One text a request is another seed for the second sample at a real server; here the text names it.
    assert [row.text for row in found[2]] == [row.text for row in found[0]]


def test_the_same_question_twice_is_asked_once(endpoint: Endpoint) -> None:
    before = num_requests(endpoint)
    twin = question_of(QUESTIONS[0].text, kind="text")
    ctx = context_of(config_for(endpoint), questions=[QUESTIONS[0], twin])
    OpenAi().run(ctx)

    assert num_requests(endpoint) == before + 1
    assert [row.question_id for row in ctx.rows("rationales")] == [QUESTIONS[0].id, twin.id]


def test_unicode_control_characters_braces_and_stop_strings_go_through(endpoint: Endpoint) -> None:
    before = num_requests(endpoint)
    text = "Zoë has 3 \u4e2d\u6587 \x07\t{answer} apples; STOP \U0001f34e and 4 more"
    ctx = context_of(config_for(endpoint, stop=("STOP",)), questions=[question_of(text)])
    OpenAi().run(ctx)

    assert text in bodies_since(endpoint, before)[0]["messages"][-1]["content"]
    assert ctx.rows("rationales")[0].text.endswith("The answer is 7.")


def test_unsolved_questions_are_asked_with_a_hint(endpoint: Endpoint) -> None:
    solved = [
        Rationale.make(question.id, "fine", teacher="t", verdict="correct")
        for question in QUESTIONS[1:]
    ]
    before = num_requests(endpoint)
    ctx = context_of(config_for(endpoint), inputs={"solved": solved})
    OpenAi().run(ctx)

    assert len(bodies_since(endpoint, before)) == 1
    assert "The right answer is 5." in bodies_since(endpoint, before)[0]["messages"][-1]["content"]
    assert [row.teacher for row in ctx.rows("rationales")] == ["teacher+hint"]
    assert ctx.rows("rationales")[0].is_hinted


def test_a_budget_stops_before_it_is_passed_and_a_new_one_continues(tmp_path: Path) -> None:
    many = [question_of(f"Ann has {n} pears.") for n in range(20)]
    with Endpoint() as endpoint:
        config = config_for(endpoint, price=PRICE, max_new_tokens=10, concurrency=4)
        poor = context_of(config, tmp_path, many, budget_usd=0.0006)
        with pytest.raises(BudgetReached, match="of 20 texts are there"):
            OpenAi().run(poor)
        num_paid = endpoint.stats()["answered"]
        num_booked = poor.ledger.totals().answered
        OpenAi().run(context_of(config, tmp_path, many, budget_usd=1.0))
        num_answered = endpoint.stats()["answered"]

    assert 0 < num_paid == num_booked < 20
    assert poor.budget.spent_usd <= 0.0006
    assert num_answered == 20


def test_a_budget_without_a_price_is_refused(endpoint: Endpoint) -> None:
    before = num_requests(endpoint)
    with pytest.raises(StageError, match=r"set with.price"):
        OpenAi().run(context_of(config_for(endpoint), budget_usd=1.0))

    assert num_requests(endpoint) == before


def test_a_forecast_is_an_upper_bound_until_the_endpoint_has_answered(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    config = config_for(endpoint, price=PRICE, provider="lab", max_new_tokens=100)
    stage = OpenAi()
    assert isinstance(stage, Forecasting)
    first = stage.forecast(context_of(config, tmp_path))
    OpenAi().run(context_of(config, tmp_path, QUESTIONS[:4]))
    second = stage.forecast(context_of(config, tmp_path))

    assert (first.num_texts, first.num_stored, first.completion_tokens) == (6, 0, 600)
    assert first.basis.startswith("upper bound")
    assert (second.num_stored, second.prompt_tokens, second.completion_tokens) == (4, 40, 20)
    assert second.usd == pytest.approx(PRICE.usd(40, 20))
    assert second.basis == "mean of 4 texts of this endpoint and model"


def test_batch_lines_are_what_a_live_run_sends(endpoint: Endpoint, tmp_path: Path) -> None:
    config = config_for(endpoint, temperature=0.5, samples=2, provider="lab")
    stage = OpenAi()
    assert isinstance(stage, Batchable)
    lines = list(stage.batch_requests(context_of(config, tmp_path)))
    before = num_requests(endpoint)
    ctx = context_of(config, tmp_path)
    stage.run(ctx)
    sent = bodies_since(endpoint, before)

    def by_content(body: dict[str, Any]) -> str:
        return str(body["messages"])

    assert sorted(sent, key=by_content) == sorted((line.body for line in lines), key=by_content)
    assert ctx.records.stored(key for line in lines for key in line.keys) == {
        key for line in lines for key in line.keys
    }
    assert len({line.custom_id for line in lines}) == 6
    assert list(stage.batch_requests(context_of(config, tmp_path))) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"urls": ("ftp://x/v1",)}, "is no URL of a server"),
        ({"urls": ("localhost:8000",)}, "is no URL of a server"),
        ({"urls": ("https://me:secret@host/v1",)}, "holds a key or a password"),
        ({"urls": ("https://host/sk-abcdef123456/v1",)}, "holds a key or a password"),
        ({"urls": ("https://host/v1?key=1",)}, "goes on after the path"),
        ({"samples": 2}, "samples: got 2 at temperature 0"),
        ({"stop": ("",)}, "holds an empty text"),
        ({"extra_body": {"n": 2}}, "a setting of its own"),
        ({"extra_body": {"auth": "sk-abcdef123456"}}, "looks like a key"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says) as error:
        Config(**{"urls": ("http://host/v1",), "model": "m", **settings})

    assert "secret" not in str(error.value)
