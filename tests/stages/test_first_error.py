"""evaluate.first_error: which step of the reference solution breaks first, with scripted models and with tiny ones."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Breakpoint, Curriculum, Question, Rationale, StageError
from kpod.runner.capability import Capability
from kpod.runner.texts import GeneratedText
from kpod.stages._lm.artifact import read_spec, write_spec
from kpod.stages._lm.encoding import encode_examples
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.prompts import PromptConfig, encode_prompt
from kpod.stages._lm.solutions import Solution, solution_of
from kpod.stages.evaluate import accuracy
from kpod.stages.evaluate._first_error import (
    Case,
    Found,
    Sorted,
    breakpoint_of,
    drawn,
    sort_out,
    summary,
)
from kpod.stages.evaluate.first_error import Config, FirstError
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import Tiny, tiny_files, tiny_model

SETTINGS: dict[str, Any] = {"max_new_tokens": 8, "precision": "fp32"}
END = 2
STEPS = (
    "Tom has 3 + 4 = 7 apples.",
    "Tom has 7 + 2 = 9 apples.",
    "Tom has 9 - 3 = 6 apples.",
    "Tom has 6 - 1 = 5 apples.",
)


def _question(number: int, *, num_steps: int = 4, **facts: Any) -> Question:
    """Number `number`, whose answer is 5; its solution has so many steps, none where it is 0."""
    solution = " ".join(STEPS[4 - num_steps :]) if num_steps else None
    facts = {
        "kind": "numeric",
        "answer": "5",
        "split": "test",
        "source": "made",
        "solution": solution,
    } | facts
    return Question.make(f"Tom has {number} apples and gets more.", **facts)


QUESTIONS = [_question(number) for number in range(10, 16)]
WHOLE = Sorted((), 0, 0, 0)


def _case(number: int, num_steps: int) -> Case:
    return Case(_question(number), Solution("x" * num_steps, tuple(range(1, num_steps + 1))))


def _context(
    questions: Sequence[Question] = QUESTIONS,
    *,
    model: Path | None = None,
    root: Path | None = None,
    **settings: Any,
) -> FakeContext[Config]:
    return FakeContext(
        config=Config(**{**SETTINGS, **settings}),
        inputs={"questions": questions},
        models={"models": model or tiny_model()},
        root=root,
    )


class _Script:
    """A model by rule: what it says to a question's number and the number of steps that it was given."""

    def __init__(self, says: Callable[[int, int], str]) -> None:
        self.says = says
        self.calls: list[list[tuple[int, ...]]] = []

    def write(
        self, _ctx: Any, _files: Any, tokenizer: Any, requests: Any, _decoding: Any, **_: Any
    ) -> list[GeneratedText]:
        """Takes the place of write_texts."""
        self.calls.append([request.prompt_ids for request in requests])
        texts = [tokenizer.decode(request.prompt_ids) for request in requests]
        return [
            GeneratedText(
                text=self.says(_number(text), text.count("=")),
                finish="stop",
                prompt_tokens=1,
                completion_tokens=1,
            )
            for text in texts
        ]


def _number(text: str) -> int:
    found = re.search(r"Tom has (\d+) apples and", text)
    assert found is not None, text
    return int(found[1])


def _scripted(monkeypatch: pytest.MonkeyPatch, says: Callable[[int, int], str]) -> _Script:
    script = _Script(says)
    monkeypatch.setattr("kpod.stages.evaluate._first_error.write_texts", script.write)
    return script


def _right_at(at: dict[int, set[int]]) -> Callable[[int, int], str]:
    """Right on a question where so many steps are given, wrong elsewhere."""
    return lambda number, given: f"The answer is {5 if given in at.get(number, ()) else 4}."


def _broken(ctx: FakeContext[Config]) -> list[int | None]:
    return [row.broken_step for row in ctx.rows("breakpoints")]


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_the_smallest_number_of_given_steps_that_helps_names_the_broken_one(
    verdicts: list[bool],
) -> None:
    row = breakpoint_of(_case(1, len(verdicts) + 1), verdicts, model="m")

    expected = min((at for at, is_right in enumerate(verdicts, 1) if is_right), default=None)
    assert (row.broken_step, row.num_steps) == (expected, len(verdicts) + 1)


