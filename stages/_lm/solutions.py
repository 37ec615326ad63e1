r"""A data set's own worked solution as steps: what a model is given of it, and what its length says of a question.

GSM8K: "48/2 = <<48/2=24>>24 clips in May.\n#### 72" gives "48/2 = 24 clips in May.": the calculator's marks and
the line with the answer are not reasoning. Source: Cobbe et al. 2021, arXiv 2110.14168, for both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kpod.stages._lm.steps import step_spans

if TYPE_CHECKING:
    from kpod.runner import Question
    from kpod.stages._lm.steps import RuleName

_MARK = re.compile(r"<<[^<>\n]*>>")
_ANSWER_LINE = re.compile(r"^[ \t]*####.*$", re.MULTILINE)


class Solution(NamedTuple):
    """A worked solution, cut into steps.

    Args:
        text: without calculator marks and without the line that states the answer.
        ends: offsets behind each step, in order; the last is the text's length. At least one.
    """

    text: str
    ends: tuple[int, ...]

    @property
    def num_steps(self) -> int:
        """How many steps it has, >= 1."""
        return len(self.ends)


def plain_solution(solution: str) -> str:
    """A solution without calculator marks and without the line that states the answer."""
    return _ANSWER_LINE.sub("", _MARK.sub("", solution)).strip()


def solution_of(question: Question, *, rule: RuleName) -> Solution | None:
    """The question's own solution in steps; None where it has none, or one that says nothing.

    Args:
        question: any.
        rule: as `step_spans` has it.
    """
    text = plain_solution(question.solution or "")
    ends = tuple(end for _, end in step_spans(text, rule=rule))
    return Solution(text, ends) if ends else None
