"""The form of a request: what is sent to a chat endpoint, and what its texts are called in the record store.

A live request and a line of a batch file carry the same body.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from kpod.runner.texts import text_key

# Part of every text's key: raise it when a fix changes what is asked for, and no old text is found again.
ENGINE = "openai/1"
_TOKENS_A_MESSAGE = (
    8  # marks that a chat template puts around a turn: 3 or 4 for most, more than enough
)

Messages = Sequence[Mapping[str, str]]


class Asked(NamedTuple):
    """A question on its way: its id, for messages to people, and its prompt."""

    question_id: str
    messages: Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Everything that decides a text but its messages and sample.

    Args:
        provider: what stands for the servers in the key.
        model: as the endpoint calls it.
        max_new_tokens: >= 1.
        token_limit: the field that carries it.
        temperature: 0: greedy.
        top_p: in (0, 1].
        stop: a text ends before the first of these.
        seed: of sample 0; not read at temperature 0.
        extra: sent as it is, beside our fields.
    """

    provider: tuple[str, ...]
    model: str
    max_new_tokens: int
    token_limit: Literal["max_tokens", "max_completion_tokens"]
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    seed: int
    extra: Mapping[str, Any]

    def keys(self, messages: Messages, *, samples: int) -> tuple[str, ...]:
        """The names of the first samples of a prompt."""
        facts: dict[str, Any] = {
            "engine": ENGINE, "provider": list(self.provider), "model": self.model, "messages": list(messages),
            "max_new_tokens": self.max_new_tokens, "temperature": float(self.temperature), "top_p": float(self.top_p),
            "stop": list(self.stop), "extra": dict(self.extra),
        }  # fmt: skip
        if not self.temperature:
            return tuple(text_key(facts) for _ in range(samples))
        facts["seed"] = self.seed
        return tuple(text_key({**facts, "sample": sample}) for sample in range(samples))

    def body(self, messages: Messages, samples: Sequence[int]) -> dict[str, Any]:
        """What is sent for these samples of a prompt; fields that say nothing are left out.

        The seed is that of the first sample, so that samples that are asked for later are others.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            self.token_limit: self.max_new_tokens,
            "temperature": self.temperature,
            **self.extra,
        }
        if self.temperature:
            body["seed"] = self.seed + samples[0]
            if self.top_p < 1:
                body["top_p"] = self.top_p
        if self.stop:
            body["stop"] = list(self.stop)
        if len(samples) > 1:
            body["n"] = len(samples)
        return body

    def most_tokens(self, messages: Messages, *, num_texts: int) -> tuple[int, int]:
        """Prompt and completion tokens that a request may cost.

        The prompt's is an estimate from above, two bytes a token: vocabularies of today take about four bytes of English
        and of most scripts, and a rare script or a run of symbols may still cost more.
        """
        num_bytes = sum(len(message["content"].encode()) for message in messages)
        return -(-num_bytes // 2) + _TOKENS_A_MESSAGE * len(messages), (
            num_texts * self.max_new_tokens
        )


def request_id(keys: Sequence[str]) -> str:
    """A name for a request by the texts that it asks for."""
    return "kpod-" + hashlib.sha256(json.dumps(list(keys)).encode()).hexdigest()[:32]