def test_questions_without_gold_solution_or_second_step_are_counted_apart() -> None:
    questions = [
        _question(10, answer=None),
        _question(11, num_steps=0),
        _question(12, solution="#### 5"),
        _question(13, num_steps=1),
        _question(14, num_steps=2),
        _question(15, num_steps=3),
    ]

    found = sort_out(questions, rule="sentence")

    assert [(case.question.id, case.solution.num_steps) for case in found.cases] == [
        (questions[4].id, 2),
        (questions[5].id, 3),
    ]
    assert found[1:] == (1, 2, 1)


def test_the_rule_decides_what_a_step_is() -> None:
    question = _question(10, solution="He pays $3.50 for it.")

    assert sort_out([question], rule="sentence").num_of_one_step == 1
    assert sort_out([question], rule="period").cases[0].solution.num_steps == 2


def test_a_solution_is_read_without_marks_and_answer_line() -> None:
    question = _question(
        1, solution="48/2 = <<48/2=24>>24 in May.\n48+24 = <<48+24=72>>72.\n#### 72"
    )

    assert solution_of(question, rule="sentence") == Solution(
        "48/2 = 24 in May.\n48+24 = 72.", (18, 29)
    )


@given(st.sets(st.integers(0, 60), min_size=2), st.integers(1, 20))
def test_a_limit_draws_by_id_and_another_wrong_question_moves_at_most_one(
    numbers: set[int], limit: int
) -> None:
    cases = [_case(number, 2) for number in sorted(numbers)]

    kept = drawn(cases, limit=limit)
    of_fewer = drawn(cases[1:], limit=limit)

    assert len(kept) == min(limit, len(cases))
    assert kept == [case for case in cases if case in kept]
    assert len([case for case in of_fewer if case not in kept]) <= 1


def test_the_steps_that_break_are_found_for_every_wrong_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 10 is right by itself; 12 is right with 2 steps and wrong again with 3; 14 stays wrong; 15 is too.
    at = {10: {0, 1, 2, 3}, 11: {1, 2, 3}, 12: {2}, 13: {3}}
    script = _scripted(monkeypatch, _right_at(at))
    ctx = _context()
    FirstError().run(ctx)

    digest = ctx.digest(FirstError.models)
    assert ctx.rows("breakpoints") == [
        Breakpoint(question_id=question.id, model=digest, num_steps=4, broken_step=step)
        for question, step in zip(QUESTIONS[1:], [1, 2, 3, None, None], strict=True)
    ]
    # Every question alone, then all prefixes of all wrong ones in one call.
    assert list(map(len, script.calls)) == [6, 15]
    assert {name: ctx.notes[name] for name in ("questions_with_steps", "wrong", "looked_at")} == {
        "questions_with_steps": 6,
        "wrong": 5,
        "looked_at": 5,
    }
    assert ctx.notes["broken_step_by_steps"] == {"4": {"1": 1, "2": 1, "3": 1, "never": 2}}
    assert ctx.notes["summary"] == (
        "wrong on 5 of 6 with a reference: step 1 breaks first in 1, step 2 in 1, step 3 in 1,"
        " no given step helps in 2"
    )


def test_the_last_step_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _scripted(monkeypatch, _right_at({10: {4}, 11: {3}}))
    ctx = _context([_question(10, num_steps=4), _question(11, num_steps=3)])
    FirstError().run(ctx)

    assert _broken(ctx) == [None, None]


def test_only_what_the_model_writes_itself_is_read_for_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first step already ends on the answer; a model that adds nothing has not answered.
    question = _question(10, solution="Tom has 3 + 2 = 5 apples. Tom has 5 + 1 = 6 apples.")
    _scripted(monkeypatch, lambda _number, _given: "")
    ctx = _context([question])
    FirstError().run(ctx)

    assert _broken(ctx) == [None]


def test_a_limit_leaves_wrong_questions_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    script = _scripted(monkeypatch, _right_at({}))
    ctx = _context(limit=2)
    FirstError().run(ctx)

    assert len(ctx.rows("breakpoints")) == 2
    assert list(map(len, script.calls)) == [6, 6]
    assert (ctx.notes["wrong"], ctx.notes["looked_at"]) == (6, 2)
    assert ctx.notes["summary"] == (
        "wrong on 6 of 6 with a reference, 2 looked at: no given step helps in 2"
    )


def test_a_model_that_is_always_right_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    script = _scripted(monkeypatch, lambda _number, _given: "The answer is 5.")
    ctx = _context()
    FirstError().run(ctx)

    assert ctx.rows("breakpoints") == []
    assert len(script.calls) == 1
    assert ctx.notes["summary"] == "right on all 6 with a reference"


