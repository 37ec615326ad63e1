"""The other weightings: uniform, rules, shuffled and random, and how learned weights are told by class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Question, Rationale, TokenWeights
from kpod.stages._lm.token_weights import check_weights, weights_by_rationale
from kpod.stages.weighting import random, rules, shuffled, uniform
from kpod.stages.weighting._diagnostics import character_classes, mean_weights
from kpod.stages.weighting._numbers import number_runs, number_stretches
from tests.stages.fakes import FakeContext
from tests.stages.weighting_models import pairs

TEXT = "Tom has 12 + 7 = 19 apples. That's $1,200.50, or 5% of a well-known sum and/or 3*4."


def test_uniform_weights_cover_every_text_with_one() -> None:
    rows = [*pairs(3)[1], Rationale.make("q", "", teacher="test")]
    ctx = FakeContext(config=uniform.Config(), inputs={"rationales": rows})
    uniform.Uniform().run(ctx)
    found = weights_by_rationale(ctx.rows("weights"), rows)
    assert {weight for one in found.values() for weight in one.weights} == {1.0}
    assert ctx.notes["summary"] == "4 rationales; every token weighs 1"


def test_runs_of_numbers_and_signs_leave_full_stops_and_hyphens_of_words_alone() -> None:
    found = [TEXT[start:end] for start, end in number_runs(TEXT)]
    assert found == ["12", "+", "7", "=", "19", "$1,200.50", "5%", "3*4"]


@given(st.text(alphabet="a1.,+-= /$\n", max_size=40))
def test_stretches_cover_all_but_white_space_once(text: str) -> None:
    found = number_stretches(text)
    weights = TokenWeights(
        rationale_id="r", spans=tuple(span for span, _ in found), weights=(1.0,) * len(found)
    )
    check_weights(weights, text)
    for (start, end), is_number in found:
        assert is_number == any(c.isdigit() or c in "+-=/$" for c in text[start:end]) or not is_number  # fmt: skip


def test_rules_weigh_digits_and_operators_fully_and_the_rest_as_set() -> None:
    rationale = Rationale.make("q", TEXT, teacher="test")
    ctx = FakeContext(config=rules.Config(other=0.25), inputs={"rationales": [rationale]})
    rules.Rules().run(ctx)
    (row,) = ctx.rows("weights")
    check_weights(row, TEXT)
    full = [TEXT[a:b] for (a, b), weight in zip(row.spans, row.weights, strict=True) if weight == 1.0]  # fmt: skip
    assert full == ["12", "+", "7", "=", "19", "$1,200.50", "5%", "3*4"]
    assert set(row.weights) == {1.0, 0.25}
    assert rules.Config().other == 0.1


def _weights(number: int) -> TokenWeights:
    spans = tuple((place * 2, place * 2 + 1) for place in range(12))
    return TokenWeights(rationale_id=f"r{number}", spans=spans, weights=tuple(place / 12 for place in range(12)))  # fmt: skip


def test_shuffled_keeps_spans_and_the_multiset_of_weights_of_each_rationale() -> None:
    rows = [_weights(number) for number in range(5)]
    ctx = FakeContext(config=shuffled.Config(), inputs={"weights": rows}, seed=3)
    shuffled.Shuffled().run(ctx)
    for before, after in zip(rows, ctx.rows("shuffled"), strict=True):
        assert (after.rationale_id, after.spans) == (before.rationale_id, before.spans)
        assert sorted(after.weights) == sorted(before.weights)
        assert after.weights != before.weights
    assert len({after.weights for after in ctx.rows("shuffled")}) == 5


def test_statement_25_what_is_drawn_belongs_to_the_id_and_not_to_the_row() -> None:
    rows, rationales = [_weights(number) for number in range(4)], pairs(4)[1]
    found = []
    for step in (1, -1):
        one = FakeContext(config=shuffled.Config(), inputs={"weights": rows[::step]}, seed=3)
        shuffled.Shuffled().run(one)
        two = FakeContext(config=random.Config(), inputs={"rationales": rationales[::step]}, seed=3)
        random.Random().run(two)
        written = [*one.rows("shuffled"), *two.rows("weights")]
        found.append(sorted(written, key=lambda row: row.rationale_id))
    assert found[0] == found[1]


def test_random_weights_cover_every_word_and_depend_on_the_seed() -> None:
    rationales = pairs(40)[1]
    found = []
    for seed in (0, 0, 1):
        ctx = FakeContext(config=random.Config(), inputs={"rationales": rationales}, seed=seed)
        random.Random().run(ctx)
        found.append(weights_by_rationale(ctx.rows("weights"), rationales))
    assert found[0] == found[1] != found[2]
    weights = [weight for row in found[0].values() for weight in row.weights]
    # 700 numbers between 0 and 1: their mean has a standard error of 0.011.
    assert sum(weights) / len(weights) == pytest.approx(0.5, abs=0.05)


def test_classes_of_characters_are_numbers_names_and_fillers() -> None:
    text = "Mark has 3 apples. Then Jennifer got 5. Apples are red, and Mark's are green."
    classes = character_classes(text, "How many apples does Mark have?")
    named = {name: "".join(text[at] for at in sorted(classes) if classes[at] == name) for name in set(classes.values())}  # fmt: skip
    assert named["number"] == "35"
    # "Mark" stands inside the question, "Jennifer" inside the text; "Apples" only begins a sentence.
    assert named["name"] == "MarkJenniferMark's"
    assert named["filler"] == "hasThengotareandare"


def test_means_are_told_for_each_class_and_missing_where_there_is_none() -> None:
    question = Question.make("How many has Tom?", kind="numeric", answer="5", split="train", source="t")  # fmt: skip
    rationale = Rationale.make(question.id, "Tom has 2 + 3 pens", teacher="t")
    spans = ((0, 3), (3, 7), (7, 9), (9, 11), (11, 13), (13, 18))
    row = TokenWeights(rationale_id=rationale.id, spans=spans, weights=(0.5, 0.1, 0.9, 0.8, 1.0, 0.3))  # fmt: skip
    means = mean_weights([(question, rationale, row)])
    assert means.digits_and_operators == pytest.approx(0.9)
    assert means.names == 0.5
    assert means.fillers == 0.1
    assert means.all == pytest.approx(0.6)
    assert mean_weights([]) == (None, None, None, None)


def test_controls_cover_the_real_rationales_of_svamp() -> None:
    folder = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "svamp_gpt35"
    if not (folder / "train.json").is_file():
        pytest.skip("no data/svamp_gpt35 beside the checkout")
    rows = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    texts = [chain for row in rows for chain in _chains(row)]
    rationales = list({one.id: one for one in (Rationale.make("q", text, teacher="t") for text in texts)}.values())  # fmt: skip
    assert rationales
    for stage, config in ((uniform.Uniform(), uniform.Config()), (rules.Rules(), rules.Config()), (random.Random(), random.Config())):  # fmt: skip
        ctx = FakeContext(config=config, inputs={"rationales": rationales})
        stage.run(ctx)
        weights_by_rationale(ctx.rows("weights"), rationales)


def _chains(row: dict[str, object]) -> list[str]:
    chain = row.get("chain")
    return [chain] if isinstance(chain, str) else [str(one) for one in chain or ()]  # type: ignore[attr-defined]
