"""The two GSM8K verdicts of lm-evaluation-harness, in our words, so that a score can stand beside published ones.

Source: lm-evaluation-harness, `lm_eval/tasks/gsm8k/gsm8k.yaml`: the filters `strict-match` (first `#### N`) and
`flexible-extract` (last number), and the exact match after the characters named in `regexes_to_ignore` are taken out.
Strict can fire only on "####": a model that never saw GSM8K's format scores 0 however well it reasons. Flexible takes
the last run of digits, so a text that goes on after its answer is wrong. Ours is `answers.is_correct`.
"""

from __future__ import annotations

import re

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_BEFORE_ANSWER = re.compile(r".*#### ", re.DOTALL)


def strict_is_correct(text: str, gold: str) -> bool:
    """Whether the number after the first "#### " is the gold answer.

    Args:
        text: what the model said.
        gold: the gold answer, or GSM8K's whole solution that ends on it.
    """
    match = _STRICT.search(text)
    return match is not None and _normal(match[1]) == _normal(gold)


def flexible_is_correct(text: str, gold: str) -> bool:
    """Whether the last number of the text, with $ and commas in it, is the gold answer (arguments as above)."""
    last = None
    for match in _FLEXIBLE.finditer(text):
        last = match[0]
    return last is not None and _normal(last.strip()) == _normal(gold)


def _normal(answer: str) -> str:
    """Lower case, without commas, dollar signs, all up to "#### ", and a full stop at the end."""
    answer = answer.replace(",", "").replace("$", "")
    answer = _BEFORE_ANSWER.sub("", answer)
    return re.sub(r"\.$", "", answer).lower()
