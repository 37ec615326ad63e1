"""teacher.openai and a server that refuses, fails, or is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kpod.runner import (
    Interrupted,
    StageError,
)
from kpod.stages.teacher.openai import Config, OpenAi
from tests.faults.endpoint import Endpoint
from tests.stages.endpoint_inputs import (
    KEY,
    PRICE,
    QUESTIONS,
    config_for,
    context_of,
    num_requests,
    question_of,
)
from tests.stages.fakes import FakeContext


def test_a_server_that_ignores_n_is_asked_for_the_rest(tmp_path: Path) -> None:
    with Endpoint(most_choices=1) as endpoint:
        ctx = context_of(config_for(endpoint, temperature=1.0, samples=3, concurrency=1), tmp_path)
        OpenAi().run(ctx)
        stats = endpoint.stats()

    assert stats["answered"] == stats["choices"] == 18
    assert ctx.notes["answers_with_too_few_choices"] == 1
    assert sum(row.count for row in ctx.rows("rationales")) == 18


@pytest.mark.parametrize("fault", ["empty", "content_filter"])
def test_refused_texts_are_kept_and_asked_again_only_on_demand(tmp_path: Path, fault: str) -> None:
    with Endpoint(faults={fault: 1.0}) as endpoint:
        config = config_for(endpoint, provider="lab")
        first = context_of(config, tmp_path)
        OpenAi().run(first)
        again = context_of(config, tmp_path)
        OpenAi().run(again)
        num_asked = endpoint.stats()["requests"]
    with Endpoint() as endpoint:
        retried = context_of(replace(config, urls=(endpoint.url,)), tmp_path, retry_refused=True)
        OpenAi().run(retried)

    assert first.notes["refused"] == again.notes["refused"] == 6
    assert num_asked == 6
    assert retried.notes["refused"] == 0
    assert retried.rows("rationales")[0].text.endswith("The answer is 6.")


def test_a_cut_text_says_so_and_a_server_without_usage_or_list_is_noted() -> None:
    with Endpoint(faults={"length": 1.0}, has_usage=False, has_list=False) as endpoint:
        ctx = context_of(config_for(endpoint, price=PRICE))
        OpenAi().run(ctx)

    assert {row.finish for row in ctx.rows("rationales")} == {"length"}
    assert ctx.notes["truncated"] == ctx.notes["usage_missing"] == 6
    assert ctx.notes["unchecked_urls"] == {endpoint.url: "404"}
    assert ctx.ledger.totals().unpriced == 6


def test_an_answer_from_another_model_is_noted() -> None:
    with Endpoint(faults={"wrong_model": 1.0}) as endpoint:
        ctx = context_of(config_for(endpoint))
        OpenAi().run(ctx)

    assert ctx.notes["served_models"] == {"another-model": 6}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "429"), ("429_ms", "429"), ("429_date", "429"), ("500", "500"), ("503", "503"),
        ("reset", "connection_lost"), ("half_body", "connection_lost"), ("invalid_json", "invalid_reply"),
        ("no_choices", "invalid_reply"), ("stall", "timeout"),
    ],
)  # fmt: skip
def test_a_failure_is_never_stored_and_asked_again(fault: str, reason: str) -> None:
    with Endpoint(faults={fault: 0.5}, seed=3) as endpoint:
        # Only a stall waits for the deadline; elsewhere a slow machine would add timeouts of its own.
        ctx = context_of(config_for(endpoint, deadline_s=1.0 if fault == "stall" else 60.0))
        OpenAi().run(ctx)
        stats = endpoint.stats()
    totals = ctx.ledger.totals()

    assert ctx.notes["retries"][reason] == stats["refused"][fault] > 0
    assert stats["answered"] == totals.answered == ctx.records.count() == 6
    assert totals.failed == stats["refused"][fault]
    assert all(row.text.startswith("Adding") for row in ctx.rows("rationales"))


def test_a_wrong_key_stops_at_once_and_is_nowhere_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPOD_TEST_KEY", KEY)
    for check_model in (True, False):
        with Endpoint(key="another") as endpoint:
            config = config_for(endpoint, api_key_env="KPOD_TEST_KEY", check_model=check_model)
            with pytest.raises(StageError, match="we sent the key in KPOD_TEST_KEY") as error:
                OpenAi().run(context_of(config, tmp_path))
            stats = endpoint.stats()

        assert stats["keys_seen"] == [KEY]
        assert stats["requests"] == 0
        assert "Incorrect API key provided: ***" in str(error.value)
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert KEY.encode() not in written


def test_a_right_key_is_nowhere_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPOD_TEST_KEY", KEY)
    with Endpoint(key=KEY) as endpoint:
        ctx = context_of(config_for(endpoint, api_key_env="KPOD_TEST_KEY"), tmp_path)
        OpenAi().run(ctx)

    assert len(ctx.rows("rationales")) == 6
    assert KEY not in repr((ctx.outputs, ctx.notes, ctx.steps))
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_key_that_is_not_there_is_an_error_before_anything_is_sent(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KPOD_TEST_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = num_requests(endpoint)
    with pytest.raises(StageError, match="variable KPOD_TEST_KEY is not set"):
        OpenAi().run(context_of(config_for(endpoint, api_key_env="KPOD_TEST_KEY")))
    with pytest.raises(StageError, match="variable OPENAI_API_KEY is not set"):
        OpenAi().run(context_of(Config(urls=("https://api.openai.com/v1",), model="m")))

    assert num_requests(endpoint) == before


def test_a_key_that_no_recipe_names_never_goes_over_an_open_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Endpoint() as endpoint:
        OpenAi().run(context_of(config_for(endpoint)))
        seen = endpoint.stats()["keys_seen"]

    assert seen == ["none"]


def test_a_model_that_is_not_served_is_an_error_that_lists_what_is() -> None:
    with Endpoint(models=("teacher-7b", "other")) as endpoint:
        with pytest.raises(StageError, match="allowed: teacher-7b, other"):
            OpenAi().run(context_of(config_for(endpoint)))
        with pytest.raises(StageError, match=r"is with\.model 'teacher' served there") as error:
            OpenAi().run(context_of(config_for(endpoint, check_model=False)))

    assert "0 of 6 texts are stored" in str(error.value)


def test_questions_that_the_server_refuses_are_told_together_after_all_others(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    bad = [question_of(f"BADQUESTION {number}") for number in (1, 2)]
    ctx = context_of(config_for(endpoint), tmp_path, [bad[0], *QUESTIONS, bad[1]])
    with pytest.raises(StageError, match="did not answer 2 questions") as error:
        OpenAi().run(ctx)

    assert all(question.id in str(error.value) for question in bad)
    assert "400: maximum context length" in str(error.value)
    assert ctx.records.count() == 6


def test_a_server_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    config = Config(
        urls=("http://127.0.0.1:1/v1",), model="teacher", first_wait_s=0.01, max_attempts=3
    )
    ctx = context_of(config, tmp_path)
    with pytest.raises(StageError, match="3 attempts in a row failed and none was answered"):
        OpenAi().run(ctx)

    assert ctx.ledger.totals().in_flight == 0


def test_a_server_that_is_not_there_leaves_its_work_to_the_others(endpoint: Endpoint) -> None:
    many = [question_of(f"Ann has {n} pears.") for n in range(60)]
    ctx = context_of(
        config_for(endpoint, urls=("http://127.0.0.1:1/v1", endpoint.url)), questions=many
    )
    OpenAi().run(ctx)

    assert len(ctx.rows("rationales")) == 60
    assert set(ctx.notes["retries"]) == {"no_connection"}


def test_several_servers_share_the_work() -> None:
    many = [question_of(f"Ann has {n} pears.") for n in range(30)]
    with Endpoint(latency_s=0.01) as one, Endpoint(latency_s=0.01) as two:
        config = Config(urls=(one.url, two.url), model="teacher")
        OpenAi().run(context_of(config, questions=many))
        shares_of = [one.stats()["answered"], two.stats()["answered"]]

    assert sum(shares_of) == 30
    assert min(shares_of) >= 10


def test_requests_in_flight_are_waited_for_when_the_run_is_stopped(tmp_path: Path) -> None:
    many = [question_of(f"Ann has {n} pears.") for n in range(40)]
    with Endpoint(latency_s=0.1) as endpoint:
        config = config_for(endpoint, concurrency=4)
        stopped = context_of(config, tmp_path, many, stop_at=1)
        stopped_later = StopsAt(stopped, num_texts=8)
        with pytest.raises(Interrupted):
            OpenAi().run(stopped_later)
        kept = stopped.records.count()
        num_answered = endpoint.stats()["answered"]
        OpenAi().run(context_of(config, tmp_path, many))
        stats = endpoint.stats()

    assert 8 <= kept == num_answered < 40
    assert stats["answered"] == 40


class StopsAt(FakeContext[Config]):
    """A context that asks to stop once so many texts are stored."""

    def __init__(self, inner: FakeContext[Config], *, num_texts: int) -> None:
        self.__dict__.update(inner.__dict__)
        self._num_texts = num_texts

    @property
    def should_stop(self) -> bool:
        """Whether there are so many."""
        return self.records.count() >= self._num_texts
