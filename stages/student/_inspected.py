"""A training sequence as a person reads it: every token, whether the loss reads it, and how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpod.runner import InspectedExample, InspectedToken
from kpod.stages._lm.encoding import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def inspected(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    *,
    epoch: int,
    evaluation_ids: Sequence[int],
) -> InspectedExample:
    """The example as an epoch (from 1) trains it, beside the ids that evaluation would send for the same question."""
    passage = example.passage(epoch)
    context = [(token, False, 0.0) for token in passage.context_ids]
    targets = [
        (token, True, weight)
        for token, weight in zip(passage.target_ids, passage.weights, strict=True)
    ]
    tokens = tuple(
        InspectedToken(
            id=token, text=str(tokenizer.decode([token])), is_target=is_target, weight=weight
        )
        for token, is_target, weight in (*context, *targets)
    )
    return InspectedExample(
        example_id=example.example_id,
        tokens=tokens,
        has_evaluation_prompt=tuple(evaluation_ids) == example.prompt_ids,
    )
