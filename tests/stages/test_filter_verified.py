"""The ladder of filter.verified: what leaves at which rung, what is kept and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Question, Rationale, SettingError, StageError, Usage
from kpod.stages.filter._tail import without_answer
from kpod.stages.filter.verified import Config, Verified
from tests.stages.fakes import FakeContext

DUCKS = Question.make(
    "16 eggs, 7 eaten, $2 each?", kind="numeric", answer="18", split="train", source="test"
)
BOOKS = Question.make(
    "Where are books lent?", kind="choice", answer="B", choices=["bank", "library"], split="train", source="test"
)  # fmt: skip
OPEN = Question.make("How many?", kind="numeric", answer=None, split="train", source="test")
RIGHT = "16 - 7 = 9 are left. 9 * 2 = 18.\nTherefore, the answer is 18."


def rationale(text: str, question: Question = DUCKS, **changes: Any) -> Rationale:
    return Rationale.make(question.id, text, teacher="test", **changes)


def run(
    rationales: Sequence[Rationale],
    *,
    questions: Sequence[Question] = (DUCKS, BOOKS),
    **settings: Any,
) -> FakeContext[Config]:
    ctx = FakeContext(
        config=Config(**settings), inputs={"rationales": rationales, "questions": questions}
    )
    Verified().run(ctx)
    return ctx


def test_a_right_rationale_is_kept_without_its_answer_phrase_and_with_its_verdict() -> None:
    (kept,) = run([rationale(RIGHT, count=3)]).rows("verified")

    text = "16 - 7 = 9 are left. 9 * 2 = 18."
    expected = rationale(text, count=3, answer="18", verdict="correct")
    assert expected == kept
    assert kept.id != rationale(RIGHT).id


def test_every_rationale_leaves_at_one_rung_and_is_counted_there() -> None:
    ctx = run(
        [
            rationale(RIGHT),
            rationale(RIGHT, finish="length"),
            rationale("I do not know."),
            rationale("The answer is 18.", finish="content_filter"),
            rationale("16 - 6 = 10, 10 * 2 = 20"),
            rationale("16 - 7 = 8, 8 * 2 = 16. No, the answer is 18."),
            rationale("The answer is 18."),
            rationale("16 - 7 = 9 are left. 9 * 2 = 18.\n#### 18"),
            rationale("9 eggs at $2 make 18."),
        ],
        per_question=1,
    )

    rungs = ctx.notes.pop("rungs")
    assert ctx.notes == {
        "read": 9,
        "truncated": 1,
        "no_answer": 2,
        "wrong": 1,
        "arithmetic": 1,
        "no_majority": 0,
        "outvoted": 0,
        "leaked": 0,
        "length": 1,
        "duplicates": 1,
        "over_limit": 1,
        "kept": 1,
        "kept_hinted": 0,
        "questions": 2,
        "questions_without_rationale": 1,
        "questions_solved": 1,
        "summary": "1 of 9 kept (1 truncated, 2 no answer, 1 wrong, 1 arithmetic, 1 length, 1 duplicates, 1 over limit),"
        " for 1 of 2 questions",
    }
    assert [(row["rung"], row["dropped"], row["rationales"], row["questions"]) for row in rungs] == [
        ("read", 0, 9, 1), ("truncated", 1, 8, 1), ("no_answer", 2, 6, 1), ("wrong", 1, 5, 1),
        ("arithmetic", 1, 4, 1), ("no_majority", 0, 4, 1), ("outvoted", 0, 4, 1), ("leaked", 0, 4, 1),
        ("length", 1, 3, 1), ("duplicates", 1, 2, 1), ("over_limit", 1, 1, 1),
    ]  # fmt: skip


def test_the_summary_names_only_what_was_dropped_with_thousands_apart() -> None:
    kept = [rationale(f"Step {i}: 9 * 2 = 18.") for i in range(1_200)]

    def summary(rows: Sequence[Rationale]) -> str:
        return str(run(rows, questions=[DUCKS]).notes["summary"])

    assert summary(kept) == "1,200 of 1,200 kept"
    assert summary([*kept, rationale("It is 17.")]) == "1,200 of 1,201 kept (1 wrong)"


def test_nothing_is_required_by_an_empty_list_but_complete_text() -> None:
    ctx = run(
        [
            rationale("16 - 6 = 11, so the answer is 22."),
            rationale("no number"),
            rationale(RIGHT, finish="length"),
        ],
        require=(),
    )

    assert [(kept.text, kept.verdict) for kept in ctx.rows("verified")] == [
        ("16 - 6 = 11", "wrong"),
        ("no number", "no_answer"),
    ]


def test_without_gold_answers_the_arithmetic_alone_can_be_required() -> None:
    ctx = run(
        [rationale("2 + 2 = 4 in all.", OPEN), rationale("2 + 2 = 5 in all.", OPEN)],
        questions=[OPEN],
        require=("arithmetic",),
    )

    (kept,) = ctx.rows("verified")
    assert (kept.answer, kept.verdict) == ("4", None)


def test_texts_that_are_equal_after_stripping_merge_and_their_counts_and_tokens_add_up() -> None:
    (kept,) = run(
        [
            rationale("9 * 2 = 18.\n#### 18", count=2, usage=Usage(prompt_tokens=5, completion_tokens=7)),
            rationale("9 * 2 = 18. The answer is 18.", usage=Usage(prompt_tokens=5, completion_tokens=9)),
        ]
    ).rows("verified")  # fmt: skip

    assert (3, Usage(prompt_tokens=10, completion_tokens=16)) == (kept.count, kept.usage)


def test_duplicates_stay_apart_where_the_setting_says_so() -> None:
    ctx = run([rationale(RIGHT), rationale(RIGHT)], merge_duplicates=False)

    assert [kept.count for kept in ctx.rows("verified")] == [1, 1]


def test_the_limit_keeps_the_most_frequent_texts_and_the_order_of_the_input() -> None:
    samples = [rationale(f"Step {i}: 9 * 2 = 18.", count=i % 3 + 1) for i in range(6)]
    kept = run(samples, per_question=2).rows("verified")

    assert [samples[2].text, samples[5].text] == [one.text for one in kept]
    assert kept == run(samples, per_question=2).rows("verified")


def test_a_choice_is_verified_by_its_letter() -> None:
    ctx = run(
        [rationale("Libraries lend books. The answer is (B).", BOOKS), rationale("(A) bank", BOOKS)]
    )

    assert [(k.text, k.answer) for k in ctx.rows("verified")] == [("Libraries lend books.", "B")]


def test_a_rationale_for_an_unknown_question_is_an_error_by_id() -> None:
    stranger = rationale("9 * 2 = 18", OPEN)
    with pytest.raises(
        StageError, match=rf"rationale {stranger.id} of test .* {OPEN.id}, which is"
    ):
        run([stranger])


def test_a_missing_gold_answer_is_an_error_only_where_answers_are_required() -> None:
    with pytest.raises(StageError, match=f"1 of 2 questions have no gold answer: {OPEN.id}\n"):
        run([rationale(RIGHT)], questions=[DUCKS, OPEN])
    assert run([rationale(RIGHT)], questions=[DUCKS, OPEN], require=()).rows("verified")


def test_a_gold_answer_that_is_none_of_its_kind_is_an_error_that_shows_it() -> None:
    odd = Question.make("?", kind="numeric", answer="many", split="train", source="test")
    with pytest.raises(StageError, match="got 'many' for a question of kind numeric"):
        run([], questions=[odd])


def test_keeping_nothing_is_an_error_that_says_where_they_went() -> None:
    with pytest.raises(StageError) as caught:
        run([rationale("It is 17."), rationale(RIGHT, finish="length")])

    assert str(caught.value) == (
        "filter.verified: none of 2 rationales was kept: truncated 1, wrong 1\n"
        "  allowed: at least one\n"
        "  look at the teacher's texts and at the gold answers, or ask for less with require"
    )


def test_lengths_that_no_text_can_have_are_refused() -> None:
    with pytest.raises(SettingError, match="max_chars: 5 is below min_chars 9"):
        Config(min_chars=9, max_chars=5)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("9 * 2 = 18.\nTherefore, the answer is 18.", "9 * 2 = 18."),
        ("9 * 2 = 18. So the answer is $18.00 per day.", "9 * 2 = 18."),
        ("9 * 2 = 18, so the answer is 18.", "9 * 2 = 18"),
        ("9 * 2 = 18\n#### 18", "9 * 2 = 18"),
        ("9 * 2 = 18\nA: 18", "9 * 2 = 18"),
        ("9 * 2 = 18\n**Final Answer:** 18", "9 * 2 = 18"),
        ("9 * 2 = 18\n\n### Final Answer\n\n18", "9 * 2 = 18"),
        ("9 * 2 = 18.\n\n$\\boxed{18}$", "9 * 2 = 18."),
        ("It lends books. Thus the answer is (B) library.", "It lends books."),
        ("The answer is 18.\n#### 18", ""),
        ("So she makes 9 * 2 = 18 dollars.", "So she makes 9 * 2 = 18 dollars."),
        ("The answer is 9 * 2 = 18.", "The answer is 9 * 2 = 18."),
        ("She makes $\\boxed{18}$.", "She makes $\\boxed{18}$."),
        ("Answer: 9 are left, so she makes 18.", "Answer: 9 are left, so she makes 18."),
    ],
)
def test_only_a_phrase_that_holds_no_reasoning_is_stripped(text: str, left: str) -> None:
    assert without_answer(text) == left


@given(st.text(max_size=120))
def test_stripping_leaves_a_beginning_of_the_text_and_strips_once(text: str) -> None:
    left = without_answer(text)
    assert text.startswith(left)
    assert without_answer(left) == left
