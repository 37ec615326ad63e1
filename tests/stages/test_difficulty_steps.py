"""The segmenter: steps partition the text whatever it holds, and stand where a reader would put them."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Difficulty, Rationale, StageError
from kpod.stages._lm.solutions import plain_solution
from kpod.stages._lm.steps import RuleName, step_spans
from kpod.stages.difficulty._facts import num_decimals_kept, quantile
from kpod.stages.difficulty.step_count import Config, StepCount
from tests.stages.fakes import FakeContext

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
_PIECES = (
    ".", "..", "...", "?", "!", "\n", "\n\n", " ", "\t", "=", "-", "*", ")", '"', "1.", "2)", "Step 3:", "3.5", ".5", "$.50",
    "oz.", "Mr.", "e.g.", "No.", "p.m.", "J.", "A", "he", "Then", "5", "é", "。", "…", "5!", "\r\n", "\u2028", "\u00a0",
)  # fmt: skip
texts = st.text() | st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)
rules = st.sampled_from(["sentence", "period"])


def steps(text: str, rule: RuleName = "sentence") -> list[str]:
    return [text[start:end] for start, end in step_spans(text, rule=rule)]


@given(text=texts, rule=rules)
def test_statement_10_steps_partition_every_text_and_none_is_empty(
    text: str, rule: RuleName
) -> None:
    spans = step_spans(text, rule=rule)

    if not text.strip():
        assert spans == []
        return
    assert "".join(steps(text, rule)) == text
    assert spans[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert all(text[start:end].strip() for start, end in spans)
    # White space belongs to the step before it.
    assert not any(text[start].isspace() for start, _ in spans[1:])


@given(text=texts)
def test_statement_10_no_decimal_is_cut(text: str) -> None:
    points = {match.start() + 1 for match in re.finditer(r"(?<=[0-9])\.(?=[0-9])", text)}

    assert points.isdisjoint(end for _, end in step_spans(text, rule="sentence"))


@given(text=texts)
def test_mistake_8_1_14_the_papers_literal_rule_loses_no_text(text: str) -> None:
    pieces = [piece.strip() for piece in text.split(".") if piece.strip()]

    found = [re.sub(r"[.\s]*$", "", step).lstrip(" .\t\r\n") for step in steps(text, "period")]
    assert "".join(steps(text, "period")) == (text if text.strip() else "")
    if pieces:
        assert len(found) == len(pieces)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Numbers and money.
        ("He pays $3.50. Then 2 are left.", ["He pays $3.50. ", "Then 2 are left."]),
        ("It costs $.50 x 4 = 2. So 2.", ["It costs $.50 x 4 = 2. ", "So 2."]),
        ("He has 5 apples.3 more come.Then 8.", ["He has 5 apples.", "3 more come.", "Then 8."]),
        ("5.+3=8. Done", ["5.+3=8. ", "Done"]),
        # Abbreviations.
        ("Mr. Lee and Mrs. Day have 4. Dr. No has 2.", ["Mr. Lee and Mrs. Day have 4. ", "Dr. No has 2."]),
        ("He has toys, e.g. 3 cars, i.e. 3. Then 2.", ["He has toys, e.g. 3 cars, i.e. 3. ", "Then 2."]),
        ("Bus No. 5 is late. No. She has 5.", ["Bus No. 5 is late. ", "No. ", "She has 5."]),
        ("It holds 12 oz. of tea. It is 4 ft. He cuts 2 in. off.", ["It holds 12 oz. of tea. ", "It is 4 ft. ", "He cuts 2 in. off."]),
        ("14 in. + 37 in. = 51 in. So 51.", ["14 in. + 37 in. = 51 in. ", "So 51."]),
        ("It is approx. 5 vs. 6. Apples, pears, etc. are fruit.", ["It is approx. 5 vs. 6. ", "Apples, pears, etc. are fruit."]),
        ("At 5 p.m. on Monday he left at 6 p.m. She came.", ["At 5 p.m. on Monday he left at 6 p.m. ", "She came."]),
        ("John F. Kennedy has 3. Take plan A. Then 4.", ["John F. Kennedy has 3. ", "Take plan A. ", "Then 4."]),
        ("She is on St. Mary Road. It is far.", ["She is on St. Mary Road. ", "It is far."]),
        # Other ends, quotations, ellipses.
        ("How many? 5! So 5.", ["How many? ", "5! ", "So 5."]),
        ("5! = 120 ways. Good", ["5! = 120 ways. ", "Good"]),
        ('The answer to "how many?" is 5. He said "two." Then 3.', ['The answer to "how many?" is 5. ', 'He said "two." ', "Then 3."]),
        ("Let me think... Well, 2, 4, 6... seconds.", ["Let me think... ", "Well, 2, 4, 6... seconds."]),
        ("They run 5 (approx.) and 6. (It is 11.) So 11.", ["They run 5 (approx.) and 6. ", "(It is 11.) ", "So 11."]),
        ("他有5个。还有3个。", ["他有5个。", "还有3个。"]),
        # Lines and lists.
        ("2+3=5\n5*2=10\n", ["2+3=5\n", "5*2=10\n"]),
        ("left - given\n  = 7 - 6\n  = 1\n\nSo 1", ["left - given\n  = 7 - 6\n  = 1\n\n", "So 1"]),
        ("Steps:\n1. Add 3. It is 8.\n2. Take 2.", ["Steps:\n", "1. Add 3. ", "It is 8.\n", "2. Take 2."]),
        ("1) Add 3.\n2) Take 2", ["1) Add 3.\n", "2) Take 2"]),
        ("Step 1: add.\nStep 2: take.", ["Step 1: add.\n", "Step 2: take."]),
        ("Step 1.\nAdd 3.\n**Step 2:**\nTake 2.", ["Step 1.\nAdd 3.\n", "**Step 2:**\nTake 2."]),
        ("1.\nAdd.\n2.\nTake.", ["1.\nAdd.\n", "2.\nTake."]),
        ("So 5. 1. Add 3. 2. Take 2.", ["So 5. ", "1. Add 3. ", "2. Take 2."]),
        ("\\[\n5 + 3 = 8\n\\]\nSo 8.", ["\\[\n5 + 3 = 8\n\\]\n", "So 8."]),
        ("  Two.  \n\n Three", ["  Two.  \n\n ", "Three"]),
        ("no period at all", ["no period at all"]),
        ("...", ["..."]),
        (" \n ", []),
    ],
)  # fmt: skip
def test_sentences_lines_and_list_items_are_steps(text: str, expected: list[str]) -> None:
    assert steps(text) == expected


def test_mistake_8_1_14_the_literal_rule_cuts_decimals_and_only_a_period_ends_a_step() -> None:
    text = "He pays $3.50... Mr. Lee\nhas 2"

    assert steps(text, "period") == ["He pays $3.", "50... ", "Mr. ", "Lee\nhas 2"]


def test_lines_of_signs_cost_linear_time() -> None:
    text = "-\n" * 20_000 + "1.\n" * 20_000 + "(" * 20_000 + "\n" * 20_000

    assert "".join(steps(text)) == text


def _gsm8k() -> list[str]:
    path = DATA / "gsm8k" / "train.jsonl"
    if not path.exists():
        pytest.skip("no GSM8K beside the checkout")
    with path.open(encoding="utf-8") as lines:
        return [plain_solution(json.loads(line)["answer"]) for line in lines]


def _svamp_gpt35() -> list[str]:
    path = DATA / "svamp_gpt35" / "train.json"
    if not path.exists():
        pytest.skip("no GPT-3.5 rationales beside the checkout")
    return [row["chain"] for row in json.loads(path.read_text(encoding="utf-8"))]


def cut_decimals(text: str, rule: RuleName) -> int:
    """Decimal points, .5 and $.50 among them, at which a step ends."""
    ends = {end for _, end in step_spans(text, rule=rule)}
    return sum(match.end() in ends for match in re.finditer(r"(?<![A-Za-z])\.(?=[0-9])", text))


def test_statement_10_on_gsm8k_the_literal_rule_cuts_numbers_of_1300_solutions_and_ours_none() -> (
    None
):
    solutions = _gsm8k()

    assert len(solutions) == 7473
    assert all("".join(steps(text)) == text for text in solutions)
    assert not any(cut_decimals(text, "sentence") for text in solutions)
    # 891 of 7,473 hold a decimal such as 3.5; with .5 and $.50 they are more.
    assert sum(bool(re.search(r"[0-9]\.[0-9]", text)) for text in solutions) == 891
    assert sum(cut_decimals(text, "period") > 0 for text in solutions) == 1300


def test_statement_10_on_gpt35_rationales_the_literal_rule_cuts_numbers_of_73_and_ours_none() -> (
    None
):
    rationales = _svamp_gpt35()

    assert len(rationales) == 1953
    assert all("".join(steps(text)) == text for text in rationales)
    assert not any(cut_decimals(text, "sentence") for text in rationales)
    # 73 / 1953 = 3.7 % (KPOD.md section 2).
    assert sum(bool(re.search(r"[0-9]\.[0-9]", text)) for text in rationales) == 73
    assert sum(cut_decimals(text, "period") > 0 for text in rationales) == 73


def rationale(text: str, name: str = "q") -> Rationale:
    return Rationale.make(name, text, teacher="test")


def test_step_count_gives_every_step_one_unit_and_notes_what_was_kept_whole() -> None:
    rows = [rationale("He pays $3.50. Then 2 are left."), rationale("One\nTwo\nThree .5")]
    ctx = FakeContext(config=Config(), inputs={"rationales": rows})
    StepCount().run(ctx)

    assert ctx.rows("difficulty") == [
        Difficulty(rationale_id=rows[0].id, steps=((0, 15, 1.0), (15, 31, 1.0))),
        Difficulty(rationale_id=rows[1].id, steps=((0, 4, 1.0), (4, 8, 1.0), (8, 16, 1.0))),
    ]
    assert ctx.notes["steps_by_rationale"] == {"2": 1, "3": 1}
    assert ctx.notes["total_difficulty"] == 5.0
    assert ctx.notes["num_decimals_kept"] == 2
    assert ctx.notes["summary"] == "5 steps in 2 rationales, each of difficulty 1"

    literal = FakeContext(config=Config(steps="period"), inputs={"rationales": rows})
    StepCount().run(literal)
    assert literal.notes["num_decimals_kept"] == 0
    assert literal.notes["steps_by_rationale"] == {"2": 1, "3": 1}


def test_a_rationale_without_a_step_is_named() -> None:
    empty = rationale(" \n")
    ctx = FakeContext(config=Config(), inputs={"rationales": [rationale("One."), empty]})
    with pytest.raises(StageError) as raised:
        StepCount().run(ctx)

    assert str(raised.value) == (
        f"1 of 2 rationales have no step, their text is empty: {empty.id}\ndrop them with filter.verified"
    )
    with pytest.raises(StageError, match="there are no rationales to measure"):
        StepCount().run(FakeContext(config=Config(), inputs={"rationales": []}))


def test_quantiles_are_read_between_neighbours() -> None:
    assert [quantile([1.0, 2.0, 4.0], share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [
        1.0,
        1.5,
        2.0,
        3.0,
        4.0,
    ]
    row = Difficulty(rationale_id="r", steps=((0, 3, 1.0), (3, 8, 1.0)))
    assert num_decimals_kept("3.5 a.5 .5", row) == 2
