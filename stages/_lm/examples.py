"""Examples of how a question is answered, written in the recipe and shown to a model before it is asked (few-shot).

Source: few-shot chain-of-thought prompting, Wei et al. 2022 (arXiv 2201.11903), section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Doc, SettingError


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question with its reasoning."""

    question: Annotated[
        str, Doc("The question; a multiple-choice one with its lettered choices below.")
    ]
    rationale: Annotated[
        str, Doc("What should follow the prompt: the reasoning, then the answer in the same words.")
    ]

    def __post_init__(self) -> None:
        for name in ("question", "rationale"):
            if not getattr(self, name).strip():
                raise SettingError(
                    name, "an example's text is empty", hint="write it, or take the example out"
                )


def shots(template: str, examples: Sequence[Example], *, fill: Callable[[str], str]) -> str:
    """Examples as they stand before the question in a plain prompt, each followed by an empty line.

    The white space at the end of the template stands between the prompt and the rationale; a space where it has none.

    Args:
        template: of the prompt, up to where the model goes on.
        examples: in their order; none give an empty text.
        fill: puts a question's text into the template.
    """
    gap = template[len(template.rstrip()) :] or " "
    return "".join(
        f"{fill(example.question.strip()).rstrip()}{gap}{example.rationale.strip()}\n\n"
        for example in examples
    )


def turns_of(example: Example, *, fill: Callable[[str], str]) -> list[dict[str, str]]:
    """The example as turns of user and assistant.

    Args:
        example: with its reasoning.
        fill: puts a question's text into the template.
    """
    return [
        {"role": "user", "content": fill(example.question.strip()).rstrip()},
        {"role": "assistant", "content": example.rationale.strip()},
    ]
