"""The ladder of filter.verified: judges rationales rung by rung, and counts what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner import Question, Rationale, StageError
from kpod.stages._lm.answers import canonical, extract, matches
from kpod.stages._lm.usage import sum_of_usage
from kpod.stages.filter._arithmetic import first_wrong
from kpod.stages.filter._tail import without_answer

if TYPE_CHECKING:
    from kpod.stages.filter.verified import Config

RUNGS = ("truncated", "no_answer", "wrong", "arithmetic", "length", "duplicates", "over_limit")


class Climbed(NamedTuple):
    """What passed, how many fell at each rung, and one line about it."""

    kept: list[Rationale]
    counts: dict[str, int]
    summary: str


def climb(
    rationales: Iterable[Rationale], questions: Iterable[Question], config: Config
) -> Climbed:
    """Judge all rationales.

    Raises:
        StageError: a rationale of an unknown question, gold that is missing or cannot be read, or nothing kept.
    """
    by_id = {question.id: question for question in questions}
    if "answer" in config.require:
        _check_gold(by_id)
    counts: Counter[str] = Counter()
    passed = _passed(rationales, by_id, config, counts)
    kept = _limited(passed, config.per_question)
    counts["over_limit"] = len(passed) - len(kept)
    counts["kept"] = len(kept)
    if not kept:
        raise StageError(_nothing_kept(counts))
    names = ("read", *RUNGS, "kept", "questions_without_rationale")
    return Climbed(kept, {name: counts[name] for name in names}, _summary(counts))


def _passed(
    rationales: Iterable[Rationale],
    questions: Mapping[str, Question],
    config: Config,
    counts: Counter[str],
) -> list[Rationale]:
    """The rationales that pass every rung but the limit, in order; `counts` takes what became of the others."""
    passed: dict[tuple[str, str], Rationale] = {}
    answered: set[str] = set()
    for number, rationale in enumerate(rationales):
        question = questions.get(rationale.question_id)
        if question is None:
            raise StageError(_unknown(rationale, len(questions)))
        answered.add(question.id)
        counts["read"] += 1
        rung, judged = _judge(rationale, question, config)
        if rung is None:
            rung = _keep(passed, judged, number, is_merged=config.merge_duplicates)
        if rung:
            counts[rung] += 1
    counts["questions_without_rationale"] = len(questions) - len(answered)
    return list(passed.values())


def _judge(
    rationale: Rationale, question: Question, config: Config
) -> tuple[str | None, Rationale]:
    """The rung at which a rationale fails (None: it passes), and the rationale with verdict, stripped."""
    if rationale.finish == "length":
        return "truncated", replace(rationale, verdict="truncated")
    found = extract(rationale.text, question.kind, question.choices)
    is_right = question.answer is not None and matches(
        found, question.answer, question.kind, question.choices
    )
    verdict: Literal["correct", "wrong", "no_answer"] = (
        "no_answer" if found is None else "correct" if is_right else "wrong"
    )
    text = without_answer(rationale.text).strip()
    judged = Rationale.make(
        question.id, text, teacher=rationale.teacher, count=rationale.count, usage=rationale.usage,
        finish=rationale.finish, answer=found.value if found else None,
        verdict=None if question.answer is None and found else verdict,
    )  # fmt: skip
    return _failed_rung(rationale, judged, config, verdict=verdict), judged


def _failed_rung(
    rationale: Rationale, judged: Rationale, config: Config, *, verdict: str
) -> str | None:
    if rationale.finish == "content_filter":
        return "no_answer"
    if "answer" in config.require and verdict != "correct":
        return verdict
    if "arithmetic" in config.require and first_wrong(rationale.text) is not None:
        return "arithmetic"
    if not config.min_chars <= len(judged.text) <= config.max_chars:
        return "length"
    return None


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


def _limited(rationales: list[Rationale], per_question: int | None) -> list[Rationale]:
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
    return [rationales[i] for i in sorted(kept)]


def _check_gold(questions: Mapping[str, Question]) -> None:
    missing = [question.id for question in questions.values() if question.answer is None]
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
            "  map the answer column in the data stage, or set require: [arithmetic] or []"
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


def _summary(counts: Counter[str]) -> str:
    """Like "520 of 651 kept (126 wrong, 4 arithmetic)"."""
    dropped = [f"{counts[rung]:,} {rung.replace('_', ' ')}" for rung in RUNGS if counts[rung]]
    why = f" ({', '.join(dropped)})" if dropped else ""
    return f"{counts['kept']:,} of {counts['read']:,} kept{why}"


def _nothing_kept(counts: Counter[str]) -> str:
    rungs = ", ".join(f"{name} {counts[name]}" for name in RUNGS if counts[name]) or "none dropped"
    return (
        f"filter.verified: none of {counts['read']} rationales was kept: {rungs}\n"
        "  allowed: at least one\n"
        "  look at the teacher's texts and at the gold answers, or ask for less with require"
    )
