"""What a student's settings and its wired inputs cannot do together; known before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpod.runner import SettingError
from kpod.stages.student._validate import Validate

if TYPE_CHECKING:
    from collections.abc import Set

    from kpod.stages.student._settings import Config

_OF_RATIONALES = ("weights", "curriculum", "budget")


def check_wired(config: Config, wired: Set[str]) -> None:
    """Refuse settings and inputs that would be ignored, or that contradict each other.

    Args:
        config: of the student.
        wired: names of its inputs that are.

    Raises:
        SettingError: with what to do.
    """
    _check_prompt(config, [name for name in _OF_RATIONALES if name in wired])
    _check_length(config, has_budget="budget" in wired)
    _check_validation(config.validate, wired)


def _check_prompt(config: Config, wired: list[str]) -> None:
    """Weights and cuts belong to a rationale that stands before the answer."""
    prompt = config.prompt.resolve()
    if wired and not prompt.has_rationale:
        raise SettingError(
            "prompt",
            f"the prompt '{prompt.name}' has no rationale, but {' and '.join(wired)} of rationales"
            f" {'is' if len(wired) == 1 else 'are'} wired",
            hint=f"unwire with in: {{{wired[0]}: null}}, or use a prompt with {{rationale}}",
        )
    answer = prompt.template.find("{answer}")
    if "curriculum" in wired and 0 <= answer < prompt.template.find("{rationale}"):
        raise SettingError(
            "prompt",
            "the prompt has its answer before its rationale, so a curriculum would give the answer away",
            hint="put {rationale} before {answer}, or unwire with in: {curriculum: null}",
        )


def _check_length(config: Config, *, has_budget: bool) -> None:
    """Epochs or a budget say when training ends."""
    if has_budget and (config.epochs is not None or config.max_steps is not None):
        raise SettingError(
            "epochs",
            f"got a budget and epochs: {config.epochs}, max_steps: {config.max_steps}; a budget says by itself when"
            " training ends",
            hint="set epochs: null and max_steps: null, or unwire the budget",
        )
    if not has_budget and config.epochs is None:
        raise SettingError(
            "epochs", "epochs is null, and no budget is wired", hint="set epochs, or wire a budget"
        )


def _check_validation(settings: Validate, wired: Set[str]) -> None:
    """Validation questions are there where they are asked for; the loss needs rationales, and nothing else reads them."""
    if "validation" not in wired:
        if settings != Validate() or "validation_rationales" in wired:
            raise SettingError(
                "validate",
                "validate or validation_rationales is given, but no validation questions are wired",
                hint="wire them, e.g. in: {validation: questions.validation}, or drop both",
            )
    elif settings.metric == "loss" and "validation_rationales" not in wired:
        raise SettingError(
            "validate",
            "validate.metric is loss, but validation_rationales is not wired",
            hint="wire rationales of the validation questions, or set metric: accuracy",
        )
    elif settings.metric == "accuracy" and "validation_rationales" in wired:
        raise SettingError(
            "validate",
            "validation_rationales is wired, but validate.metric is accuracy, which does not read it",
            hint="set validate: {metric: loss}, or unwire with in: {validation_rationales: null}",
        )
