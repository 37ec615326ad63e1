"""What an endpoint says: a `chat.completion` object as texts, and what a failure means for what is asked next.

A reply, in short: {"model": "gpt-4o-mini-2024-07-18", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "…"}}],
"usage": {"prompt_tokens": 57, "completion_tokens": 81}}. Source: OpenAI API reference, the chat completion object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from kpod.runner.texts import GeneratedText
from kpod.stages.teacher._limits import retry_after_s

Finish = Literal["stop", "length", "content_filter"]

# The first of each is OpenAI's; the others are what vLLM, TGI and OpenRouter pass on from the engines behind them.
_FINISHES: dict[str, Finish] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "length": "length", "max_tokens": "length", "content_filter": "content_filter",
}  # fmt: skip


class Reply(NamedTuple):
    """One answered request.

    Args:
        texts: in the order of their index; fewer than were asked for where the server sent fewer.
        prompt_tokens, completion_tokens: of the whole request; None where the server did not count.
        model: what the server says it ran, or "".
    """

    texts: list[GeneratedText]
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str


def read_reply(body: object, *, num_texts: int) -> Reply:
    """The texts of a chat.completion object.

    The request's tokens are shared out: the prompt's evenly, those written by length of the text, to their exact sum.

    Args:
        body: parsed JSON.
        num_texts: as many as were asked for, >= 1; more are left out.

    Raises:
        ValueError: it is no such object, or has no choice that can be used.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("choices"), list):
        raise ValueError("no chat.completion object")  # noqa: TRY004 - a bad answer, not a bad call
    said = [_said(choice) for choice in _ordered(body["choices"])[:num_texts]]
    if not said:
        raise ValueError("no choices")
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    prompts = shares(prompt or 0, [1] * len(said))
    completions = shares(completion or 0, [len(text.encode()) + 1 for text, _ in said])
    texts = [
        GeneratedText(text=text, finish=finish, prompt_tokens=read, completion_tokens=written)
        for (text, finish), read, written in zip(said, prompts, completions, strict=True)
    ]
    return Reply(texts, prompt, completion, str(body.get("model") or ""))


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """A whole number cut into whole parts by weight, to its exact sum.

    Args:
        total: >= 0.
        weights: at least one, all >= 1.
    """
    found, upto, given = [], 0, 0
    for weight in weights:
        upto += weight
        part = total * upto // sum(weights) - given
        given += part
        found.append(part)
    return found


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def _ordered(choices: list[Any]) -> list[Any]:
    """Choices by their index; as they stand where some have none."""
    indexes = [choice.get("index") if isinstance(choice, Mapping) else None for choice in choices]
    if all(isinstance(index, int) for index in indexes):
        return [choices[i] for i in sorted(range(len(choices)), key=lambda i: int(indexes[i] or 0))]
    return choices


def _said(choice: Any) -> tuple[str, Finish]:
    """Text and finish of a choice; a thought that the server took out of the text stands before it again."""
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise ValueError("a choice without a message")  # noqa: TRY004 - as above
    finish = _FINISHES.get(str(choice.get("finish_reason")))
    if finish is None:
        raise ValueError(f"finish_reason {choice.get('finish_reason')!r}")
    text = message.get("content")
    if text is not None and not isinstance(text, str):
        raise ValueError("a content that is no text")
    text = text or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought.strip():
        if text.strip():
            text = f"<think>\n{thought.strip()}\n</think>\n\n{text}"
        elif finish == "length":
            text = f"<think>\n{thought}"
    return text, finish


class Failure(NamedTuple):
    """An attempt that brought no text.

    Args:
        reason: a short name of it, the same for all of its kind.
        then: later: the server is busy, ask it less; again: bad luck; question: this question cannot be asked; stop: none can.
        says: what the server said, with nothing secret in it.
        retry_after_s: how long the server wants to be left alone, or None.
        is_lost: the server was not reached, or went away.
        may_be_paid: whether the server may have answered, and counted, what we did not receive.
    """

    reason: str
    then: Literal["later", "again", "question", "stop"]
    says: str = ""
    retry_after_s: float | None = None
    is_lost: bool = False
    may_be_paid: bool = False


_LATER = frozenset({429, 502, 503, 504, 529})
_AGAIN = frozenset({408, 409, 425})
_QUESTION = frozenset({400, 413, 422})
_NEVER_CONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})


def failure_of(error: Exception, *, key: str | None) -> Failure:
    """What an exception of the client, of the deadline or of `read_reply` means.

    Raises:
        Exception: the error itself, where it is none of these: a mistake of ours.
    """
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Failure("timeout", "later", may_be_paid=True)
    if isinstance(error, openai.APIStatusError):
        return _refusal(
            error.status_code,
            _said_in(error.body, error.message, key),
            headers=error.response.headers,
            code=str(error.code),
        )
    if isinstance(error, openai.APIConnectionError):
        names = {type(cause).__name__ for cause in _causes(error)}
        if names & _NEVER_CONNECTED:
            return Failure("no_connection", "again", is_lost=True)
        return Failure("connection_lost", "again", is_lost=True, may_be_paid=True)
    if isinstance(error, ValueError):
        return Failure("invalid_reply", "again", _masked(str(error), key), may_be_paid=True)
    raise error


def failure_in(body: object, *, key: str | None) -> Failure | None:
    """The failure that stands in an answer with status 200, as routers send it; None where there is none."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not error or (isinstance(body, Mapping) and body.get("choices")):
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    if isinstance(code, int) and 400 <= code < 600:
        return _refusal(code, _said_in(error, "", key), headers={}, code="")
    return Failure("error_in_reply", "again", _said_in(error, str(error), key))


def _refusal(status: int, says: str, *, headers: Mapping[str, str], code: str) -> Failure:
    """What an answer with an error status means."""
    wait_s = retry_after_s(headers)
    if code == "insufficient_quota":  # OpenAI says so with status 429; waiting does not help
        return Failure(code, "stop", says)
    if status in _LATER:
        return Failure(str(status), "later", says, wait_s)
    if status in _AGAIN or status >= 500:
        return Failure(str(status), "again", says, wait_s)
    return Failure(str(status), "question" if status in _QUESTION else "stop", says)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _said_in(body: object, message: str, key: str | None) -> str:
    """The message of an error body, on one line, shortened."""
    said = body.get("message") if isinstance(body, Mapping) else None
    text = _masked(" ".join(str(said or message).split()), key)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _masked(text: str, key: str | None) -> str:
    """A text that does not hold the key, whatever the server wrote into it."""
    return text.replace(key, "***") if key else text
