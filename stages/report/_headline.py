"""The answer in words: the comparison that the recipe is about, then which arm is best, and no winner inside the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kpod.stages.report._formats import Share, few, in_words, p_value, plural, points
from kpod.stages.report._paired import Pair
from kpod.stages.report._scores import Arm, TestSet

_SIGNIFICANCE = 0.05  # of the exact McNemar test, two-sided: the usual level


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One sentence, and what has to be said with it."""

    claim: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Score:
    arm: Arm
    share: Share


def headline(test_set: TestSet, *, seed: int) -> Headline:
    """The answer of one set of test questions."""
    scores = sorted(
        (_Score(arm=arm, share=arm.accuracy) for arm in test_set.arms if arm.accuracy),
        key=lambda score: -score.share.value,
    )
    if not scores:
        return Headline(
            claim=f"No score: none of the {_questions(test_set, test_set.num_questions)} has a gold answer.",
            details=("The texts were generated and are kept; an accuracy needs gold answers.",),
        )
    if len(scores) == 1:
        only = scores[0]
        return Headline(
            claim=f"{only.arm.name} answers {only.share.count:,} of {_questions(test_set, only.share.total)} right.",
            details=(
                f"{in_words(only.share)}. There is one arm, so nothing to compare it with.",
                *_seed_note(test_set, seed),
            ),
        )
    ranking, below = _ranking(test_set, scores)
    primary = [pair for pair in test_set.pairs if pair.is_primary]
    told = tuple(_pair_sentence(pair, test_set) for pair in primary)
    note = _seed_note(test_set, seed)
    if len(primary) == 1:
        claim = _pair_claim(primary[0], test_set)
        return Headline(claim=claim, details=(*told, *note, f"{ranking} {below}"))
    return Headline(claim=ranking, details=(below, *told, *note))


def _questions(test_set: TestSet, number: int) -> str:
    """So many test questions; of which evaluation, by its id, in brackets where it says more than that it scores."""
    which = "" if test_set.name == "scores" else f" ({test_set.name})"
    return f"{plural(number, 'test question')}{which}"


def no_evaluation(num_stages: int) -> Headline:
    """What to say of a run that scored nothing."""
    return Headline(
        claim=f"No score: this run of {plural(num_stages, 'stage')} evaluates nothing.",
        details=("What its stages made, and what that cost, stands below.",),
    )


def _ranking(test_set: TestSet, scores: Sequence[_Score]) -> tuple[str, str]:
    """Who is best, if anyone is; and where the others stand."""
    best, *others = scores
    near = [score for score in others if score.share.high >= best.share.low]
    far = [score for score in others if score not in near]
    where = f"the {_questions(test_set, test_set.n)}"
    top = f"{best.arm.name}: {in_words(best.share)}"
    below = [f"{score.arm.name} ({in_words(score.share)})" for score in far]
    if not near:
        return (
            f"{best.arm.name} is best on {where}.",
            f"{top}. Its 95 % interval lies above {_theirs(far)} of {few(below)}.",
        )
    names = few([score.arm.name for score in near])
    if best.share.count == near[0].share.count and best.share.total == near[0].share.total:
        tied = [score.arm.name for score in near if score.share.value == best.share.value]
        claim = (
            f"No winner on {where}: {few([best.arm.name, *tied])} have equally many right answers."
        )
    else:
        claim = f"No winner on {where}: {best.arm.name} has the most right answers, but its interval overlaps {_theirs(near)} of {names}."
    tail = f" Its interval does lie above {_theirs(far)} of {few(below)}." if far else ""
    beside = few([f"{score.arm.name} {in_words(score.share)}" for score in near])
    return claim, f"{top}; beside it {beside}.{tail}"


def _theirs(scores: Sequence[_Score]) -> str:
    return "that" if len(scores) == 1 else "those"


def _pair_claim(pair: Pair, test_set: TestSet) -> str:
    """What the one comparison of the recipe came to, for these two models."""
    gained = pair.num_fixed - pair.num_broken
    where = f"the {_questions(test_set, pair.n)}"
    if gained == 0:
        return f"{pair.baseline} and {pair.other} have equally many right answers on {where}."
    change = f"{abs(gained):,} {'more' if gained > 0 else 'fewer'}"
    if pair.p_holm >= _SIGNIFICANCE:
        return f"No winner between {pair.baseline} and {pair.other} on {where}: {change} right answers of {pair.other} may be chance."
    return f"{pair.other} answers {change} of {where} right than {pair.baseline}."


def _pair_sentence(pair: Pair, test_set: TestSet) -> str:
    """What the primary pair says; the test is about these two models only."""
    shares = {arm.name: arm.accuracy for arm in test_set.arms}
    before, after = shares[pair.baseline], shares[pair.other]
    change = f"{points(after.value - before.value)}, " if before and after else ""
    return (
        f"The comparison this recipe is about, {pair.baseline} → {pair.other}: {change}"
        f"{pair.num_fixed:,} fixed and {pair.num_broken:,} broken of the same {plural(pair.n, 'question')}; "
        f"exact McNemar {p_value(pair.p_holm)} for these two students."
    )


def _seed_note(test_set: TestSet, seed: int) -> tuple[str, ...]:
    """A run has one seed; where it trained, that limits what its figures say."""
    if all(arm.training_s is None for arm in test_set.arms):
        return ()
    return (f"One seed ({seed}): an observation, not a claim about the method.",)
