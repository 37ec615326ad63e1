"""From what a teacher said to rationales: thoughts taken off, identical samples of a question counted as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from kpod.runner import Rationale, Usage
from kpod.stages._lm.usage import sum_of_usage

if TYPE_CHECKING:
    from kpod.runner.texts import GeneratedText
    from kpod.stages.teacher._prompt import Ask

Thinking = Literal["off", "on", "keep"]

# The marks that Qwen3 and DeepSeek-R1 write around a thought.
_OPEN, _CLOSE = "<think>", "</think>"
_HINTED = "+hint"


def rationales_of(
    asks: Sequence[Ask],
    texts: Sequence[GeneratedText],
    *,
    samples: int,
    teacher: str,
    thinking: Thinking | None = "off",
) -> list[Rationale]:
    """Rationales in the order of the asks; identical samples of a question are one, with their count and all they cost.

    Args:
        asks: in the order in which they were put.
        texts: `samples` of them an ask.
        samples: texts an ask.
        teacher: who wrote them; of a hinted text it is followed by "+hint".
        thinking: "keep" leaves a thought in its text; otherwise a closed one at its beginning is taken off.
    """
    assert len(texts) == len(asks) * samples, "a text for every sample of every ask"
    made: dict[str, Rationale] = {}
    for index, text in enumerate(texts):
        ask = asks[index // samples]
        one = Rationale.make(
            ask.question.id,
            (text.text if thinking == "keep" else without_thought(text.text)).strip(),
            teacher=teacher + _HINTED if ask.is_hinted else teacher,
            usage=Usage(prompt_tokens=text.prompt_tokens, completion_tokens=text.completion_tokens),
            finish=text.finish,
        )
        known = made.get(one.id)
        if known is None:
            made[one.id] = one
        else:
            finish = "stop" if "stop" in {known.finish, one.finish} else known.finish
            usage = sum_of_usage(known.usage, one.usage)
            made[one.id] = replace(known, count=known.count + 1, usage=usage, finish=finish)
    return list(made.values())


def without_thought(text: str) -> str:
    """The text behind a closed thought at its beginning; a text without one, or with an unclosed one, as it stands.

    Some templates open the thought in the prompt, so that a text may close what it did not open.
    """
    thought, mark, rest = text.partition(_CLOSE)
    opened = thought.lstrip()
    is_at_beginning = opened.startswith(_OPEN) or _OPEN not in opened
    return rest.lstrip() if mark and is_at_beginning else text
