"""The steps of rationales, as every difficulty counts them: cut by the one segmenter, and none without a step."""

from __future__ import annotations

from collections.abc import Sequence

from kpod.runner import Rationale, StageError
from kpod.stages._lm.steps import RuleName, Span, step_spans


def steps_by_rationale(rationales: Sequence[Rationale], *, rule: RuleName) -> dict[str, list[Span]]:
    """The steps of each rationale, by id.

    Raises:
        StageError: there is no rationale, or one has no step.
    """
    if not rationales:
        raise StageError(
            "there are no rationales to measure\nlook at the counts that the teacher and the filter noted"
        )
    steps = {row.id: step_spans(row.text, rule=rule) for row in rationales}
    empty = [name for name, spans in steps.items() if not spans]
    if empty:
        raise StageError(
            f"{len(empty)} of {len(rationales)} rationales have no step, their text is empty: {', '.join(empty[:3])}\n"
            "drop them with filter.verified"
        )
    return steps