def test_later_steps_are_summed_up_in_the_line_that_a_person_sees() -> None:
    rows = [
        Breakpoint(question_id=str(index), model="m", num_steps=8, broken_step=step)
        for index, step in enumerate([4, 6, 7])
    ]
    found = Found(
        sorted_out=WHOLE._replace(cases=(_case(1, 8),) * 1200), num_wrong=3, rows=tuple(rows)
    )

    assert summary(found) == "wrong on 3 of 1,200 with a reference: a later step breaks first in 3"


@pytest.mark.parametrize("architecture", ["qwen3", "t5"])
def test_given_steps_are_the_tokens_that_a_curriculum_gives_a_student(
    architecture: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = _scripted(monkeypatch, _right_at({}))
    ctx = _context(QUESTIONS[:1], model=tiny_model(architecture))
    FirstError().run(ctx)

    tokenizer, prompt = load_tokenizer(tiny_files(architecture)), PromptConfig().resolve()
    solution = solution_of(QUESTIONS[0], rule="sentence")
    assert solution is not None
    rationale = Rationale.make(QUESTIONS[0].id, solution.text, teacher="reference")
    plan = Curriculum(
        rationale_id=rationale.id, num_steps=4, given=(1, 2, 3), cut=solution.ends[:3]
    )
    (example,) = encode_examples(
        tokenizer, questions=QUESTIONS[:1], rationales=[rationale], prompt=prompt, max_length=200,
        has_encoder=architecture == "t5", curriculum={rationale.id: plan},
    ).examples  # fmt: skip
    # An encoder reads the end token behind what is given, as in training.
    end = (END,) if architecture == "t5" else ()
    contexts = [(*example.passage(epoch).context_ids, *end) for epoch in (1, 2, 3)]
    assert script.calls == [[(*encode_prompt(tokenizer, prompt, QUESTIONS[0]), *end)], contexts]


def test_a_model_whose_prompt_has_no_reasoning_is_refused(tmp_path: Path) -> None:
    own = PromptConfig(name="answer_only").resolve()
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "student"))
    write_spec(folder, replace(read_spec(folder), prompt=own.to_json()))

    with pytest.raises(StageError) as error:
        FirstError().run(_context(model=folder))

    assert str(error.value) == (
        "the model's prompt (answer_only) has no reasoning in it, so no step of a solution can be given\n"
        "allowed: models whose prompt has a {rationale}, such as students with the prompt cot\n"
        "take this model out of `models`"
    )


def test_data_without_solutions_in_steps_is_refused_before_anything_is_asked() -> None:
    questions = [
        _question(10, answer=None),
        _question(11, num_steps=0),
        _question(12, num_steps=1),
    ]

    with pytest.raises(StageError) as error:
        FirstError().run(_context(questions))

    assert str(error.value) == (
        "none of 3 questions has both a gold answer and a solution of two steps or more"
        " (no gold answer: 1, no solution: 1, a solution of one step: 1)\n"
        "allowed: data with worked solutions, such as data.gsm8k or data.word_problems\n"
        "map the solution column in the data stage, or take evaluate.first_error out of the recipe"
    )


def _num_texts(ctx: FakeContext[Any]) -> int:
    with sqlite3.connect(ctx.records._path) as connection:
        found: int = connection.execute("SELECT count(*) FROM texts").fetchone()[0]
    return found


@pytest.mark.parametrize("architecture", ["qwen3", "t5"])
def test_the_answers_of_an_accuracy_are_found_and_a_second_run_writes_nothing(
    architecture: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(architecture)
    scored: FakeContext[accuracy.Config] = FakeContext(
        config=accuracy.Config(**SETTINGS),
        inputs={"questions": QUESTIONS},
        models={"models": model},
        root=tmp_path,
    )
    accuracy.Accuracy().run(scored)
    scored.records.close()
    first = _context(model=model, root=tmp_path)
    FirstError().run(first)

    num_wrong = sum(not row.is_correct for row in scored.rows("predictions"))
    assert len(first.rows("breakpoints")) == first.notes["wrong"] == num_wrong
    assert _num_texts(scored) == len(QUESTIONS) + 3 * num_wrong
    monkeypatch.setattr("kpod.stages._lm.speaking.load_lm", None)
    again = _context(model=model, root=tmp_path)
    FirstError().run(again)
    assert again.outputs == first.outputs


def test_precision_is_resolved_by_machine_and_width() -> None:
    machine = Capability(device="cpu", has_fast_bf16=True, memory_b=1, num_cpus=1, machine="x86_64")

    assert FirstError.resolve(Config(), machine, {"models": tiny_model()}).precision == "fp32"
