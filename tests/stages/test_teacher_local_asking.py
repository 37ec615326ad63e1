"""teacher.local: examples, hints, thoughts, forecasts, and questions that hold what they should not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Forecasting, Question, Rationale, SettingError, StageError
from kpod.stages._lm.loading import tokenizer_of_folder
from kpod.stages.teacher._prompt import Example, asks
from kpod.stages.teacher._reading import read_ids, read_texts, reply_end_id
from kpod.stages.teacher.local import Config, Local, TeacherPrompt
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

# What Qwen3's template does, in short: turns between marks, and an empty think block when thinking is off.
CHAT = (
    "{% for m in messages %}<im>{{ m.role }}: {{ m.content }}</im>{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant: "
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
EXAMPLES = (
    Example(question="Anna has 1 pen", rationale="1 + 0 = 1. The answer is 1."),
    Example(question="Anna has 2 pens", rationale="2 + 0 = 2. The answer is 2."),
)
PLAIN = TeacherPrompt(template="Q: {question} A:", examples=EXAMPLES)


def _question(text: str, **facts: Any) -> Question:
    return Question.make(
        text, **{"kind": "numeric", "answer": "5", "split": "train", "source": "test", **facts}
    )


QUESTIONS = [_question(f"Tom has {number} apples") for number in range(3, 9)]


def _context(
    prompt: TeacherPrompt = PLAIN,
    *,
    questions: list[Question] = QUESTIONS,
    solved: list[Rationale] | None = None,
    root: Path | None = None,
    architecture: Any = "qwen3",
    **settings: Any,
) -> FakeContext[Config]:
    inputs: dict[str, Any] = {"questions": questions}
    if solved is not None:
        inputs["solved"] = solved
    config = Config(**{"max_new_tokens": 8, "precision": "fp32", "prompt": prompt, **settings})
    models = {"model": tiny_model(architecture)}
    return FakeContext(config=config, inputs=inputs, models=models, root=root)


def _chat_tokenizer(tmp_path: Path) -> Any:
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "chat"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHAT}))
    return tokenizer_of_folder(folder)


def test_examples_of_a_plain_prompt_are_text_before_the_question() -> None:
    tokenizer = tokenizer_of_folder(tiny_model())

    (text,) = read_texts(tokenizer, PLAIN, asks(PLAIN, QUESTIONS[:1], solved=None))

    assert text == (
        "Q: Anna has 1 pen A: 1 + 0 = 1. The answer is 1.\n\n"
        "Q: Anna has 2 pens A: 2 + 0 = 2. The answer is 2.\n\n"
        "Q: Tom has 3 apples A:"
    )


def test_the_white_space_at_a_templates_end_stands_before_an_examples_rationale() -> None:
    tokenizer = tokenizer_of_folder(tiny_model())
    prompt = TeacherPrompt(template="{question}\nAnswer:\n", examples=EXAMPLES[:1])

    (text,) = read_texts(tokenizer, prompt, asks(prompt, QUESTIONS[:1], solved=None))

    assert text == (
        "Anna has 1 pen\nAnswer:\n1 + 0 = 1. The answer is 1.\n\nTom has 3 apples\nAnswer:"
    )


def test_examples_of_a_chat_are_turns_and_thinking_is_switched(tmp_path: Path) -> None:
    tokenizer = _chat_tokenizer(tmp_path)
    found = {}
    for thinking in ("off", "on", "keep"):
        prompt = TeacherPrompt(template="{question}", examples=EXAMPLES[:1], thinking=thinking)  # type: ignore[arg-type]
        (found[thinking],) = read_texts(tokenizer, prompt, asks(prompt, QUESTIONS[:1], solved=None))

    open_turn = (
        "<im>user: Anna has 1 pen</im><im>assistant: 1 + 0 = 1. The answer is 1.</im>"
        "<im>user: Tom has 3 apples</im><im>assistant: "
    )
    assert found == {
        "off": open_turn + "<think></think>",
        "on": open_turn,
        "keep": open_turn,
    }


def test_the_end_of_a_reply_is_found_with_and_without_a_template(tmp_path: Path) -> None:
    plain, chat = tokenizer_of_folder(tiny_model()), _chat_tokenizer(tmp_path)

    assert reply_end_id(plain, TeacherPrompt()) == plain.eos_token_id
    assert isinstance(reply_end_id(chat, TeacherPrompt(thinking="on")), int)


def test_only_unsolved_questions_are_asked_and_their_rationales_are_marked() -> None:
    solved = [Rationale.make(one.id, "x", teacher="t", verdict="correct") for one in QUESTIONS[1:]]
    ctx = _context(solved=solved)
    Local().run(ctx)

    (row,) = ctx.rows("rationales")
    assert row.question_id == QUESTIONS[0].id
    assert row.teacher == ctx.digest(Local.model)[:16] + "+hint"
    assert ctx.notes["summary"].startswith("1 rationales for 1 questions")


def test_a_hinted_question_is_another_text_than_the_plain_one(tmp_path: Path) -> None:
    first, hinted = _context(root=tmp_path), _context(solved=[], root=tmp_path)
    Local().run(first)
    Local().run(hinted)

    assert hinted.notes["saved"] == {"texts": 0, "tokens": 0}
    assert hinted.records.count() == 2 * len(QUESTIONS)


def test_what_was_found_stored_is_told(tmp_path: Path) -> None:
    first = _context(root=tmp_path, questions=QUESTIONS[:4])
    Local().run(first)
    again = _context(root=tmp_path)
    Local().run(again)

    cost = first.notes["prompt_tokens"] + first.notes["completion_tokens"]
    assert first.notes["saved"] == {"texts": 0, "tokens": 0}
    assert again.notes["saved"] == {"texts": 4, "tokens": cost}
    assert again.notes["refused"] == 0


def test_a_forecast_counts_texts_and_costs_nothing() -> None:
    stage = Local()
    solved = [Rationale.make(QUESTIONS[0].id, "x", teacher="t", verdict="correct")]
    ctx = _context(solved=solved, samples=3, temperature=0.5)

    assert isinstance(stage, Forecasting)
    found = stage.forecast(ctx)

    assert (found.num_texts, found.num_stored, found.usd) == (15, None, None)
    assert found.basis == "written on this machine"


def test_examples_are_shown_for_the_check_against_test_questions() -> None:
    assert Local.shown(Config(prompt=PLAIN)) == ("Anna has 1 pen", "Anna has 2 pens")
    assert Local.shown(Config()) == ()


def test_a_prompt_longer_than_the_context_is_refused_by_question() -> None:
    long = _question("Tom has " + "3 apples and " * 150)

    with pytest.raises(
        StageError, match=f"question {long.id}: its prompt has .* context holds 256"
    ):
        Local().run(_context(questions=[*QUESTIONS, long]))


def test_a_question_that_holds_the_stop_text_gets_a_whole_text() -> None:
    question = _question("Tom says Q: and then STOP has 3 apples")
    ctx = _context(questions=[question], stop=("STOP",))
    Local().run(ctx)

    (row,) = ctx.rows("rationales")
    assert row.usage.completion_tokens == 8
    assert row.text


@pytest.mark.parametrize(
    "text",
    [
        "Żółć 数学 🍎🍎 مرحبا",
        "a\x00b\x07c\x1b[31m",
        "zero\u200bwidth \u2028 line",
        "{answer} {question} {x}",
    ],
)
def test_any_text_is_asked_as_it_is(text: str) -> None:
    question = _question(text)
    ctx = _context(questions=[question])
    Local().run(ctx)

    tokenizer = tokenizer_of_folder(tiny_model())
    (sent,) = read_texts(tokenizer, PLAIN, asks(PLAIN, [question], solved=None))
    assert sent.endswith(f"\n\nQ: {question.text} A:")
    assert [row.question_id for row in ctx.rows("rationales")] == [question.id]


def test_a_template_without_a_question_is_refused() -> None:
    with pytest.raises(SettingError, match=r"template: has \{question\} 0 times"):
        TeacherPrompt(template="Solve it.", examples=EXAMPLES)


def test_an_encoder_reads_the_examples_and_one_end_token() -> None:
    tokenizer = tokenizer_of_folder(tiny_model("t5"))

    (ids,) = read_ids(tokenizer, PLAIN, asks(PLAIN, QUESTIONS[:1], solved=None), family="seq2seq")

    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_other_architectures_are_asked_with_examples(architecture: str) -> None:
    ctx = _context(architecture=architecture)
    Local().run(ctx)

    assert len(ctx.rows("rationales")) == len(QUESTIONS)
