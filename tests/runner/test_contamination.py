"""Training questions and examples that are test questions too: told before a teacher is asked; look-alikes are counted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Context, Question, StageError
from kpod.runner.contamination import folded_text, masked_text, match_questions
from kpod.runner.document import dump
from kpod.runner.session import RunOptions, Session


def question(text: str, **changes: Any) -> Question:
    facts = {"kind": "numeric", "answer": "1", "split": "train", "source": "test", **changes}
    return Question.make(text, **facts)


@dataclass(kw_only=True)
class School:
    """A recipe with two sets of questions, a recorded teacher, and an evaluation of an untaught model."""

    folder: Path
    train: Sequence[str] = ("Ann has 3 apples. How many?", "Bob eats 2 plums. How many?")
    test: Sequence[str] = ("Cid has 1 pear. How many?",)
    stages: Mapping[str, Any] = field(default_factory=dict)

    def session(self) -> Session:
        for name, texts in (("train", self.train), ("far", self.test)):
            rows = ({"question": text, "answer": "1"} for text in texts)
            (self.folder / f"{name}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
            )
        (self.folder / "words.txt").write_text("apples\n", encoding="utf-8")
        rows = ({"question": text, "rationale": "It is 1."} for text in self.train)
        (self.folder / "said.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        plain = {
            "kpod": 1,
            "name": "school",
            "stages": {
                "questions": {
                    "uses": "data.table",
                    "with": {"train": "train.jsonl", "validation_frac": 0},
                },
                "far": {"uses": "data.table", "with": {"test": "far.jsonl", "validation_frac": 0}},
                "rationales": {
                    "uses": "teacher.recorded",
                    "in": {"questions": "questions.train"},
                    "with": {"path": "said.jsonl"},
                },
                "words": {
                    "uses": "model.from_config",
                    "in": {},
                    "with": {"words": "words.txt", "width": 16, "layers": 1, "heads": 2},
                },
                "scores": {
                    "uses": "evaluate.accuracy",
                    "in": {"models": ["words"], "questions": "far.test"},
                    "with": {"max_new_tokens": 1},
                },
                **self.stages,
            },
        }
        path = self.folder / "recipe.yaml"
        path.write_text(dump(plain), encoding="utf-8")
        return Session(path, RunOptions(runs=self.folder / "runs"))

    def run(self) -> list[dict[str, Any]]:
        """The events of a run."""
        rows: list[dict[str, Any]] = []
        session = self.session()
        try:
            session.run([rows.append])
        finally:
            session.store.close()
        return rows

    def refused(self) -> tuple[str, list[str]]:
        """What the error says, and the stages that had finished."""
        rows: list[dict[str, Any]] = []
        session = self.session()
        try:
            with pytest.raises(StageError, match="test question") as caught:
                session.run([rows.append])
        finally:
            session.store.close()
        return str(caught.value), [row["id"] for row in rows if row["event"] == "stage_finished"]


def test_a_training_question_that_is_a_test_question_is_told_before_the_teacher_is_asked(
    tmp_path: Path,
) -> None:
    texts = [f"Ann has {word}. How many?" for word in ("apples", "plums", "pears", "figs")]
    school = School(folder=tmp_path, train=[*texts, "Bob?"], test=[*texts, "Cid?"])
    said, finished = school.refused()

    assert "rationales" not in finished
    first = question(texts[0])
    assert said.startswith(
        "4 of the 5 test questions of far.test (data.table, read by scores) are training questions of questions.train"
        " (data.table, read by rationales):\n"
        f"  {first.id} 'Ann has apples. How many?'\n"
    )
    assert "  and 1 more\n" in said
    assert "set `limit` in questions or far, or take the rows out of one of their files" in said


def test_contamination_is_told_again_where_everything_is_stored(tmp_path: Path) -> None:
    school = School(folder=tmp_path, test=["Bob eats 2 plums. How many?"])

    assert school.refused()[0] == school.refused()[0]


def test_an_example_in_a_prompt_that_is_a_test_question_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kpod.stages.teacher.recorded import Recorded

    shown = classmethod(lambda _cls, _config: ("Who?", "CID has  1 pear. How many?"))
    monkeypatch.setattr(Recorded, "shown", shown, raising=False)
    said, finished = School(folder=tmp_path).refused()

    assert "rationales" not in finished
    assert said.startswith(
        "the prompt of rationales shows an example that is a test question of far.test, read by scores:\n"
        f"  {question('Cid has 1 pear. How many?').id} 'CID has  1 pear. How many?'\n"
    )


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is made and none is asked."""
    from kpod.stages.evaluate.accuracy import Accuracy
    from kpod.stages.model.from_config import FromConfig

    def make(self: FromConfig, ctx: Context[Any]) -> None:
        with ctx.folder(self.model) as folder:
            (folder / "model.json").write_text("{}", encoding="utf-8")

    def ask(self: Accuracy, ctx: Context[Any]) -> None:
        with ctx.write(self.predictions), ctx.write(self.metrics):
            pass

    monkeypatch.setattr(FromConfig, "run", make)
    monkeypatch.setattr(Accuracy, "run", ask)
    monkeypatch.setattr(Accuracy, "resolve", classmethod(lambda _cls, config, *_: config))


