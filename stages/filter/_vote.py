"""The answer that most samples of a question give: a stand-in for gold where a question has none.

Source: self-consistency, Wang et al. 2022 (arXiv 2203.11171, Sec. 2): the answers of sampled reasoning paths are counted
unweighted, the most frequent one wins. The paper has no thresholds; a tie, too few votes and too small a share elect nobody
here, since a student would learn the elected answer as the right one (our choice).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpod.runner import Rationale
    from kpod.stages.filter.verified import Vote


def elected(votes: Iterable[Rationale], vote: Vote) -> str | None:
    """The answer of the majority; None where there is none.

    Args:
        votes: rationales of one question with their answers in canonical form, so that 12, 12.0 and $12 are one; each has as
            many votes as samples (`count`).
        vote: how clear a majority must be.
    """
    counts: Counter[str] = Counter()
    for rationale in votes:
        assert rationale.answer is not None, "a rationale without an answer has no vote"
        counts[rationale.answer] += rationale.count
    ranked = counts.most_common(2)
    num_votes = counts.total()
    is_tie = len(ranked) > 1 and ranked[0][1] == ranked[1][1]
    if num_votes < vote.min_samples or is_tie or ranked[0][1] < vote.min_share * num_votes:
        return None
    return ranked[0][0]
