"""Which texts give away that their writer was told the answer: texts of both kinds, and real ones written without a hint."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Question
from kpod.stages.filter._leaks import leak

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
EGGS = Question.make(
    "Janet's ducks lay 16 eggs a day. She eats 7 and sells the rest at $2 each. How much does she make a day?",
    kind="numeric", answer="18", split="train", source="test",
)  # fmt: skip
LOAN = Question.make(
    "Where can you borrow a book?", kind="choice", answer="B", choices=["bank", "library", "river"],
    split="train", source="test",
)  # fmt: skip
TRAIN = Question.make(
    "A train goes 60 km an hour for 3 hours and 40 km more. How far does it go?",
    kind="numeric", answer="220", split="train", source="test",
)  # fmt: skip
MOON = Question.make(
    "Is the moon bigger than the earth?", kind="yesno", answer="no", split="train", source="test"
)
HINTS = Question.make(
    "A game gives 3 hints a level. How many hints are there in 6 levels?", kind="numeric", answer="18",
    split="train", source="test",
)  # fmt: skip
SAME = Question.make(
    "Ann has 18 apples, eats 4 and picks 4. How many has she?", kind="numeric", answer="18",
    split="train", source="test",
)  # fmt: skip

WORK = "16 - 7 = 9 eggs are left. 9 * 2 = 18."
LEAKING: tuple[tuple[Question, str], ...] = (
    # the hint is spoken of
    (EGGS, f"The hint says 18. {WORK}"),
    (EGGS, f"{WORK} This agrees with the hint."),
    (EGGS, "16 - 7 = 9, and as hinted she makes 9 * 2 = 18."),
    (EGGS, f"{WORK} This matches the given answer."),
    (EGGS, f"{WORK}\nThis matches the correct answer.\nThe answer is 18."),
    (EGGS, "16 - 7 = 9. To get the correct answer we multiply by 2: 9 * 2 = 18."),
    (EGGS, f"Given that the answer is 18, we work it out. {WORK}"),
    (EGGS, f"We are told that the answer is 18. {WORK}"),
    (EGGS, "16 - 7 = 9. Since the answer is 18, each egg sells for 18 / 9 = 2 dollars."),
    (EGGS, f"{WORK} So the provided answer is right."),
    (EGGS, f"The known answer can be reached as follows. {WORK}"),
    (EGGS, f"{WORK} This is the expected answer."),
    (EGGS, "16 - 7 = 9. The stated answer needs another step: 9 * 2 = 18."),
    (EGGS, f"According to the answer, she makes 18. {WORK}"),
    (EGGS, f"Let's work backwards from the answer. {WORK}"),
    (EGGS, f"{WORK} This confirms the given solution of 18 dollars."),
    (EGGS, f"{WORK} The answer that was provided is therefore right."),
    (EGGS, f"Knowing the answer is 18 helps: {WORK}"),
    (LOAN, "A library lends books, which is consistent with the correct answer. The answer is B."),
    (LOAN, "We know that the correct answer is (B). A library lends books."),
    (LOAN, "Books are lent somewhere. Because the correct answer is library, it lends books."),
    (MOON, "The moon is smaller, as the given answer says. The answer is no."),
    # the answer stands before any step
    (EGGS, f"The answer is 18. {WORK}"),
    (EGGS, "The answer is $18.00, because 16 - 7 = 9 and 9 * 2 = 18."),
    (EGGS, f"18. {WORK}"),
    (EGGS, f"**18**\n\n{WORK}"),
    (EGGS, f"$18 a day. {WORK}"),
    (EGGS, f"#### 18\n{WORK}"),
    (EGGS, f"\\boxed{{18}}\n{WORK}"),
    (EGGS, f"Answer: 18\nExplanation: {WORK}"),
    (EGGS, f"Sure! The final answer is 18. {WORK}"),
    (EGGS, f"Let's think step by step. The answer is 18. {WORK}"),
    (EGGS, f"To arrive at 18, we first take what is left. {WORK}"),
    (EGGS, f"Let's see how to get to 18 dollars a day. {WORK}"),
    (EGGS, f"We need to show that she makes 18 dollars. {WORK}"),
    (EGGS, f"The total must be 18. {WORK}"),
    (EGGS, "The answer is 18."),
    (EGGS, f"18, because {WORK}"),
    (LOAN, "(B) library. Libraries lend books, banks lend money."),
    (LOAN, "The correct answer is B. Libraries lend books."),
    (LOAN, "B, because libraries lend books."),
    (LOAN, "The answer is library since it lends books. The answer is B."),
    (MOON, "No. The moon is smaller than the earth."),
    (MOON, "No, because the moon is smaller than the earth."),
    (MOON, "The answer is no. The moon is smaller."),
    # written after the first rules, which found 16 of these 22; the rules that find the rest came after them
    (EGGS, "Because the hint gives 18 as the total, 16 - 7 = 9 and 9 * 2 = 18."),
    (EGGS, "16 - 7 = 9 eggs remain, and 9 * 2 = 18, which is the answer we were given."),
    (EGGS, "We already know the answer is 18. Subtracting, 16 - 7 = 9; multiplying, 9 * 2 = 18."),
    (EGGS, "Janet makes 18 dollars. This is because 16 - 7 = 9 and 9 * 2 = 18."),
    (EGGS, "She makes $18 a day. Here is why: 16 - 7 = 9, 9 * 2 = 18."),
    (EGGS, "The correct result, 18, follows from 16 - 7 = 9 and 9 * 2 = 18."),
    (EGGS, "16 - 7 = 9. The problem states that the answer is 18, so each egg brings 2 dollars."),
    (EGGS, "As the answer should be 18, we look for a product: 9 * 2 = 18."),
    (EGGS, "The final answer: 18\n16 - 7 = 9\n9 * 2 = 18"),
    (EGGS, "In order to obtain 18 dollars, she sells 16 - 7 = 9 eggs."),
    (EGGS, "The answer of 18 is found by taking 16 - 7 = 9 and 9 * 2 = 18."),
    (EGGS, "You told me the answer is 18. 16 - 7 = 9. 9 * 2 = 18."),
    (EGGS, "Hint: 18. So 16 - 7 = 9, 9 * 2 = 18."),
    (EGGS, "16 - 7 = 9; times 2 that is 18, just as the solution key says."),
    (EGGS, "16 - 7 = 9, 9 * 2 = 18. Our result is equal to the known answer."),
    (EGGS, "Final Answer: $18\n\nReasoning: 16 - 7 = 9 eggs, 9 * 2 = 18."),
    (EGGS, "If the answer is 18, then she sells 9 eggs, as 16 - 7 = 9."),
    (LOAN, "The answer is B because the library is where books are lent."),
    (LOAN, "Option B is correct. One borrows books in a library."),
    (LOAN, "Library. It is where people borrow books."),
    (LOAN, "Given the correct answer is library, we see that books are lent there."),
    (MOON, "It is not bigger, so the hint is right: no."),
    # written last, for a rate: 14 of these 15 were found, and no rule was changed; the 15th: "It goes 220 km in all, because …"
    (TRAIN, "Knowing that we must end at 220, 60 * 3 = 180 and 180 + 40 = 220."),
    (TRAIN, "The distance is 220 km. First 60 * 3 = 180, then 180 + 40 = 220."),
    (TRAIN, "60 * 3 = 180, 180 + 40 = 220. This is the same as the answer given above."),
    (TRAIN, "60 * 3 = 180. We need 40 more to reach the given answer of 220."),
    (TRAIN, "We want 220. 60 * 3 = 180, so 40 more are needed: 220."),
    (TRAIN, "Since the correct answer is 220, the train goes 60 * 3 = 180 and 40 more."),
    (TRAIN, "Answer: 220 km.\nReason: 60 * 3 + 40 = 220."),
    (TRAIN, "The right answer is 220. Let's reason: 60 * 3 = 180; 180 + 40 = 220."),
    (TRAIN, "60 * 3 = 180, and 180 + 40 = 220, as required by the hint."),
    (TRAIN, "As you said, it is 220: 60 * 3 = 180, 180 + 40 = 220."),
    (TRAIN, "Let's verify 220: 60 * 3 = 180, 180 + 40 = 220."),
    (LOAN, "(B) is right: one borrows books in a library."),
    (LOAN, "It is a library, since the answer given is B."),
    (MOON, "The correct answer is no, because the moon is smaller."),
)
SOUND: tuple[tuple[Question, str], ...] = (
    (EGGS, WORK),
    (EGGS, f"{WORK} The answer is 18."),
    (EGGS, f"{WORK}\nTherefore, the correct answer is 18."),
    (EGGS, f"{WORK}\n#### 18"),
    (EGGS, f"Let's think step by step. {WORK} The answer is 18."),
    (EGGS, f"To find the answer, take what is left and sell it. {WORK}"),
    (EGGS, f"We need to find how much she makes. {WORK}"),
    (EGGS, "Step 1: 16 - 7 = 9\nStep 2: 9 * 2 = 18\nAnswer: 18"),
    (EGGS, "9 eggs at $2 each make 18 dollars."),
    (EGGS, "She sells 9 eggs for 2 dollars each, so the answer is 18."),
    (EGGS, "Sixteen less seven leaves nine eggs; nine eggs at two dollars make $18."),
    (EGGS, f"Let x be the given number of eggs. {WORK}"),
    (EGGS, "Given 16 eggs, 16 - 7 = 9 are left, which gives 9 * 2 = 18."),
    (EGGS, "She makes (16 - 7) * 2 = 18 dollars, so the answer is 18."),
    (EGGS, f"Solution:\n{WORK}"),
    (EGGS, "First we know that she has 16 eggs. 16 - 7 = 9. So 9 * 2 = 18."),
    (EGGS, f"{WORK} To check: 18 / 2 = 9 and 9 + 7 = 16."),
    (EGGS, "The value of an egg is $2. 16 - 7 = 9 eggs bring 18."),
    (HINTS, "There are 3 hints a level. 3 * 6 = 18 hints. The answer is 18."),
    (HINTS, "6 levels hold 6 * 3 = 18 hints."),
    (SAME, "Ann has 18 apples. 18 - 4 = 14. 14 + 4 = 18. The answer is 18."),
    (SAME, "She starts with 18 and eats 4, so 14 are left; with 4 more she has 18."),
    (LOAN, "Libraries lend books, so the answer is (B)."),
    (LOAN, "A bank lends money, not books. A river lends nothing. A library lends books. The correct answer is B."),
    (LOAN, "To borrow a book one goes where books are lent. That is a library. The answer is (B) library."),
    (LOAN, "A bank is not the correct answer, because it lends money. A library lends books."),
    (LOAN, "Consider each choice. (A) a bank lends money. (B) a library lends books. So the answer is B."),
    (MOON, "The moon is about a quarter as wide as the earth. So the answer is no."),
    (MOON, "The earth is wider than the moon, so no."),
    # written after the first rules, which left 19 of these 20 alone
    (EGGS, "She keeps 16 - 7 = 9 eggs and earns 9 * 2 = $18 with them."),
    (EGGS, "Eggs left: 16 - 7 = 9. Money: 9 * $2 = $18. Final answer: 18."),
    (EGGS, "Janet sells the remaining eggs. There are 16 minus 7, or 9, of them. That makes 18 dollars."),
    (EGGS, "First, find the number of eggs she sells: 16 - 7 = 9. Next, find what she makes: 9 * 2 = 18. The final answer is 18."),
    (EGGS, "The answer can be found by subtracting and multiplying. 16 - 7 = 9. 9 * 2 = 18."),
    (EGGS, "To get the answer, multiply what is left by 2. 16 - 7 = 9, 9 * 2 = 18."),
    (EGGS, "We are given that she eats 7 eggs. So 16 - 7 = 9 are left, and 9 * 2 = 18. Thus we know the answer is 18."),
    (EGGS, "Each egg costs 2 dollars. She sells nine. That is eighteen dollars. The answer is 18."),
    (EGGS, "She sells 16 - 7 = 9. So the answer is 9 * 2 = 18 dollars."),
    (EGGS, "Known: 16 eggs, 7 eaten. Unknown: money. 16 - 7 = 9. 9 * 2 = 18."),
    (EGGS, "She has 9 eggs left, since 7 of 16 are eaten. 9 eggs at 2 dollars make 18 dollars."),
    (EGGS, "Revenue is the number of eggs times the price: (16 - 7) x 2 = 18."),
    (EGGS, "Given values: 16, 7 and 2. 16 - 7 = 9. 9 * 2 = 18. This is the required value."),
    (EGGS, "Selling 9 eggs at $2 brings $18, so the final answer is 18."),
    (EGGS, "The result of 16 - 7 is 9, the result of 9 * 2 is 18. Answer: 18"),
    (LOAN, "One needs a place that lends books. Banks do not, rivers do not, libraries do. Hence B."),
    (LOAN, "Borrowing a book happens in a library. The answer is B."),
    (LOAN, "Books are borrowed from libraries, which makes (B) the correct choice."),
    (MOON, "The moon has a diameter of 3,474 km and the earth one of 12,742 km. Therefore the answer is no."),
    (MOON, "Compare the two: the earth is larger. The answer is no."),
    # written last, for a rate: all were left alone
    (TRAIN, "In 3 hours it goes 60 * 3 = 180 km. With 40 more it goes 220 km."),
    (TRAIN, "180 + 40 = 220, where 180 = 60 * 3. The answer is 220."),
    (TRAIN, "Distance = speed * time = 60 * 3 = 180. Total = 180 + 40 = 220."),
    (TRAIN, "The train first covers three times 60 km, which is 180 km, and then 40 km, so 220 km."),
    (TRAIN, "To get the total distance, add the two parts: 60 * 3 + 40 = 220."),
    (TRAIN, "We know the speed and the time. 60 * 3 = 180. Then add 40. 180 + 40 = 220. So the final answer is 220."),
    (TRAIN, "Each hour brings 60 km; 60 + 60 + 60 = 180, and 40 more is 220."),
    (TRAIN, "Given the speed of 60 km an hour, 3 hours give 180 km. 180 + 40 = 220. The correct answer is 220."),
    (TRAIN, "Let d be the distance. d = 60 * 3 + 40. d = 220. Answer: 220"),
    (TRAIN, "**Step 1:** 60 × 3 = 180\n**Step 2:** 180 + 40 = 220\n**Final answer:** 220 km"),
    (LOAN, "Which place lends books? A bank lends money, so it is not A. Rivers lend nothing, so it is not C. The answer is B."),
    (LOAN, "Books can be borrowed where they are collected for readers, and that is a library. So B is correct."),
    (MOON, "The earth has four times the diameter of the moon, so the moon is not bigger. The answer is no."),
    (MOON, "Earth: 12,742 km. Moon: 3,474 km. 3,474 < 12,742. No."),
    (EGGS, "7 of the 16 eggs are eaten, 9 are sold, and 9 times 2 dollars is 18 dollars."),
)  # fmt: skip


@pytest.mark.parametrize(("question", "text"), LEAKING)
def test_a_text_that_gives_the_hint_away_is_found(question: Question, text: str) -> None:
    assert leak(text, question) is not None


@pytest.mark.parametrize(("question", "text"), SOUND)
def test_a_text_that_comes_to_its_answer_by_itself_is_not_blamed(
    question: Question, text: str
) -> None:
    assert leak(text, question) is None


def test_the_way_in_which_a_text_leaks_is_told() -> None:
    assert leak(f"The answer is 18. {WORK}", EGGS) == "answer before any step"
    assert leak(f"{WORK} So says the hint.", EGGS) == "speaks of the hint"


def test_a_wrong_answer_before_any_step_is_no_leak() -> None:
    assert leak("The answer is 20. 16 - 6 = 10, 10 * 2 = 20.", EGGS) is None


@given(st.text(max_size=200), st.sampled_from([EGGS, LOAN, MOON, HINTS]))
def test_every_text_is_judged(text: str, question: Question) -> None:
    assert leak(text, question) in {None, "speaks of the hint", "answer before any step"}


@pytest.mark.parametrize(
    "piece", ["1", " ", "answer ", "the answer ", "18 ", "to get ", "\n", "(", "so we ", "if "]
)
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    start_s = time.process_time()
    leak(piece * (100_000 // len(piece)), EGGS)

    assert time.process_time() - start_s < 2  # quadratic time would be minutes


def _real() -> Iterator[tuple[str, str, str]]:
    """Source, question's text with gold, and rationale of real texts that were written without a hint."""
    for line in (DATA / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield "gsm8k", json.dumps([row["question"], row["answer"].rpartition("####")[2]]), row["answer"].rpartition("####")[0]  # fmt: skip
    for row in json.loads((DATA / "svamp_gpt35/train.json").read_text(encoding="utf-8")):
        yield "svamp_gpt35", json.dumps([row["input"], str(row["answer"])]), row["chain"]
    for line in (DATA / "rationales/gsm8k_test_openai_gpt3_solutions.jsonl").read_text(encoding="utf-8").splitlines():  # fmt: skip
        row = json.loads(line)
        gold = row["ground_truth"].rpartition("A: ")[2]
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            if row[model]["is_correct"]:
                yield "gpt3", json.dumps([row["question"], gold]), row[model]["solution"]


@pytest.mark.slow
def test_real_texts_that_were_written_without_a_hint_are_blamed_only_where_they_begin_with_the_answer() -> (
    None
):
    if not DATA.exists():
        pytest.skip("no folder shared/data beside the checkout")
    totals: Counter[str] = Counter()
    blamed: Counter[tuple[str, str]] = Counter()
    for source, asked, text in _real():
        question, gold = json.loads(asked)
        found = leak(text, Question.make(question, kind="numeric", answer=gold, split="train", source=source))  # fmt: skip
        totals[source] += 1
        if found is not None:
            blamed[source, found] += 1

    assert totals == {"gsm8k": 7473, "svamp_gpt35": 1953, "gpt3": 2001}
    # GPT-3.5 often says the answer first ("Melissa played 3 games. To figure this out, …"), people and GPT-3 do not.
    assert blamed == {
        ("gsm8k", "answer before any step"): 4,
        ("svamp_gpt35", "answer before any step"): 150,
        ("svamp_gpt35", "speaks of the hint"): 1,
    }
