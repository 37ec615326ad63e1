"""The rungs beyond answer and arithmetic: votes where there is no gold, hints that leak, and a second filter over a first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Question, Rationale, SettingError, StageError
from kpod.stages._lm.encoding import pair_of
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages.filter._tally import RUNGS, Tally
from kpod.stages.filter.verified import Config, Verified, Vote
from tests.stages.fakes import FakeContext

EGGS = Question.make(
    "16 eggs, 7 eaten, $2 each?", kind="numeric", answer="18", split="train", source="test"
)
OPEN = Question.make("How many?", kind="numeric", answer=None, split="train", source="test")
WORK = "16 - 7 = 9 are left. 9 * 2 = 18."


def said(text: str, question: Question = EGGS, *, is_hinted: bool = False, **changes: Any) -> Rationale:  # fmt: skip
    return Rationale.make(question.id, text, teacher="test+hint" if is_hinted else "test", **changes)  # fmt: skip


def run(
    rationales: Sequence[Rationale],
    *,
    questions: Sequence[Question] = (EGGS, OPEN),
    **settings: Any,
) -> FakeContext[Config]:
    ctx = FakeContext(
        config=Config(**{"vote": Vote(), **settings}),
        inputs={"rationales": rationales, "questions": questions},
    )
    Verified().run(ctx)
    return ctx


def votes(counts: Mapping[str, int]) -> list[Rationale]:
    return [
        said(f"We count {index} times. The answer is {answer}.", OPEN, count=count)
        for index, (answer, count) in enumerate(counts.items())
    ]


def dropped(ctx: FakeContext[Config]) -> dict[str, Any]:
    return {rung: ctx.notes[rung] for rung in RUNGS if ctx.notes[rung]}


def test_the_majority_passes_with_its_answer_and_without_a_verdict() -> None:
    ctx = run(votes({"12": 3, "13": 1, "14": 1}), questions=[OPEN])

    (kept,) = ctx.rows("verified")
    assert (kept.answer, kept.verdict, kept.count) == ("12", None, 3)
    assert dropped(ctx) == {"outvoted": 2}
    assert ctx.notes["questions_solved"] == 1


def test_equal_numbers_vote_together() -> None:
    ctx = run(votes({"12": 1, "12.0": 1, "$12": 1, "13": 2}), questions=[OPEN])

    assert [kept.answer for kept in ctx.rows("verified")] == ["12", "12", "12"]


@pytest.mark.parametrize(
    ("counts", "vote"),
    [
        ({"12": 2, "13": 2}, Vote()),
        ({"12": 2}, Vote()),
        ({"12": 2, "13": 1, "14": 1, "15": 1}, Vote()),
        ({"12": 3, "13": 1}, Vote(min_share=0.8)),
    ],
    ids=["tie", "too few", "small share", "share that was asked for"],
)
def test_an_unclear_vote_elects_nobody(counts: dict[str, int], vote: Vote) -> None:
    ctx = run([*votes(counts), said(WORK)], vote=vote)

    assert dropped(ctx) == {"no_majority": len(counts)}
    assert [kept.question_id for kept in ctx.rows("verified")] == [EGGS.id]


def test_a_share_of_zero_is_the_plurality_of_the_paper() -> None:
    ctx = run(votes({"12": 2, "13": 1, "14": 1, "15": 1}), questions=[OPEN], vote=Vote(min_share=0))

    assert [kept.answer for kept in ctx.rows("verified")] == ["12"]


def test_texts_that_fell_before_have_no_vote() -> None:
    texts = [
        said("2 + 2 = 5. The answer is 13.", OPEN, count=9),
        said("cut: the answer is 13", OPEN, count=9, finish="length"),
        said("nothing", OPEN, count=9),
        *votes({"12": 3}),
    ]
    ctx = run(texts, questions=[OPEN])

    assert [kept.answer for kept in ctx.rows("verified")] == ["12"]
    assert dropped(ctx) == {"truncated": 1, "no_answer": 1, "arithmetic": 1}


def test_questions_with_gold_are_not_put_to_the_vote() -> None:
    ctx = run([said(WORK), said("16 - 6 = 10, so 20.", count=9), *votes({"12": 3})])

    assert [kept.verdict for kept in ctx.rows("verified")] == ["correct", None]
    assert dropped(ctx) == {"wrong": 1}


def test_without_a_vote_a_question_without_gold_is_an_error_that_names_the_vote() -> None:
    with pytest.raises(StageError, match="set vote to take the answer of most samples"):
        run(votes({"12": 3}), vote=None)


def test_a_vote_that_could_not_bear_on_anything_is_refused() -> None:
    with pytest.raises(SettingError, match="vote: elects an answer, but require does not hold"):
        Config(require=("arithmetic",), vote=Vote())


def test_a_student_takes_the_elected_answer_where_there_is_no_gold() -> None:
    (kept,) = run(votes({"12": 3}), questions=[OPEN]).rows("verified")

    assert pair_of(OPEN, kept, PromptConfig().resolve()).answer == "12"


def test_a_rationale_that_was_judged_before_keeps_its_answer_verdict_count_and_id() -> None:
    texts = [said(f"{WORK}\nThe answer is 18.", count=3), *votes({"12": 3})]
    first = run(texts).rows("verified")
    again = run(first).rows("verified")

    assert again == first
    assert [kept.text for kept in first] == [WORK, "We count 0 times."]


def test_what_a_filter_judged_wrong_is_wrong_for_the_next_one() -> None:
    first = run([said("It is 20."), said(WORK)], require=(), vote=None).rows("verified")
    ctx = run(first, questions=[EGGS])

    assert dropped(ctx) == {"wrong": 1}


def test_hints_climb_the_same_ladder_and_are_refused_where_they_leak() -> None:
    other = Question.make("Eggs?", kind="numeric", answer="18", split="train", source="test")
    verified = run([said(WORK), said("It is 7.", other)], questions=[EGGS, other]).rows("verified")
    hinted = [
        said(f"The answer is 18. {WORK}", other, is_hinted=True),
        said(f"{WORK} So says the hint.", other, is_hinted=True),
        said("9 * 2 = 20, no, 18.", other, is_hinted=True),
        said("9 * 3 = 27. The answer is 27.", other, is_hinted=True),
        said(f"{WORK} The answer is 18.", other, is_hinted=True),
    ]
    ctx = run([*verified, *hinted], questions=[EGGS, other])

    assert [(kept.question_id, kept.is_hinted) for kept in ctx.rows("verified")] == [
        (EGGS.id, False),
        (other.id, True),
    ]
    assert dropped(ctx) == {"wrong": 1, "arithmetic": 1, "leaked": 2}
    assert (ctx.notes["kept_hinted"], ctx.notes["questions_solved"]) == (1, 2)


def test_the_same_words_are_no_leak_where_there_was_no_hint() -> None:
    ctx = run([said(f"The answer is 18. {WORK}")], questions=[EGGS])

    assert len(ctx.rows("verified")) == 1


_FALLS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*RUNGS, None])), max_size=40)


@given(_FALLS)
def test_every_rung_leaves_what_the_one_before_left_less_what_it_dropped(
    falls: list[tuple[int, str | None]],
) -> None:
    tally = Tally(6)
    for question, rung in falls:
        if rung is None:
            tally.passes(str(question), is_hinted=False)
        else:
            tally.falls(str(question), rung)
    notes: Any = tally.notes()
    rows = notes["rungs"]

    assert rows[0]["rationales"] == len(falls)
    assert rows[-1]["rationales"] == notes["kept"] == sum(rung is None for _, rung in falls)
    assert rows[-1]["questions"] == notes["questions_solved"]
    for before, after in pairwise(rows):
        assert after["rationales"] == before["rationales"] - after["dropped"]
        assert after["questions"] <= before["questions"]
