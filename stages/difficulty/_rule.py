"""How a recipe names the rule that cuts a rationale into steps."""

from __future__ import annotations

from typing import Annotated, Literal

from kpod.runner import Doc

RuleName = Literal["sentence", "period"]
Rule = Annotated[
    RuleName,
    Doc(
        "Where a rationale is cut. sentence: after sentences and lines, with decimals, abbreviations and list marks kept "
        "whole (our choice); period: after every '.', as KPOD Sec. 3.4 words it, decimals or not."
    ),
]
