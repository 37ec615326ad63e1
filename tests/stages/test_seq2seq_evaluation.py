"""Evaluation and teaching by a model with an encoder: what it reads, what it says, what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kpod.runner import Question
from kpod.stages._lm.artifact import ModelFiles, read_spec, write_spec
from kpod.stages._lm.loading import load_lm, load_tokenizer
from kpod.stages._lm.prompts import (
    PromptConfig,
    encode_prompt,
    encoder_ids,
    model_inputs,
    question_text,
)
from kpod.stages.evaluate.accuracy import Accuracy, Config
from kpod.stages.teacher import local
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model

QUESTIONS = [
    Question.make(text, kind="numeric", answer="3", split="test", source="made")
    for text in (
        "Tom has 3 apples. How many apples does Tom have?",
        "Anna has 12 pens and gets 7 more pens. How many pens does she have now?",
        "There are 4 boxes.",
    )
]
END = 2


def _evaluated(
    model: Path, *, root: Path, questions: Sequence[Question] = QUESTIONS
) -> FakeContext[Config]:
    ctx = FakeContext(
        config=Config(max_new_tokens=12, precision="fp32"),
        inputs={"questions": questions},
        models={"models": model},
        root=root,
    )
    Accuracy().run(ctx)
    return ctx


def _greedy(files: ModelFiles, ids: Sequence[int]) -> str:
    """What transformers itself says."""
    model: Any = load_lm(files, precision="fp32", device="cpu")
    said = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=12, do_sample=False)
    text: str = load_tokenizer(files).decode(said[0], skip_special_tokens=True)
    return text


def _student(tmp_path: Path) -> tuple[Path, ModelFiles]:
    """The tiny T5 as a student with an adapter of its own: its folder, and its files."""
    from peft import LoraConfig, get_peft_model

    base, folder = tiny_files("t5"), tmp_path / "student"
    config = LoraConfig(
        r=4, target_modules=["q", "v", "o"], task_type="SEQ_2_SEQ_LM", init_lora_weights=False
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapted = get_peft_model(load_lm(base, precision="fp32", device="cpu"), config)
    adapted.save_pretrained(str(folder))
    prompt = PromptConfig(name="answer_only").resolve().to_json()
    write_spec(folder, replace(base.spec, files={}, base="the-base", prompt=prompt))
    return folder, base._replace(adapter=folder, spec=read_spec(folder))


def test_the_encoder_reads_the_prompt_and_one_end_token() -> None:
    tokenizer = load_tokenizer(tiny_files("t5"))
    prompt = PromptConfig().resolve()

    sent = model_inputs(tokenizer, prompt, QUESTIONS, family="seq2seq")
    continued = model_inputs(tokenizer, prompt, QUESTIONS, family="causal")

    assert continued == [encode_prompt(tokenizer, prompt, question) for question in QUESTIONS]
    assert sent == [[*ids, END] for ids in continued]
    assert encoder_ids(tokenizer, ()) == [END]


def test_statement_28_a_seq2seq_model_is_asked_with_the_template_it_was_trained_with(
    tmp_path: Path,
) -> None:
    folder, files = _student(tmp_path)
    ctx = FakeContext(
        config=Config(max_new_tokens=12, precision="fp32"),
        inputs={"questions": QUESTIONS},
        models={"models": folder},
        artifacts={"the-base": tiny_model("t5")},
        root=tmp_path / "run",
    )
    Accuracy().run(ctx)

    tokenizer = load_tokenizer(files)
    expected = [
        _greedy(
            files, tokenizer(f"Q: {question.text} A: Therefore, the answer is")["input_ids"] + [END]
        )
        for question in QUESTIONS
    ]
    assert [row.text for row in ctx.rows("predictions")] == expected
    assert len(set(expected)) > 1


def test_a_seq2seq_model_is_evaluated_from_its_start_token_to_its_end_token(
    tmp_path: Path,
) -> None:
    ctx = _evaluated(tiny_model("t5"), root=tmp_path)

    tokenizer = load_tokenizer(tiny_files("t5"))
    prompt = PromptConfig().resolve()
    expected = [
        _greedy(tiny_files("t5"), [*encode_prompt(tokenizer, prompt, question), END])
        for question in QUESTIONS
    ]
    assert [row.text for row in ctx.rows("predictions")] == expected
    assert [row.question_id for row in ctx.rows("predictions")] == [q.id for q in QUESTIONS]
    (metric,) = ctx.rows("metrics")
    assert (metric.n, metric.num_correct) == (3, sum(r.is_correct for r in ctx.rows("predictions")))
    assert ctx.notes["summary"].startswith("accuracy ")


def test_a_second_evaluation_reads_stored_texts(tmp_path: Path, monkeypatch: Any) -> None:
    first = _evaluated(tiny_model("t5"), root=tmp_path)
    monkeypatch.setattr("kpod.stages._lm.speaking.load_lm", None)

    second = _evaluated(tiny_model("t5"), root=tmp_path, questions=QUESTIONS[::-1])

    assert second.rows("predictions") == first.rows("predictions")[::-1]


def test_lettered_choices_stand_on_one_line_of_what_t5_reads() -> None:
    question = Question.make(
        "Tom has",
        kind="choice",
        answer="B",
        choices=("apples", "pens"),
        split="test",
        source="made",
    )
    tokenizer = load_tokenizer(tiny_files("t5"))

    lines, line = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (question_text(question), question_text(question).replace("\n", " "))
    )

    assert "\n" in question_text(question)
    assert lines == line


def test_a_seq2seq_teacher_writes_rationales(tmp_path: Path) -> None:
    config = local.Config(max_new_tokens=12, precision="fp32", samples=2, temperature=1.0, seed=1)
    ctx = FakeContext(
        config=config, inputs={"questions": QUESTIONS}, models={"model": tiny_model("t5")}, seed=1, root=tmp_path
    )  # fmt: skip
    local.Local().run(ctx)

    rows = ctx.rows("rationales")
    assert sum(row.count for row in rows) == 2 * len(QUESTIONS)
    assert {row.question_id for row in rows} == {question.id for question in QUESTIONS}
