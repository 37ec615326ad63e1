"""teacher.local: prompts, samples, counts, precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Interrupted, Question, SettingError, StageError, Usage
from kpod.runner.capability import Capability
from kpod.runner.texts import GeneratedText
from kpod.stages._lm.loading import tokenizer_of_folder
from kpod.stages.teacher._prompt import Ask, asks
from kpod.stages.teacher._rationales import rationales_of
from kpod.stages.teacher._reading import read_texts
from kpod.stages.teacher.local import Config, Local, TeacherPrompt
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

# What Qwen3's template does, in short: turns between marks, and an empty think block when thinking is off.
CHAT = (
    "{% for m in messages %}<im>{{ m.role }}: {{ m.content }}</im>{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant: "
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
CONFIG = Config(
    max_new_tokens=12, precision="fp32", prompt=TeacherPrompt(template="Q: {question} A:")
)


def _question(text: str, **facts: Any) -> Question:
    return Question.make(
        text, **{"kind": "numeric", "answer": "5", "split": "train", "source": "test", **facts}
    )


QUESTIONS = [_question(f"Tom has {number} apples") for number in range(3, 9)]


def _plain(questions: Sequence[Question]) -> list[Ask]:
    return [Ask(question, question.text, False) for question in questions]


def _context(config: Config, root: Path | None = None, **settings: Any) -> FakeContext[Config]:
    return FakeContext(
        config=config,
        inputs={"questions": QUESTIONS},
        models={"model": tiny_model()},
        seed=config.seed,
        root=root,
        **settings,
    )


def _chat_model(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "chat"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHAT}))
    return folder


def test_every_question_gets_a_rationale_with_its_usage() -> None:
    ctx = _context(CONFIG)
    Local().run(ctx)

    rows = ctx.rows("rationales")
    assert [row.question_id for row in rows] == [question.id for question in QUESTIONS]
    assert {row.teacher for row in rows} == {ctx.digest(Local.model)[:16]}
    assert rows[0].usage == Usage(prompt_tokens=6, completion_tokens=12)
    assert rows[0].finish == "length"
    assert all(row.answer is None and row.verdict is None for row in rows)
    assert ctx.notes["completion_tokens"] == sum(row.usage.completion_tokens for row in rows)
    assert (
        ctx.notes["summary"]
        == "6 rationales for 6 questions, 6 cut at 12 tokens; 72 tokens written"
    )


def test_batches_change_no_rationale() -> None:
    found = []
    for batch_tokens in (1, 50, 5000):
        ctx = _context(replace(CONFIG, batch_tokens=batch_tokens))
        Local().run(ctx)
        found.append(ctx.rows("rationales"))

    assert found[0] == found[1] == found[2]


def test_samples_follow_the_seed() -> None:
    found = []
    for seed in (0, 0, 1):
        ctx = _context(replace(CONFIG, samples=2, temperature=1.0, seed=seed))
        Local().run(ctx)
        found.append(ctx.rows("rationales"))

    assert found[0] == found[1] != found[2]
    assert sum(row.count for row in found[0]) == 2 * len(QUESTIONS)


def test_more_samples_keep_those_that_are_there(tmp_path: Path) -> None:
    few, more = (_context(replace(CONFIG, samples=n, temperature=1.0), tmp_path) for n in (2, 3))
    Local().run(few)
    num_stored = few.records.count()
    Local().run(more)

    assert {row.id for row in few.rows("rationales")} <= {row.id for row in more.rows("rationales")}
    assert more.records.count() == num_stored + len(QUESTIONS)


def test_an_interrupted_teacher_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpod.stages._lm.speaking._TELL_EVERY_S", 0.0)
    stopped = _context(replace(CONFIG, batch_tokens=1), tmp_path, stop_at=40)
    with pytest.raises(Interrupted, match="interrupted by the test"):
        Local().run(stopped)
    num_kept = stopped.records.count()
    again, undisturbed = _context(CONFIG, tmp_path), _context(CONFIG)
    Local().run(again)
    Local().run(undisturbed)

    assert "rationales" not in stopped.outputs
    # 12 tokens a text, one at a time: three texts had ended at step 39.
    assert num_kept == 3
    assert again.rows("rationales") == undisturbed.rows("rationales")


def test_identical_samples_of_a_question_are_one_rationale_with_their_count() -> None:
    texts = [
        GeneratedText(text=text, finish="stop", prompt_tokens=3, completion_tokens=2)
        for text in ("a b", " a b\n", "c", "a b", "a b", "a b")
    ]

    found = rationales_of(_plain(QUESTIONS[:2]), texts, samples=3, teacher="t")

    assert [(row.question_id, row.text, row.count) for row in found] == [
        (QUESTIONS[0].id, "a b", 2), (QUESTIONS[0].id, "c", 1), (QUESTIONS[1].id, "a b", 3),
    ]  # fmt: skip


def test_the_usage_of_a_rationale_is_that_of_all_its_samples() -> None:
    texts = [
        GeneratedText(text=text, finish="stop", prompt_tokens=3, completion_tokens=number)
        for text, number in (("a b", 2), ("a b\n", 4), ("c", 5))
    ]

    found = rationales_of(_plain(QUESTIONS[:1]), texts, samples=3, teacher="t")

    assert [row.usage for row in found] == [
        Usage(prompt_tokens=6, completion_tokens=6),
        Usage(prompt_tokens=3, completion_tokens=5),
    ]


def test_auto_asks_in_a_chat_where_there_is_a_template_with_thinking_off(tmp_path: Path) -> None:
    plain, chat = tokenizer_of_folder(tiny_model()), tokenizer_of_folder(_chat_model(tmp_path))
    config = TeacherPrompt(template="Solve: {question}")

    found = [
        read_texts(tokenizer, config, asks(config, QUESTIONS[:1], solved=None))[0]
        for tokenizer in (plain, chat)
    ]

    assert found == [
        "Solve: Tom has 3 apples",
        "<im>user: Solve: Tom has 3 apples</im><im>assistant: <think></think>",
    ]


def test_a_choice_question_brings_its_choices_and_the_default_asks_for_steps_and_a_last_line() -> (
    None
):
    question = _question("What is wet?", kind="choice", answer="B", choices=("fire", "water"))
    tokenizer = tokenizer_of_folder(tiny_model())

    (text,) = read_texts(tokenizer, TeacherPrompt(), asks(TeacherPrompt(), [question], solved=None))

    assert text == (
        "What is wet?\nAnswer Choices:\nA. fire\nB. water\n\n"
        "Think step by step: one short step a line, with its arithmetic. "
        "End with a last line of the form: The answer is N."
    )


def test_a_system_message_without_a_chat_template_is_refused() -> None:
    tokenizer = tokenizer_of_folder(tiny_model())

    with pytest.raises(StageError, match="the teacher's tokenizer has no chat template to take it"):
        read_texts(tokenizer, TeacherPrompt(system="Be brief."), _plain(QUESTIONS[:1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"samples": 2},
            "samples: got 2 at temperature 0, where all samples are the same text; set a temperature",
        ),
        ({"stop": ("",)}, "stop: holds an empty text"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        Config(**settings)


def test_a_prompt_needs_the_question_once() -> None:
    with pytest.raises(
        SettingError, match=r"template: has \{question\} 0 times; write it exactly once"
    ):
        TeacherPrompt(template="Solve it.")
    with pytest.raises(
        SettingError, match="system: has no effect in a plain prompt; set format: chat"
    ):
        TeacherPrompt(format="plain", system="Be brief.")


def test_only_sampling_reads_the_seed() -> None:
    assert [Local.is_seeded(Config()), Local.is_seeded(Config(temperature=0.7))] == [False, True]


def test_precision_is_resolved_by_machine_and_width() -> None:
    slow = Capability(device="cpu", has_fast_bf16=False, memory_b=1, num_cpus=1, machine="x86_64")
    fast = replace(slow, device="cuda", has_fast_bf16=True)
    models = {"model": tiny_model()}

    found = [Local.resolve(Config(), machine, models).precision for machine in (slow, fast)]

    assert found == ["fp32", "bf16"]
    assert Local.resolve(Config(precision="bf16"), slow, models).precision == "bf16"
