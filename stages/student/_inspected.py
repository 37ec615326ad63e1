"""A training sequence as a person reads it: every token, whether the loss reads it, and how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpod.runner import InspectedExample, InspectedToken
from kpod.stages._lm.encoding import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def inspected(
    example: Example, tokenizer: PreTrainedTokenizerBase, *, evaluation_ids: Sequence[int]
) -> InspectedExample:
    """The example, beside the ids that evaluation would send for the same question."""
    context = [(token, False, 0.0) for token in example.prompt_ids]
    completion = zip(example.completion.ids, example.is_target, example.weights, strict=True)
    tokens = tuple(
        InspectedToken(
            id=token,
            text=str(tokenizer.decode([token])),
            is_target=is_target,
            weight=weight if is_target else 0.0,
        )
        for token, is_target, weight in (*context, *completion)
    )
    return InspectedExample(
        example_id=example.example_id,
        tokens=tokens,
        has_evaluation_prompt=tuple(evaluation_ids) == example.prompt_ids,
    )
