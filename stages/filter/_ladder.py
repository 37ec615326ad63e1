"""The ladder of filter.verified: judges rationales rung by rung, and counts what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Question, Rationale, StageError
from kpod.stages._lm.answers import canonical, extract, matches
from kpod.stages._lm.usage import sum_of_usage
from kpod.stages.filter._arithmetic import first_wrong
from kpod.stages.filter._leaks import leak
from kpod.stages.filter._tail import without_answer
from kpod.stages.filter._tally import RUNGS, Tally
from kpod.stages.filter._vote import elected

if TYPE_CHECKING:
    from kpod.stages.filter.verified import Config, Vote


class Climbed(NamedTuple):
    """What passed, and the facts about all of them."""

    kept: list[Rationale]
    notes: dict[str, object]


class _Standing(NamedTuple):
    """A rationale with its verdict, stripped.

    Args:
        rung: at which it falls before the vote; None: it comes that far.
        later: at which it falls after the vote.
        is_open: whether the vote decides about it.
    """

    rationale: Rationale
    rung: str | None
    later: str | None = None
    is_open: bool = False


def climb(
    rationales: Iterable[Rationale], questions: Iterable[Question], config: Config
) -> Climbed:
    """Judge all rationales.

    Raises:
        StageError: a rationale of an unknown question, gold that is missing or cannot be read, or nothing kept.
    """
    by_id = {question.id: question for question in questions}
    if "answer" in config.require:
        _check_gold(by_id, may_be_missing=config.vote is not None)
    tally = Tally(len(by_id))
    standing = _standing(rationales, by_id, config, tally)
    if config.vote is not None:
        standing = _voted(standing, config.vote, tally)
    passed = _passed(standing, tally, is_merged=config.merge_duplicates)
    kept = _limited(passed, config.per_question, tally)
    for rationale in kept:
        tally.passes(rationale.question_id, is_hinted=rationale.is_hinted)
    if not kept:
        raise StageError(_nothing_kept(tally))
    return Climbed(kept, tally.notes())


def _standing(
    rationales: Iterable[Rationale],
    questions: Mapping[str, Question],
    config: Config,
    tally: Tally,
) -> list[_Standing]:
    """The rationales that come to the vote, in order; `tally` takes the others."""
    standing: list[_Standing] = []
    for rationale in rationales:
        question = questions.get(rationale.question_id)
        if question is None:
            raise StageError(_unknown(rationale, len(questions)))
        judged = _judged(rationale, question, config)
        if judged.rung is None:
            standing.append(judged)
        else:
            tally.falls(question.id, judged.rung)
    return standing


def _judged(rationale: Rationale, question: Question, config: Config) -> _Standing:
    if rationale.finish == "length":
        return _Standing(rationale, "truncated")
    own = _with_verdict(rationale, question)
    if rationale.finish == "content_filter":
        return _Standing(own, "no_answer")
    if "answer" in config.require and own.verdict in {"wrong", "no_answer"}:
        return _Standing(own, own.verdict)
    if "arithmetic" in config.require and first_wrong(rationale.text) is not None:
        return _Standing(own, "arithmetic")
    later = None
    if rationale.is_hinted and leak(rationale.text, question) is not None:
        later = "leaked"
    elif not config.min_chars <= len(own.text) <= config.max_chars:
        later = "length"
    is_open = question.answer is None and own.answer is not None
    return _Standing(own, None, later, is_open)


def _with_verdict(rationale: Rationale, question: Question) -> Rationale:
    """The rationale with answer and verdict, stripped of its answer phrase; one that a filter judged before keeps both.

    The verdict is None where the question has no gold answer and the text gives one.
    """
    text = without_answer(rationale.text).strip()
    answer, verdict = rationale.answer, rationale.verdict
    if verdict is None and (answer is None or question.answer is not None):
        found = extract(rationale.text, question.kind, question.choices)
        answer = found.value if found else None
        if found is None:
            verdict = "no_answer"
        elif question.answer is not None:
            is_right = matches(found, question.answer, question.kind, question.choices)
            verdict = "correct" if is_right else "wrong"
    return Rationale.make(
        question.id, text, teacher=rationale.teacher, count=rationale.count, usage=rationale.usage,
        finish=rationale.finish, answer=answer, verdict=verdict,
    )  # fmt: skip


def _voted(standing: Sequence[_Standing], vote: Vote, tally: Tally) -> list[_Standing]:
    """Those that the vote of their question elects, and those that need none, in order."""
    votes = sorted(
        (each.rationale for each in standing if each.is_open), key=lambda it: it.question_id
    )
    winners = {
        question_id: elected(group, vote)
        for question_id, group in groupby(votes, key=lambda it: it.question_id)
    }
    left: list[_Standing] = []
    for each in standing:
        question_id = each.rationale.question_id
        winner = winners.get(question_id)
        if not each.is_open or (winner is not None and each.rationale.answer == winner):
            left.append(each)
        else:
            tally.falls(question_id, "no_majority" if winner is None else "outvoted")
    return left


def _passed(standing: Iterable[_Standing], tally: Tally, *, is_merged: bool) -> list[Rationale]:
    """The rationales that pass every rung but the limit, in order."""
    passed: dict[tuple[str, str], Rationale] = {}
    for number, each in enumerate(standing):
        rung = each.later or _keep(passed, each.rationale, number, is_merged=is_merged)
        if rung:
            tally.falls(each.rationale.question_id, rung)
    return list(passed.values())


def _keep(
    passed: dict[tuple[str, str], Rationale], judged: Rationale, number: int, *, is_merged: bool
) -> str | None:
    """Add a rationale to those that passed; "duplicates" where its text was there and the counts were added."""
    key = (judged.id, "" if is_merged else str(number))
    first = passed.get(key)
    if first is None:
        passed[key] = judged
        return None
    usage = sum_of_usage(first.usage, judged.usage)
    passed[key] = replace(first, count=first.count + judged.count, usage=usage)
    return "duplicates"


def _limited(
    rationales: list[Rationale], per_question: int | None, tally: Tally
) -> list[Rationale]:
    """At most `per_question` a question: the highest counts, ties by id (a hash, so by chance and always the same)."""
    if per_question is None:
        return rationales
    order = sorted(
        range(len(rationales)), key=lambda i: (-rationales[i].count, rationales[i].id, i)
    )
    taken: Counter[str] = Counter()
    kept: list[int] = []
    for i in order:
        question_id = rationales[i].question_id
        if taken[question_id] < per_question:
            taken[question_id] += 1
            kept.append(i)
        else:
            tally.falls(question_id, "over_limit")
    return [rationales[i] for i in sorted(kept)]


def _check_gold(questions: Mapping[str, Question], *, may_be_missing: bool) -> None:
    missing = [
        question.id
        for question in questions.values()
        if question.answer is None and not may_be_missing
    ]
    unreadable = [
        question
        for question in questions.values()
        if question.answer is not None
        and canonical(question.answer, question.kind, question.choices) is None
    ]
    if missing:
        raise StageError(
            f"filter.verified: {len(missing)} of {len(questions)} questions have no gold answer: {_first(missing)}\n"
            "  allowed: questions with answers, where require holds answer\n"
            "  map the answer column in the data stage, set vote to take the answer of most samples, or set"
            " require: [arithmetic] or []"
        )
    if unreadable:
        first = unreadable[0]
        raise StageError(
            f"filter.verified: {len(unreadable)} of {len(questions)} gold answers cannot be read:"
            f" {_first([question.id for question in unreadable])}\n"
            f"  got {first.answer!r} for a question of kind {first.kind}\n"
            "  allowed: one number (numeric), a letter of the choices (choice), yes or no (yesno), any words (text)\n"
            "  mend the data, or give the data stage the right kind"
        )


def _first(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")


def _unknown(rationale: Rationale, num_questions: int) -> str:
    return (
        f"filter.verified: rationale {rationale.id} of {rationale.teacher} answers question {rationale.question_id},"
        " which is not there\n"
        f"  allowed: the {num_questions} questions of the input questions\n"
        "  wire the questions that the teacher was given"
    )


def _nothing_kept(tally: Tally) -> str:
    dropped = tally.dropped
    rungs = (
        ", ".join(f"{name} {dropped[name]}" for name in RUNGS if dropped[name]) or "none dropped"
    )
    return (
        f"filter.verified: none of {tally.read} rationales was kept: {rungs}\n"
        "  allowed: at least one\n"
        "  look at the teacher's texts and at the gold answers, or ask for less with require"
    )
