"""Mistakes of earlier pipelines (KPOD.md section 8) that belong to no single stage; the others stand beside their stages."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpod.runner import Question, Rationale, StageError
from kpod.runner.registry import find_stage
from kpod.stages._lm.answers import extract, matches
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.encoding import encode_examples
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.prompts import Prompt, PromptConfig, encode_prompt, prompt_text
from kpod.stages._lm.statistics import wilson_interval
from kpod.stages.student._adapter import Lora
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from kpod.stages.teacher.local import Config as TeacherConfig
from kpod.stages.teacher.local import Local
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model

ROOT = Path(__file__).resolve().parents[2]
STAGE_FILES = sorted((ROOT / "stages").rglob("*.py"))


def question(
    text: str = "Tom has 3 apples. How many?", answer: str = "3", kind: Any = "numeric"
) -> Question:
    choices = ("a bank", "a park") if kind == "choice" else None
    return Question.make(
        text, kind=kind, answer=answer, choices=choices, split="train", source="test"
    )


def keywords_and_names() -> set[str]:
    """Every keyword argument that any stage passes on."""
    return {
        keyword.arg
        for path in STAGE_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg is not None
    }


def test_mistake_8_1_15_every_data_set_that_is_offered_can_be_asked_for_and_splits_are_disjoint() -> (
    None
):
    """ASDiv and SVAMP were offered and raised an error; validation was the first of test, or test a copy of it."""
    for name in ("gsm8k", "asdiv", "svamp", "commonsense_qa", "word_problems"):
        outputs = find_stage(f"data.{name}").outputs()  # type: ignore[union-attr]
        assert {output.role for output in outputs.values()} == {"train", "validation", "test"}

    from kpod.stages.data.word_problems import Config as Problems
    from kpod.stages.data.word_problems import WordProblems

    ctx = FakeContext(config=Problems(num_train=60, num_validation=30, num_test=30))
    WordProblems().run(ctx)
    ids = [{row.id for row in ctx.rows(split)} for split in ("train", "validation", "test")]
    assert [len(part) for part in ids] == [60, 30, 30]
    assert len(set.union(*ids)) == 120


def test_mistake_8_1_16_the_trained_prompt_is_the_evaluated_one() -> None:
    """Training said `Q: … A:`, evaluation added `Let's think step by step.`."""
    asked = question()
    rationale = Rationale.make(asked.id, "Tom has 3 apples.", teacher="reference")
    prompt = PromptConfig().resolve()
    sent = Prompt.from_json(json.loads(json.dumps(prompt.to_json())))
    tokenizer = load_tokenizer(tiny_files())
    (example,) = encode_examples(
        tokenizer, questions=[asked], rationales=[rationale], prompt=prompt, max_length=256
    ).examples

    assert list(example.prompt_ids) == encode_prompt(tokenizer, sent, asked)


def test_statement_28_the_template_is_the_papers_in_training_and_in_evaluation() -> None:
    asked = question("How many?")
    tokenizer = load_tokenizer(tiny_files())
    prompt = PromptConfig().resolve()

    assert prompt.template == (
        "Q: {question} A: Let's think step by step. {rationale} Therefore, the answer is {answer}"
    )
    assert prompt_text(tokenizer, prompt, asked) == "Q: How many? A: Let's think step by step."


@pytest.mark.parametrize(
    ("text", "gold", "kind"),
    [
        ("Therefore, the answer is $1,234.", "1234", "numeric"),
        ("Therefore, the answer is 18.0", "18", "numeric"),
        ("Therefore, the answer is 45 miles.", "45", "numeric"),
        ("Therefore, the answer is (B).", "B", "choice"),
        ("Therefore, the answer is B. a park", "B", "choice"),
    ],
)
def test_statement_30_scoring_reads_currency_commas_trailing_zeros_units_and_letters(
    text: str, gold: str, kind: Any
) -> None:
    """Mistake 8.1.16: the number pattern failed on commas and `$`."""
    asked = question(answer=gold, kind=kind)
    found = extract(text, asked.kind, asked.choices)

    assert matches(found, gold, asked.kind, asked.choices)


def test_statement_30_accuracy_comes_with_n_and_an_interval() -> None:
    interval = wilson_interval(308, 659)

    assert interval.low < 308 / 659 < interval.high
    assert interval.high - interval.low == pytest.approx(0.0759, abs=1e-3)


def test_mistake_8_2_02_the_prompt_is_no_target_and_one_end_token_is_even_where_it_is_the_pad_token() -> (
    None
):
    """The loss read the prompt, no end token was appended, and masking by pad would have hidden it."""
    tokenizer: Any = load_tokenizer(tiny_files())
    tokenizer.pad_token = tokenizer.eos_token
    asked = question()
    rationale = Rationale.make(asked.id, "Tom has 3 apples.", teacher="reference")
    (example,) = encode_examples(
        tokenizer, questions=[asked], rationales=[rationale], prompt=PromptConfig().resolve(), max_length=256
    ).examples  # fmt: skip
    passage = example.passage(1)

    assert passage.context_ids == example.prompt_ids
    assert passage.target_ids.count(tokenizer.eos_token_id) == 1
    assert passage.target_ids[-1] == tokenizer.eos_token_id
    assert passage.weights[-1] == 1.0


def test_mistake_8_2_03_no_stage_lets_a_library_place_layers_on_devices() -> None:
    """device_map="auto" is refused by accelerate in training on several processes: a whole model goes to one named device."""
    maps = [
        node.value
        for path in STAGE_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "device_map"
    ]
    assert maps
    for one in maps:
        assert isinstance(one, ast.Dict)
        assert [key.value for key in one.keys if isinstance(key, ast.Constant)] == [""]


def test_mistake_8_2_04_a_lora_target_that_matches_nothing_is_an_error_and_no_foreign_code_runs() -> (
    None
):
    asked = question()
    ctx = FakeContext(
        config=Config(lora=Lora(targets=("c_attn", "w1")), precision="fp32", micro_batch_tokens=4096, epochs=1),
        inputs={"questions": [asked], "rationales": [Rationale.make(asked.id, "Tom has 3.", teacher="x")]},
        models={"model": tiny_model()},
    )  # fmt: skip
    with pytest.raises(StageError, match=r"lora\.targets: c_attn, w1 are no linear layer"):
        CausalLm().run(ctx)

    trusting = [
        path.name
        for path in STAGE_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]  # fmt: skip
    assert trusting == []


def test_mistake_8_2_05_no_four_bit_type_is_chosen_in_silence() -> None:
    """load_in_4bit alone meant FP4 that computes in fp32: where it is asked for, its type and what it computes in are said too."""
    schema = json.loads((ROOT / "schemas" / "student.causal_lm.schema.json").read_text())
    offered = schema["properties"]["precision"]["enum"]
    assert offered == ["auto", "fp32", "bf16", "nf4", "nf4_double", "int8"]

    asked = [
        {keyword.arg for keyword in node.keywords}
        for path in STAGE_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    four_bit = [names for names in asked if "load_in_4bit" in names]
    assert four_bit
    assert all({"bnb_4bit_quant_type", "bnb_4bit_compute_dtype"} <= names for names in four_bit)


def test_mistake_8_2_06_a_second_run_of_a_teacher_adds_no_row(tmp_path: Path) -> None:
    """A file opened for appending held every rationale twice after the second run."""
    questions = [question(f"Tom has {number} apples") for number in range(3, 6)]
    found = []
    for _ in range(2):
        ctx = FakeContext(
            config=TeacherConfig(max_new_tokens=6, precision="fp32"), inputs={"questions": questions},
            models={"model": tiny_model()}, root=tmp_path,
        )  # fmt: skip
        Local().run(ctx)
        found.append(ctx.rows("rationales"))

    assert found[0] == found[1]
    assert len(found[1]) == 3


def test_mistake_8_2_07_greedy_is_greedy() -> None:
    """A chat teacher was given a temperature with sampling off (its chat template: test_teacher_local)."""
    assert Decoding(max_new_tokens=8).is_greedy
    with pytest.raises(Exception, match="temperature"):
        TeacherConfig(samples=2, temperature=0.0)


def test_mistake_8_2_08_wrong_rationales_do_not_reach_a_student() -> None:
    from kpod.stages.filter.verified import Config as Filter
    from kpod.stages.filter.verified import Verified

    asked = question(answer="5")
    right, wrong = (
        Rationale.make(asked.id, f"Tom has 2 + {n} = {2 + n} apples.", teacher="t") for n in (3, 4)
    )
    ctx = FakeContext(config=Filter(), inputs={"questions": [asked], "rationales": [right, wrong]})
    Verified().run(ctx)

    assert [row.text for row in ctx.rows("verified")] == [right.text]


def test_mistake_8_2_10_a_training_question_never_is_a_test_question(tmp_path: Path) -> None:
    """The generator took the test set from the training list."""
    from kpod.stages.data.table import Config as Table
    from kpod.stages.data.table import Table as TableStage

    rows = [{"question": f"How many are {n}?", "answer": str(n)} for n in range(4)]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl")}
    ctx = FakeContext(
        config=Table(**settings, validation_frac=0.0), sources={name: Path(path) for name, path in settings.items()}
    )  # fmt: skip

    with pytest.raises(StageError, match="4 questions"):
        TableStage().run(ctx)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes").glob("[!_]*.yaml")), ids=lambda p: p.stem
)
def test_mistake_8_2_11_a_recipe_that_trains_reports_the_base_too(path: Path) -> None:
    """Never reported: the base before distillation. A recipe of a fresh base (random weights) has nothing to report."""
    from kpod.runner.recipe import load_recipe

    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert text["kpod"] == 1
    recipe = load_recipe(path)
    students = [stage for stage in recipe.stages.values() if stage.uses.startswith("student.")]
    bases = {
        wire.stage for stage in students for wire in stage.wires["model"]
        if recipe.stages[wire.stage].uses == "model.pretrained"
    }  # fmt: skip
    asked = {
        wire.stage for stage in recipe.stages.values() if stage.uses.startswith("evaluate.")
        for wire in stage.wires["models"]
    }  # fmt: skip

    assert bases <= asked
