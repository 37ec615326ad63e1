"""What each rung of the ladder left: how many rationales, and of how many questions at least one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

RUNGS = (
    "truncated", "no_answer", "wrong", "arithmetic", "no_majority", "outvoted", "leaked", "length", "duplicates",
    "over_limit",
)  # fmt: skip
_TOP = len(RUNGS)


@dataclass(slots=True)
class Tally:
    """Counts rationales by the rung at which they left.

    Args:
        num_questions: that were asked.
        dropped: by rung.
        kept: rationales that passed all.
        hinted: of those, the ones whose teacher was told the answer.
    """

    num_questions: int
    dropped: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    hinted: int = 0
    _reached: dict[str, int] = field(default_factory=dict)

    def falls(self, question_id: str, rung: str) -> None:
        """A rationale leaves at a rung."""
        self.dropped[rung] += 1
        self._reach(question_id, RUNGS.index(rung))

    def passes(self, question_id: str, *, is_hinted: bool) -> None:
        """A rationale is kept."""
        self.kept += 1
        self.hinted += is_hinted
        self._reach(question_id, _TOP)

    def _reach(self, question_id: str, height: int) -> None:
        self._reached[question_id] = max(height, self._reached.get(question_id, 0))

    @property
    def read(self) -> int:
        """Rationales that came in."""
        return self.kept + self.dropped.total()

    def notes(self) -> dict[str, object]:
        """As facts: counts by name, and under `rungs` what was left after each, in their order."""
        answered, solved = (
            len(self._reached),
            sum(height == _TOP for height in self._reached.values()),
        )
        return {
            "read": self.read,
            **{rung: self.dropped[rung] for rung in RUNGS},
            "kept": self.kept,
            "kept_hinted": self.hinted,
            "questions": self.num_questions,
            "questions_without_rationale": self.num_questions - answered,
            "questions_solved": solved,
            "rungs": self._rungs(),
            "summary": self._summary(solved),
        }

    def _rungs(self) -> list[dict[str, object]]:
        left = self.read
        rows: list[dict[str, object]] = [
            {"rung": "read", "dropped": 0, "rationales": left, "questions": len(self._reached)}
        ]
        for height, rung in enumerate(RUNGS):
            left -= self.dropped[rung]
            questions = sum(reached > height for reached in self._reached.values())
            rows.append(
                {
                    "rung": rung,
                    "dropped": self.dropped[rung],
                    "rationales": left,
                    "questions": questions,
                }
            )
        return rows

    def _summary(self, solved: int) -> str:
        """Like "520 of 651 kept (126 wrong, 4 arithmetic), for 180 of 200 questions"."""
        dropped = [
            f"{self.dropped[rung]:,} {rung.replace('_', ' ')}"
            for rung in RUNGS
            if self.dropped[rung]
        ]
        why = f" ({', '.join(dropped)})" if dropped else ""
        is_partial = solved < self.num_questions
        where = f", for {solved:,} of {self.num_questions:,} questions" if is_partial else ""
        return f"{self.kept:,} of {self.read:,} kept{why}{where}"
