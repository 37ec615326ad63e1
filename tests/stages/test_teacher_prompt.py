"""What teachers are asked: templates, examples, hints, and what becomes of thoughts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Question, Rationale, SettingError, StageError
from kpod.runner.texts import GeneratedText
from kpod.stages.teacher._prompt import AskPrompt, Example, asks, messages, solved_ids
from kpod.stages.teacher._rationales import rationales_of, without_thought

EXAMPLES = (
    Example(question="What is 1 + 1?", rationale="1 + 1 = 2. The answer is 2."),
    Example(question="What is 2 + 3?", rationale="2 + 3 = 5. The answer is 5."),
)
PROMPT = AskPrompt(template="Solve: {question}\n", system="Be brief.", examples=EXAMPLES)


def _question(text: str, answer: str | None = "5", **facts: Any) -> Question:
    return Question.make(
        text, **{"kind": "numeric", "answer": answer, "split": "train", "source": "test", **facts}
    )


QUESTIONS = [_question(f"Tom has {number} apples") for number in range(3)]


def _text(text: str, finish: Any = "stop") -> GeneratedText:
    return GeneratedText(text=text, finish=finish, prompt_tokens=3, completion_tokens=2)


def test_examples_are_turns_between_the_system_message_and_the_question() -> None:
    (ask,) = asks(PROMPT, QUESTIONS[:1], solved=None)

    assert messages(PROMPT, ask) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Solve: What is 1 + 1?"},
        {"role": "assistant", "content": "1 + 1 = 2. The answer is 2."},
        {"role": "user", "content": "Solve: What is 2 + 3?"},
        {"role": "assistant", "content": "2 + 3 = 5. The answer is 5."},
        {"role": "user", "content": "Solve: Tom has 0 apples"},
    ]


def test_without_solved_every_question_is_asked_plainly_and_in_order() -> None:
    found = asks(PROMPT, QUESTIONS, solved=None)

    assert [ask.question for ask in found] == QUESTIONS
    assert not any(ask.is_hinted for ask in found)


def test_only_unsolved_questions_are_asked_with_the_answer_as_a_hint() -> None:
    prompt = AskPrompt(hint="{question} (It is {answer}.)")

    found = asks(prompt, QUESTIONS, solved={QUESTIONS[0].id, QUESTIONS[2].id})

    assert [(ask.question, ask.text, ask.is_hinted) for ask in found] == [
        (QUESTIONS[1], "Tom has 1 apples (It is 5.)", True)
    ]


def test_nothing_is_asked_where_all_is_solved() -> None:
    assert asks(PROMPT, QUESTIONS, solved={question.id for question in QUESTIONS}) == []


def test_the_usual_hint_gives_the_answer_of_a_choice_by_its_letter_beside_the_choices() -> None:
    question = _question("What is wet?", kind="choice", answer="B", choices=("fire", "water"))

    (ask,) = asks(AskPrompt(), [question], solved=set())

    assert ask.text.startswith("What is wet?\nAnswer Choices:\nA. fire\nB. water\n\n")
    assert "The right answer is B." in ask.text


def test_an_unsolved_question_without_gold_is_not_asked_and_where_none_has_gold_refused_by_id() -> (
    None
):
    bare = _question("How many?", answer=None)

    asked = asks(PROMPT, [*QUESTIONS, bare], solved={QUESTIONS[0].id})

    assert [ask.question for ask in asked] == QUESTIONS[1:]
    with pytest.raises(StageError, match=f"question {bare.id} is unsolved and has no gold answer"):
        asks(PROMPT, [*QUESTIONS, bare], solved={question.id for question in QUESTIONS})


def test_a_solved_id_that_is_no_question_is_refused() -> None:
    with pytest.raises(StageError, match="solved: question nowhere is not among the 3 questions"):
        asks(PROMPT, QUESTIONS, solved={"nowhere"})


def test_solved_are_questions_with_a_correct_or_a_voted_rationale() -> None:
    rationales = [
        Rationale.make("a", "x", teacher="t", verdict="correct"),
        Rationale.make("b", "x", teacher="t", verdict="wrong"),
        Rationale.make("c", "x", teacher="t", answer="5"),
    ]

    assert solved_ids(rationales) == {"a", "c"}
    with pytest.raises(StageError, match="has no verdict\nwire a filter's output"):
        solved_ids([Rationale.make("a", "x", teacher="t")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "Solve."}, r"template: has \{question\} 0 times; write it exactly once"),
        ({"template": "{question} {question}"}, r"template: has \{question\} 2 times"),
        ({"template": "{question} {answer}"}, r"template: has \{answer\}, which would tell"),
        ({"hint": "{question}"}, r"hint: has no \{answer\}"),
        ({"hint": "It is {answer}."}, r"hint: has \{question\} 0 times"),
    ],
)
def test_a_prompt_that_could_not_work_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        AskPrompt(**settings)  # type: ignore[arg-type]


def test_an_example_without_text_is_refused() -> None:
    with pytest.raises(SettingError, match="rationale: an example's text is empty"):
        Example(question="What?", rationale=" \n")


@given(st.text(min_size=1).filter(lambda text: bool(text.strip())))
def test_any_question_stands_in_the_prompt_as_it_is(text: str) -> None:
    question = _question(text)

    (plain,) = asks(AskPrompt(template="Q: {question} A:"), [question], solved=None)
    (hinted,) = asks(AskPrompt(hint="Q: {question} ({answer})"), [question], solved=set())

    assert plain.text == f"Q: {question.text} A:"
    assert hinted.text == f"Q: {question.text} (5)"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>\nhm\n</think>\n\n1 + 1 = 2", "1 + 1 = 2"),
        ("\n<think></think>5", "5"),
        ("hm</think> 5", "5"),
        ("<think>hm, 5", "<think>hm, 5"),
        ("so <think>hm</think> 5", "so <think>hm</think> 5"),
        ("1 + 1 = 2", "1 + 1 = 2"),
        ("<think>a</think>b</think>c", "b</think>c"),
        ("<think>all of it</think>", ""),
    ],
)
def test_a_closed_thought_at_the_beginning_is_taken_off(text: str, rest: str) -> None:
    assert without_thought(text) == rest


def test_a_thought_stays_where_it_is_kept_and_an_unclosed_one_stays_as_it_was_cut() -> None:
    found = asks(PROMPT, QUESTIONS[:2], solved=None)
    texts = [_text("<think>hm</think>\n5"), _text("<think>hm", "length")]

    def said(thinking: Any) -> list[tuple[str, str]]:
        made = rationales_of(found, texts, samples=1, teacher="t", thinking=thinking)
        return [(one.text, one.finish) for one in made]

    assert said("on") == [("5", "stop"), ("<think>hm", "length")]
    assert said("keep") == [("<think>hm</think>\n5", "stop"), ("<think>hm", "length")]


def test_a_hinted_rationale_is_marked_by_its_teacher() -> None:
    found = asks(PROMPT, QUESTIONS, solved={QUESTIONS[0].id})
    texts = [_text("5"), _text("5")]

    made = rationales_of(found, texts, samples=1, teacher="t")

    assert [(one.question_id, one.teacher) for one in made] == [
        (QUESTIONS[1].id, "t+hint"),
        (QUESTIONS[2].id, "t+hint"),
    ]
    assert all(one.is_hinted for one in made)


def test_samples_that_differ_only_in_their_thought_are_one_rationale() -> None:
    found = asks(PROMPT, QUESTIONS[:1], solved=None)
    texts = [_text("<think>a</think>5"), _text("<think>b</think>5")]

    made = rationales_of(found, texts, samples=2, teacher="t", thinking="on")

    assert [(one.text, one.count) for one in made] == [("5", 2)]
