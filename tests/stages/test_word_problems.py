"""Word problems: right, in a closed vocabulary, without their answer, and the same for the same seed."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Question, StageError
from kpod.stages.data._phrases import split_words, vocabulary
from kpod.stages.data._splits import Limit
from kpod.stages.data.word_problems import Config, WordProblems
from tests.stages.fakes import FakeContext

WORDS = Path(__file__).resolve().parents[2] / "recipes" / "quickstart_words.txt"
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def made(**settings: Any) -> dict[str, list[Question]]:
    ctx: FakeContext[Config] = FakeContext(config=Config(**settings))
    WordProblems().run(ctx)
    return ctx.outputs


def steps(question: Question) -> list[tuple[int, str, int, int]]:
    found = STEP.findall(question.solution or "")
    return [(int(x), operator, int(y), int(z)) for x, operator, y, z in found]


def numbers(text: str) -> list[int]:
    return [int(word) for word in split_words(text) if word.isdigit()]


FORMS = {"one_step": 1, "two_step": 2, "three_step": 3, "four_step": 4, "equation": 1}


@given(seed=st.integers(0, 2**31), form=st.sampled_from(sorted(FORMS)), filler=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_problem_is_worked_right_and_hides_its_answer(
    seed: int, form: Any, filler: bool
) -> None:
    rows = made(
        num_train=8, num_validation=0, num_test=0, forms=(form,), filler_words=filler, seed=seed
    )
    for question in rows["train"]:
        chain = steps(question)
        told = numbers(question.text)

        assert len(chain) == FORMS[form]
        for x, operator, y, z in chain:
            assert z == {"+": x + y, "-": x - y, "*": x * y, "/": x // y}[operator]
            assert operator != "/" or x % y == 0
        assert question.answer == str(chain[-1][3])
        assert chain[-1][3] not in told
        assert all(0 <= number <= 99 for number in [*told, *numbers(question.solution or "")])


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_each_step_uses_the_result_of_the_one_before(seed: int) -> None:
    for question in made(num_train=8, num_validation=0, num_test=0, seed=seed)["train"]:
        chain = steps(question)
        for (*_, before), (x, _, y, _) in itertools.pairwise(chain):
            assert before in (x, y)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_every_word_is_in_the_vocabulary(seed: int) -> None:
    words = set(vocabulary())
    rows = made(
        num_train=20, num_validation=0, num_test=0, seed=seed, filler_words=True, forms=tuple(FORMS)
    )
    for question in rows["train"]:
        assert set(split_words(f"{question.text} {question.solution}")) <= words


def test_the_vocabulary_holds_the_prompt_and_stays_small() -> None:
    words = vocabulary()
    prompt = "Q: x A: Let's think step by step. Therefore, the answer is 5"

    assert words[:100] == tuple(str(number) for number in range(100))
    assert set(split_words(prompt)) - set(words) == {"x"}
    assert 162 <= len(words) == len(set(words)) <= 190


def test_the_word_list_of_the_quickstart_is_the_vocabulary() -> None:
    assert tuple(WORDS.read_text(encoding="utf-8").splitlines()) == vocabulary()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Q: 5+3 ? A: Let's", ["Q:", "5", "+", "3", "?", "A:", "Let's"]),
        ("$5.50 (50%): yes/no", ["$", "5", ".", "50", "(", "50", "%", ")", ":", "yes", "/", "no"]),
    ],
)
def test_words_are_split_at_space_and_punctuation(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_the_same_seed_gives_the_same_problems_and_another_seed_others() -> None:
    first, again, other = (made(num_train=200, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert not {q.id for q in first["train"]} & {q.id for q in other["train"]}
    assert first["train"] != other["train"]


def test_problems_stay_what_they_were() -> None:
    rows = made(num_train=2, num_validation=1, num_test=1, forms=("equation", "three_step"))
    told = [(q.text, q.solution, q.answer) for split in ("train", "test") for q in rows[split]]

    assert told == [
        (
            "Sam has 5 boxes with 4 apples in each box. Sam sells 2 apples. Sam puts the apples into 3 bags. How many apples are in each bag?",
            "Sam has 5 * 4 = 20 apples. Sam has 20 - 2 = 18 apples. Each bag has 18 / 3 = 6 apples.",
            "6",
        ),
        (
            "Mia has 24 coins. Mia gives 6 coins to Ben. Sam has 4 more coins than Mia. Sam gives 6 coins to Ben. How many coins does Sam have now?",
            "Mia has 24 - 6 = 18 coins. Sam has 18 + 4 = 22 coins. Sam has 22 - 6 = 16 coins.",
            "16",
        ),
        (
            "The stamps cost 2 dollars each. Ann buys 4 stamps. Ann also pays 5 dollars for a bag. Ann had 60 dollars. How many dollars does Ann have left?",
            "Ann pays 2 * 4 = 8 dollars. Ann pays 8 + 5 = 13 dollars. Ann has 60 - 13 = 47 dollars left.",
            "47",
        ),
    ]


def test_no_problem_is_in_two_splits_even_where_the_space_is_nearly_full() -> None:
    rows = made(num_train=1800, num_validation=200, num_test=300, forms=("equation",))
    ids = [question.id for split in rows.values() for question in split]

    assert len(ids) == len(set(ids)) == 2300


def test_more_training_problems_change_no_other_problem() -> None:
    small, large = made(num_train=50), made(num_train=80)

    assert large["test"] == small["test"]
    assert large["validation"] == small["validation"]
    assert large["train"][:50] == small["train"]


def test_a_space_that_is_exhausted_is_told() -> None:
    with pytest.raises(StageError, match="different problems of the forms equation") as caught:
        made(num_train=5_000, forms=("equation",))

    assert "lower 'num_train', 'num_validation' or 'num_test', or add forms" in str(caught.value)


def test_answers_are_spread_and_forms_mixed() -> None:
    rows = made()["train"]
    _, most = Counter(question.answer for question in rows).most_common(1)[0]
    num_two = sum(len(steps(question)) == 2 for question in rows)

    assert most < 0.05 * len(rows)
    assert 900 < num_two < 1100  # four and a half standard deviations


def test_one_step_problems_carry_a_number_that_has_no_bearing() -> None:
    for question in made(num_train=50, num_validation=0, num_test=0, forms=("one_step",))["train"]:
        assert len(numbers(question.text)) >= 2
        assert question.text.count(".") >= 2


def test_filler_sentences_add_no_number() -> None:
    rows = made(num_train=50, num_validation=0, num_test=0, filler_words=True)["train"]
    fillers = re.compile(r"sunny day|is happy|likes the")

    assert all(fillers.search(question.text) for question in rows)
    assert all(set(map(str, numbers(q.text))) <= set(split_words(q.text)) for q in rows)


def test_a_limit_holds_for_made_problems_too() -> None:
    rows = made(num_train=30, num_validation=5, num_test=10, limit=Limit(train=7, test=3))

    assert [len(rows[split]) for split in ("train", "validation", "test")] == [7, 5, 3]
