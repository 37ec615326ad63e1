"""evaluate.accuracy: examples shown to models that were not trained with a prompt."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Question, SettingError, StageError
from kpod.stages._lm.artifact import read_spec, write_spec
from kpod.stages._lm.examples import Example
from kpod.stages._lm.loading import tokenizer_of_folder
from kpod.stages._lm.prompts import PromptConfig, prompt_text
from kpod.stages.evaluate.accuracy import Accuracy, Config
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

EXAMPLE = Example(question="Anna has 1 pen", rationale="1 + 0 = 1. Therefore, the answer is 1")
CHAT = (
    "{% for m in messages %}<im>{{ m.role }}: {{ m.content }}</im>{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant: {% endif %}"
)


def _question(text: str) -> Question:
    return Question.make(text, kind="numeric", answer="5", split="test", source="test")


QUESTIONS = [_question(f"Tom has {number} apples") for number in range(3, 7)]


def _context(folder: Path, root: Path, **settings: Any) -> FakeContext[Config]:
    config = Config(**{"max_new_tokens": 8, "precision": "fp32", **settings})
    return FakeContext(
        config=config, inputs={"questions": QUESTIONS}, models={"models": folder}, root=root
    )


def test_examples_stand_before_the_question_as_the_prompt_writes_them() -> None:
    text = prompt_text(
        tokenizer_of_folder(tiny_model()),
        PromptConfig().resolve(),
        QUESTIONS[0],
        examples=[EXAMPLE],
    )

    assert text == (
        "Q: Anna has 1 pen A: Let's think step by step. 1 + 0 = 1. Therefore, the answer is 1\n\n"
        "Q: Tom has 3 apples A: Let's think step by step."
    )


def test_examples_are_turns_of_a_chat(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "chat"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHAT}))
    prompt = PromptConfig(format="chat", system="Be brief.").resolve()

    text = prompt_text(tokenizer_of_folder(folder), prompt, QUESTIONS[0], examples=[EXAMPLE])

    assert text == (
        "<im>system: Be brief.</im>"
        "<im>user: Anna has 1 pen\nLet's think step by step.</im>"
        "<im>assistant: 1 + 0 = 1. Therefore, the answer is 1</im>"
        "<im>user: Tom has 3 apples\nLet's think step by step.</im><im>assistant: "
    )


def test_a_base_model_is_shown_them_and_a_trained_one_is_not(tmp_path: Path) -> None:
    student = Path(shutil.copytree(tiny_model(), tmp_path / "student"))
    own = PromptConfig().resolve()
    write_spec(student, replace(read_spec(student), prompt=own.to_json()))
    found = {}
    for name, folder in (("base", tiny_model()), ("student", student)):
        for examples in ((), (EXAMPLE,)):
            ctx = _context(folder, tmp_path / f"{name}{len(examples)}", base_examples=examples)
            Accuracy().run(ctx)
            found[name, len(examples)] = [row.text for row in ctx.rows("predictions")]

    assert found["student", 0] == found["student", 1] == found["base", 0]
    assert found["base", 1] != found["base", 0]


def test_a_base_models_text_ends_before_a_stop_text(tmp_path: Path) -> None:
    whole = _context(tiny_model(), tmp_path / "whole")
    Accuracy().run(whole)
    stop = whole.rows("predictions")[0].text.split()[2]
    cut = _context(tiny_model(), tmp_path / "cut", base_stop=(stop,))
    Accuracy().run(cut)

    texts = [row.text for row in whole.rows("predictions")]
    assert [row.text for row in cut.rows("predictions")] == [
        text.partition(stop)[0] for text in texts
    ]
    with pytest.raises(SettingError, match="base_stop: holds an empty text"):
        Config(base_stop=("",))


def test_an_example_that_is_one_of_the_questions_is_refused(tmp_path: Path) -> None:
    shown = Example(question="tom has  4 Apples", rationale="4. Therefore, the answer is 4")

    with pytest.raises(
        StageError,
        match=f"base_examples: example 2 is question {QUESTIONS[1].id} of the questions asked: 'Tom has 4 apples'",
    ):
        Accuracy().run(_context(tiny_model(), tmp_path, base_examples=(EXAMPLE, shown)))


def test_examples_are_told_for_the_check_against_training_data() -> None:
    assert Accuracy.shown(Config(base_examples=(EXAMPLE,))) == ("Anna has 1 pen",)
