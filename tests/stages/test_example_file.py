"""Training data on disk: equal to what is made in memory, whatever the order of the rows, at a few bytes an example."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Curriculum, Question, Rationale, StageError, TokenWeights
from kpod.stages._lm.completions import Completion
from kpod.stages._lm.curricula import curriculum_by_rationale
from kpod.stages._lm.encoding import Encoded, Example, OnTooLong, encode_examples
from kpod.stages._lm.example_file import ExampleFile
from kpod.stages._lm.example_stream import Streams, stream_examples
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages._lm.shelf import Shelf
from kpod.stages._lm.token_weights import weights_by_rationale
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._material import gather
from kpod.stages.student._settings import Config
from kpod.stages.student._steps import steps_within
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model

TEXTS = ("Tom has 7 + 2 = 9 apples. Tom has 9 - 1 = 8 apples.", "Tom has 8 apples.")
LIMIT_B = 100


@cache
def tokenizer() -> Any:
    return load_tokenizer(tiny_files())


def question(number: int, answer: str | None = "8") -> Question:
    return Question.make(
        f"Tom has {number} apples. How many?", kind="numeric", answer=answer, split="train", source="test"
    )  # fmt: skip


def rationale(of: Question, text: str = TEXTS[0]) -> Rationale:
    return Rationale.make(of.id, text, teacher="reference", answer="8")


def lessons(row: Rationale) -> tuple[TokenWeights, Curriculum]:
    """Weights and a plan that are no other rationale's."""
    stream = random.Random(row.id)
    first = row.text.find(".") + 1
    spans = tuple(
        (start, end) for start, end in ((0, first), (first, len(row.text))) if start < end
    )
    return (
        TokenWeights(
            rationale_id=row.id, spans=spans, weights=tuple(stream.random() for _ in spans)
        ),
        Curriculum(rationale_id=row.id, num_steps=len(spans), given=(1, 0), cut=(first, 0)),
    )


class Rows:
    """The records of a training of so many rationales, two of which share a question."""

    def __init__(self, num: int = 6) -> None:
        self.questions = [question(number) for number in range(num)]
        self.rationales = [
            rationale(asked, TEXTS[number % 2]) for number, asked in enumerate(self.questions[:-1])
        ]
        self.rationales.append(rationale(self.questions[0], "Tom has 8."))
        pairs = [lessons(row) for row in self.rationales]
        self.weights: list[TokenWeights] | None = [pair[0] for pair in pairs]
        self.curriculum: list[Curriculum] | None = [pair[1] for pair in pairs]

    def in_memory(self, **settings: Any) -> Encoded:
        weights, curriculum = self.weights, self.curriculum
        return encode_examples(
            tokenizer(), questions=self.questions, rationales=self.rationales,
            weights=None if weights is None else weights_by_rationale(weights, self.rationales),
            curriculum=None if curriculum is None else curriculum_by_rationale(curriculum, self.rationales),
            **{"prompt": PromptConfig().resolve(), "max_length": 256, **settings},
        )  # fmt: skip

    def streamed(self, folder: Path, **settings: Any) -> Encoded:
        weights, curriculum = self.weights, self.curriculum
        streams = Streams(
            lambda: self.questions,
            lambda: self.rationales,
            None if weights is None else lambda: weights,
            None if curriculum is None else lambda: curriculum,
        )
        told = {"prompt": PromptConfig().resolve(), "max_length": 256, **settings}
        return stream_examples(tokenizer(), streams, folder=folder, **told)


