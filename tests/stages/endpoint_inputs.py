"""What the tests of teacher.openai ask, and the context they ask it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kpod.runner import (
    Price,
    Question,
)
from kpod.stages.teacher.openai import Config
from tests.faults.endpoint import Endpoint
from tests.stages.fakes import FakeContext

KEY = "sk-test-0123456789abcdef"
PRICE = Price(input=1.0, output=2.0)


def question_of(text: str, **facts: Any) -> Question:
    return Question.make(
        text, **{"kind": "numeric", "answer": "5", "split": "train", "source": "test", **facts}
    )


QUESTIONS = [question_of(f"Tom has {n} apples and buys {n} more.") for n in range(3, 9)]


def config_for(endpoint: Endpoint, **settings: Any) -> Config:
    return Config(**{"urls": (endpoint.url,), "model": "teacher", "first_wait_s": 0.01, **settings})


def context_of(
    config: Config,
    root: Path | None = None,
    questions: list[Question] | None = None,
    **settings: Any,
) -> FakeContext[Config]:
    inputs = {
        "questions": QUESTIONS if questions is None else questions,
        **settings.pop("inputs", {}),
    }
    return FakeContext(config=config, inputs=inputs, seed=config.seed, root=root, **settings)


def bodies_since(endpoint: Endpoint, since: int) -> list[dict[str, Any]]:
    return list(endpoint.stats()["bodies"][since:])


def num_requests(endpoint: Endpoint) -> int:
    return int(endpoint.stats()["requests"])
