"""Keep the rationales that come to the right answer by sound arithmetic; say what became of all the others.

The ladder, rung by rung; a rationale leaves at the first that it fails:

    truncated    generation was cut at the token limit
    no_answer    refused by a content filter, or no answer   } `require: [answer]`
    wrong        it is not the gold answer                   }
    arithmetic   an equation in it does not hold               `require: [arithmetic]`
    length       shorter or longer than the settings allow; nothing left beside the answer
    duplicates   the text was kept before (its samples add up)
    over_limit   the question has `per_question` already

Answer and arithmetic are judged on the full text; what is kept has lost the phrase that states the answer at its end,
because the student's template adds its own. `require: []` keeps all that are complete, as the KPOD paper does.
Source: DESIGN 4; STaR-style filtering by answer, and the arithmetic check of issue 1/5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Input,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
    StageError,
    Usage,
)
from kpod.stages._lm.answers import canonical, extract, matches
from kpod.stages.filter._arithmetic import first_wrong
from kpod.stages.filter._tail import without_answer

RUNGS = ("truncated", "no_answer", "wrong", "arithmetic", "length", "duplicates", "over_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of filter.verified."""

    require: Annotated[
        tuple[Literal["answer", "arithmetic"], ...],
        Doc(
            "What a rationale must show: the gold answer, equations that hold. [] keeps all that are complete."
        ),
    ] = ("answer", "arithmetic")
    min_chars: Annotated[
        int, Doc("Shortest kept text, in characters, without its answer phrase."), Ge(1)
    ] = 1
    max_chars: Annotated[
        int, Doc("Longest kept text, in characters, without its answer phrase."), Ge(1)
    ] = 20_000
    per_question: Annotated[
        int | None,
        Doc("At most so many a question, the most frequent first; null keeps all."),
        Ge(1),
    ] = None
    merge_duplicates: Annotated[
        bool,
        Doc("Make texts of a question that are equal after stripping one, and add their counts."),
    ] = True

    def __post_init__(self) -> None:
        if self.max_chars < self.min_chars:
            raise SettingError(
                "max_chars",
                f"{self.max_chars} is below min_chars {self.min_chars}",
                hint="no text can have both lengths",
            )


class Verified(Stage[Config]):
    """Rationales that are right, and the counts of those that were not."""

    uses = "filter.verified"
    version = 1
    rationales = Input(Rationale, many=True)
    questions = Input(Question, role="train")
    verified = Output(Rationale, refines="rationales")

    def run(self, ctx: Context[Config]) -> None:
        """Judge every rationale and write those that passed, in the order in which they came.

        Raises:
            StageError: a rationale's question is unknown, a gold answer is missing or unreadable, nothing passed.
        """
        questions = {question.id: question for question in ctx.read(self.questions)}
        if "answer" in ctx.config.require:
            _check_gold(questions)
        counts: Counter[str] = Counter()
        passed = _passed(ctx.read(self.rationales), questions, ctx.config, counts)
        kept = _limited(passed, ctx.config.per_question)
        counts["over_limit"] = len(passed) - len(kept)
        counts["kept"] = len(kept)
        for name in ("read", *RUNGS, "kept", "questions_without_rationale"):
            ctx.note(name, counts[name])
        if not kept:
            raise StageError(_nothing_kept(counts))
        with ctx.write(self.verified) as out:
            for rationale in kept:
                out.add(rationale)


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
    usage = _sum_of_usage(first.usage, judged.usage)
    passed[key] = replace(first, count=first.count + judged.count, usage=usage)
    return "duplicates"


def _sum_of_usage(left: Usage | None, right: Usage | None) -> Usage | None:
    """What both cost together; None as soon as one was not counted."""
    if left is None or right is None:
        return None
    prompt = (left.prompt_tokens, right.prompt_tokens)
    completion = (left.completion_tokens, right.completion_tokens)
    return Usage(
        prompt_tokens=None if None in prompt else sum(n or 0 for n in prompt),
        completion_tokens=None if None in completion else sum(n or 0 for n in completion),
    )


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


def _nothing_kept(counts: Counter[str]) -> str:
    rungs = ", ".join(f"{name} {counts[name]}" for name in RUNGS if counts[name]) or "none dropped"
    return (
        f"filter.verified: none of {counts['read']} rationales was kept: {rungs}\n"
        "  allowed: at least one\n"
        "  look at the teacher's texts and at the gold answers, or ask for less with require"
    )