numbers = st.integers(0, 2**31 - 1)
weight_values = st.floats(0.0, 1.0) | st.just(1.0)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    size = draw(st.integers(1, 12))
    span = st.none() | st.tuples(st.integers(0, 5000), st.integers(0, 5000))
    parts = st.sampled_from(("rationale", "answer", "template", "end"))

    def row(items: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(items, min_size=size, max_size=size)))

    return Example(
        example_id=draw(st.text(max_size=9)),
        question_id=draw(st.text(max_size=9)),
        prompt_ids=tuple(draw(st.lists(numbers, max_size=9))),
        completion=Completion(ids=row(numbers), parts=row(parts), spans=row(span)),
        weights=draw(st.just((1.0,) * size) | st.tuples(*[weight_values] * size)),
        first_targets=tuple(draw(st.lists(st.integers(0, size), max_size=5))),
    )


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(examples(), max_size=5))
def test_every_example_comes_back_from_the_file_bit_by_bit(rows: list[Example]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = ExampleFile(iter(rows), folder=Path(folder))

        assert list(file) == rows
        assert [repr(astuple(row)) for row in file] == [repr(astuple(row)) for row in rows]
        for index, row in enumerate(rows):
            counted = [file.num_targets(index, epoch) for epoch in range(1, 8)]
            assert counted == [row.num_targets(epoch) for epoch in range(1, 8)]


def test_a_file_is_read_by_index_and_slice_and_ends_where_it_ends(tmp_path: Path) -> None:
    file = Rows().streamed(tmp_path).examples

    assert len(file) == 6
    assert file[1:3] == (file[1], file[2])
    assert file[-1] == file[5]
    with pytest.raises(IndexError, match="example 6 of 6"):
        file[6]


@pytest.mark.parametrize("order", ["given", "reversed", "shuffled"])
def test_a_stream_makes_what_memory_makes_whatever_the_order_of_the_other_rows(
    order: str, tmp_path: Path
) -> None:
    """Mistake 8.1.9, on disk: weights and cuts follow their rationale by id."""
    rows = Rows(num=600)  # more than two chunks of the tokenizer
    expected = rows.in_memory()
    for values in (rows.questions, rows.weights, rows.curriculum):
        assert isinstance(values, list)
        if order == "reversed":
            values.reverse()
        if order == "shuffled":
            random.Random(1).shuffle(values)
    found = rows.streamed(tmp_path)

    assert list(found.examples) == list(expected.examples)
    assert found.without_rationale == expected.without_rationale == (question(599).id,)


@pytest.mark.parametrize("wired", ["weights", "curriculum", "neither"])
def test_what_is_not_wired_is_not_missed(wired: str, tmp_path: Path) -> None:
    rows = Rows()
    if wired != "weights":
        rows.weights = None
    if wired != "curriculum":
        rows.curriculum = None

    assert list(rows.streamed(tmp_path).examples) == list(rows.in_memory().examples)


def test_rows_of_rationales_that_a_filter_took_out_are_passed_over(tmp_path: Path) -> None:
    rows = Rows()
    del rows.rationales[1:3]

    assert list(rows.streamed(tmp_path).examples) == list(rows.in_memory().examples)


def test_answer_only_streams_each_question_once_and_tells_the_same_left_out(tmp_path: Path) -> None:
    rows = Rows()
    rows.weights = rows.curriculum = None
    prompt = PromptConfig(name="answer_only").resolve()
    found, expected = rows.streamed(tmp_path, prompt=prompt), rows.in_memory(prompt=prompt)

    assert list(found.examples) == list(expected.examples)
    assert found.without_rationale == expected.without_rationale
    assert len(found.examples) == 5


@pytest.mark.parametrize("on_too_long", ["drop", "error"])
def test_too_long_sequences_are_told_as_in_memory(on_too_long: OnTooLong, tmp_path: Path) -> None:
    told = []
    for encode in (Rows().in_memory, lambda **more: Rows().streamed(tmp_path, **more)):
        try:
            told.append(str(encode(max_length=36, on_too_long=on_too_long).dropped))
        except StageError as error:
            told.append(str(error))

    assert told[0] == told[1]
    assert told[0] != "()"


def _without_a_question(rows: Rows) -> None:
    del rows.questions[0]


def _without_weights(rows: Rows) -> None:
    assert rows.weights is not None
    del rows.weights[1:3]


def _with_weights_twice(rows: Rows) -> None:
    assert rows.weights is not None
    rows.weights.append(rows.weights[2])


def _with_a_curriculum_twice(rows: Rows) -> None:
    assert rows.curriculum is not None
    rows.curriculum.append(rows.curriculum[2])


def _without_a_curriculum(rows: Rows) -> None:
    rows.curriculum = []


def _with_weights_of_another_text(rows: Rows) -> None:
    assert rows.weights is not None
    rows.weights[1] = replace(rows.weights[1], spans=((0, 3),), weights=(1.0,))


def _with_a_cut_outside_the_text(rows: Rows) -> None:
    assert rows.curriculum is not None
    rows.curriculum[1] = replace(rows.curriculum[1], cut=(9999, 0))


def _without_rationales(rows: Rows) -> None:
    rows.rationales = []


def _without_answers(rows: Rows) -> None:
    rows.questions = [replace(row, answer=None) for row in rows.questions]
    rows.rationales = [replace(row, answer=None) for row in rows.rationales]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_without_a_question, "2 of 6 rationales belong to no question of this stage"),
        (_without_weights, "2 of 6 rationales have no token weights"),
        (_with_weights_twice, "has token weights twice"),
        (_with_a_curriculum_twice, "has curriculum rows twice"),
        (_without_a_curriculum, "6 of 6 rationales have no curriculum rows"),
        (_with_weights_of_another_text, "has no weight"),
        (_with_a_cut_outside_the_text, "do not fit a text"),
        (_without_rationales, "nothing to train on: 6 questions, 0 rationales"),
        (_without_answers, "has no gold answer"),
    ],
)
def test_a_stream_refuses_what_memory_refuses_in_the_same_words(
    spoil: Any, says: str, tmp_path: Path
) -> None:
    rows = Rows()
    spoil(rows)
    with pytest.raises(StageError, match=says) as expected:
        rows.in_memory()
    with pytest.raises(StageError, match=says) as found:
        rows.streamed(tmp_path)

    assert str(found.value) == str(expected.value)