def test_look_alikes_are_counted_and_no_question_is_read_again_where_nothing_is_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    school = School(folder=tmp_path, test=["ann has 1,000 apples.  How many?", "Dan?"])
    (told,) = [row for row in school.run() if row["event"] == "contamination_checked"]

    def facts(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in {"at", "event"}}

    expected = {"train": "questions.train", "test": "far.test", "num_train": 2, "num_test": 2, "num_masked": 1}  # fmt: skip
    assert facts(told) == expected

    def refuse(*_: object) -> None:
        raise AssertionError("questions were read")

    monkeypatch.setattr("kpod.runner.contamination._compared", refuse)
    (again,) = [row for row in school.run() if row["event"] == "contamination_checked"]
    assert facts(again) == expected


def test_numbers_case_and_white_space_do_not_count() -> None:
    same = ["Ann has 3 apples.", "ann  has 1,250.75 APPLES.", "Ann\nhas 17 apples."]

    assert {masked_text(question(text)) for text in same} == {"ann has # apples."}
    assert masked_text(question("Ann has three apples.")) != "ann has # apples."


def test_choices_count() -> None:
    def one(*choices: str) -> Question:
        return question("Where?", kind="choice", answer="A", choices=choices)

    found = match_questions([one("bank", "sea")], [one("bank", "sky"), one("Bank", "sea")])
    assert found.exact == frozenset()
    assert found.masked == {one("Bank", "sea").id}


_TEXTS = st.lists(st.sampled_from(["ann 1", "Ann 2", "ann  2", "bob 3", "bob", "cid 4 5", "Cid 4 6"]), max_size=8)  # fmt: skip


@given(_TEXTS, _TEXTS)
def test_matches_are_those_of_comparing_each_with_each(train: list[str], test: list[str]) -> None:
    left, right = [question(text) for text in train], [question(text) for text in test]
    found = match_questions(left, right)

    assert found.exact == {q.id for q in right if any(q.id == each.id for each in left)}
    assert found.masked == {
        q.id for q in right if any(masked_text(q) == masked_text(each) for each in left)
    }
    assert found.exact <= found.masked


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    once = folded_text(text)
    assert folded_text(" ".join(once.split())) == once or once != once.casefold()


@pytest.mark.slow
def test_a_hundred_thousand_questions_take_seconds() -> None:
    def many(name: str) -> list[Question]:
        return [question(f"{name} has {i} apples and buys {i % 97} more. How many has {name} then, and why so? " * 2) for i in range(100_000)]  # fmt: skip

    train, test = many("Ann"), many("Bob")
    start_s = time.process_time()
    found = match_questions(train, test[:2_000])

    assert not found.masked
    assert time.process_time() - start_s < 10