def test_a_budget_ends_at_the_same_step_from_file_and_memory(tmp_path: Path) -> None:
    rows = Rows(num=20)
    plan = StepPlan(num_examples=20, batch_size=4, num_steps=1, seed=0)
    file, memory = rows.streamed(tmp_path).examples, rows.in_memory().examples

    for budget in (1, 300, 2000):
        assert steps_within(budget, file, plan) == steps_within(budget, memory, plan)


def test_nothing_lies_in_the_folder_while_a_file_is_read(tmp_path: Path) -> None:
    """So a kill leaves nothing behind."""
    file = Rows().streamed(tmp_path).examples

    assert not list(tmp_path.iterdir())
    assert file[0].prompt_ids


def context(rows: Rows, root: Path, **settings: Any) -> FakeContext[Config]:
    inputs: dict[str, Sequence[Any]] = {
        "questions": rows.questions, "rationales": rows.rationales, "weights": rows.weights or (),
        "curriculum": rows.curriculum or (),
    }  # fmt: skip
    config = Config(method="full", epochs=2, precision="fp32", **settings)
    return FakeContext(config=config, inputs=inputs, models={"model": tiny_model()}, root=root)


def test_gathering_leaves_no_folder_that_would_tell_of_an_interruption(tmp_path: Path) -> None:
    gather(context(Rows(), tmp_path), CausalLm(), tiny_files())
    assert not list(tmp_path.iterdir())

    with pytest.raises(StageError, match="longer than 10 tokens"):
        gather(context(Rows(), tmp_path, max_length=10), CausalLm(), tiny_files())
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_there_stays_when_a_training_gathers_again(tmp_path: Path) -> None:
    ctx = context(Rows(), tmp_path)
    (ctx.checkpoint / "state").write_text("kept", encoding="utf-8")
    gather(ctx, CausalLm(), tiny_files())

    assert [path.name for path in ctx.checkpoint.iterdir()] == ["state"]


def test_a_long_encoding_tells_how_far_it_is(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("kpod.stages._lm.example_stream.TOLD_EVERY", 2)
    ctx = context(Rows(), tmp_path)
    gather(ctx, CausalLm(), tiny_files())

    assert [step[:3] for step in ctx.steps] == [
        (done, 6, "sequences encoded") for done in (2, 4, 6)
    ]


def test_a_shelf_gives_back_equal_records_and_keeps_the_first_of_a_name(tmp_path: Path) -> None:
    shelf = Shelf(Question, tmp_path)
    rows = [question(1), question(2, answer=None), replace(question(3), choices=("a", "ü"))]

    assert [shelf.put(row.id, row) for row in rows] == [True] * 3
    assert not shelf.put(rows[0].id, rows[1])
    assert [shelf.get(row.id) for row in rows] == rows
    shelf.replace(rows[0].id, rows[1])
    assert shelf.get(rows[0].id) == rows[1]
    assert (len(shelf), "nobody" in shelf, shelf.mark("nobody")) == (3, False, False)
    assert [shelf.mark(rows[1].id), shelf.mark(rows[1].id)] == [True, False]
    assert sorted(shelf.unmarked()) == sorted([rows[0].id, rows[2].id])
    with pytest.raises(KeyError):
        shelf.get("nobody")


def _lazy(num: int) -> Streams:
    """As many records as asked, none of them held."""
    asked = [question(number) for number in range(5)]

    def rationales() -> Iterator[Rationale]:
        for number in range(num):
            row = rationale(asked[number % 5])
            yield replace(row, id=f"{number:016x}")

    return Streams(
        lambda: asked,
        rationales,
        lambda: (lessons(row)[0] for row in rationales()),
        lambda: (lessons(row)[1] for row in rationales()),
    )


def _memory(num: int, folder: Path) -> tuple[int, int]:
    """Bytes held after encoding so many, and at the peak."""
    tracemalloc.start()
    try:
        prompt = PromptConfig().resolve()
        encoded = stream_examples(
            tokenizer(), _lazy(num), prompt=prompt, max_length=256, folder=folder
        )
        plan = StepPlan(num_examples=num, batch_size=8, num_steps=2, seed=0)
        assert all(encoded.examples[index].passage(1) for index in plan.indices(1))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return held, peak


@pytest.mark.slow
def test_an_example_more_costs_less_than_a_hundred_bytes(tmp_path: Path) -> None:
    _memory(100, tmp_path)  # what is imported and cached once
    # Both with more than two chunks of the tokenizer, which are what the peak is made of.
    few, many = _memory(600, tmp_path), _memory(1600, tmp_path)

    assert many[0] - few[0] <= 1000 * LIMIT_B
    # The peak is made of chunks under way, which are not of one size.
    assert many[1] - few[1] <= 3000 * LIMIT_B
