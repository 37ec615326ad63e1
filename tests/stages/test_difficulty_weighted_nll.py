"""difficulty.weighted_nll: Eq. 8 to the last digit, for both families, joined by id, with errors that name the rationale."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import (
    Interrupted,
    Question,
    Rationale,
    SettingError,
    StageError,
    TokenWeights,
)
from kpod.runner.capability import Capability
from kpod.runner.recipe_schema import stage_schema
from kpod.stages._lm.artifact import ModelFiles, read_spec, write_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages._lm.completions import encode_completion
from kpod.stages._lm.loading import load_lm, load_tokenizer
from kpod.stages._lm.passages import Passage
from kpod.stages._lm.prompts import PromptConfig, encode_prompt
from kpod.stages._lm.steps import step_spans
from kpod.stages._lm.token_weights import project
from kpod.stages.difficulty._scored import Scored
from kpod.stages.difficulty._step_nats import softmax, step_nats, tokens_by_step, weighted_mean
from kpod.stages.difficulty.weighted_nll import Config, WeightedNll
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

FP32 = Config(precision="fp32", batch_tokens=200)
_TEXTS = (
    "Tom has 3 apples. Anna gives 4 more.\nSo Tom has 3 + 4 = 7 apples now.",
    "There are 12 pens in each box. There are 5 boxes. 12 * 5 = 60.",
    "She eats 2",
    "Tom buys 9 books and gives 3. Then he has 9 - 3 = 6 left. Anna has 1 more. The answer is 7.",
)


@cache
def rows() -> tuple[tuple[Question, ...], tuple[Rationale, ...]]:
    questions = tuple(
        Question.make(
            f"Tom has {number} apples and eats {number}. How many apples are left?",
            kind="numeric", answer="7" if number else None, split="train", source="test",
        )
        for number in range(len(_TEXTS))
    )  # fmt: skip
    rationales = tuple(
        Rationale.make(question.id, text, teacher="test")
        for question, text in zip(questions, _TEXTS, strict=True)
    )
    return questions, rationales


def words(text: str) -> list[tuple[int, int]]:
    spans, at = [], 0
    for word in text.split():
        start = text.index(word, at)
        at = start + len(word)
        spans.append((start, at))
    return spans


@cache
def unequal_weights() -> tuple[TokenWeights, ...]:
    stream = random.Random(0)
    return tuple(
        TokenWeights(
            rationale_id=row.id,
            spans=tuple(words(row.text)),
            weights=tuple(stream.random() for _ in words(row.text)),
        )
        for row in rows()[1]
    )


@cache
def tiny_t5(*, is_tied: bool) -> Path:
    """A T5 with random weights beside the tiny models' word tokenizer."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tiny_model().parent / f"t5-{is_tied}"
    folder.mkdir(exist_ok=True)
    causal = tiny_model()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(causal / name, folder / name)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=read_spec(causal).vocab_size, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            decoder_start_token_id=0, eos_token_id=2, pad_token_id=0, feed_forward_proj="gated-gelu",
            tie_word_embeddings=is_tied, initializer_factor=0.3,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    write_spec(folder, checkpoint_spec(folder, is_pointer=False))
    return folder


FOLDERS = {
    "causal": tiny_model,
    "seq2seq": lambda: tiny_t5(is_tied=False),
    "seq2seq, tied": lambda: tiny_t5(is_tied=True),
}
each_family = pytest.mark.parametrize("name", FOLDERS)


def context(config: Config = FP32, **changes: Any) -> FakeContext[Config]:
    questions, rationales = rows()
    inputs = {"questions": questions, "rationales": rationales, "weights": unequal_weights()}
    inputs |= changes.pop("inputs", {})
    folder = changes.pop("model", None) or tiny_model()
    return FakeContext(config=config, inputs=inputs, models={"model": folder}, **changes)


def difficulties(ctx: FakeContext[Config]) -> dict[str, list[float]]:
    WeightedNll().run(ctx)
    return {row.rationale_id: [nats for *_, nats in row.steps] for row in ctx.rows("difficulty")}


def plain_nats(folder: Path, question: Question, rationale: Rationale) -> list[float]:
    """One sequence, no padding, all logits, as the transformers documentation would have it."""
    files = ModelFiles(folder, None, read_spec(folder), "model")
    model: Any = load_lm(files, precision="fp32", device="cpu")
    tokenizer = load_tokenizer(files)
    prompt = PromptConfig().resolve()
    prompt_ids = encode_prompt(tokenizer, prompt, question)
    ids = list(
        encode_completion(
            tokenizer, prompt, rationale=rationale.text, answer=question.answer or ""
        ).ids
    )
    with torch.no_grad():
        if "T5" in files.spec.architecture:
            outputs = model(
                input_ids=torch.tensor([[*prompt_ids, 2]]), decoder_input_ids=torch.tensor([[0, *ids[:-1]]])
            )  # fmt: skip
            logits = outputs.logits[0]
        else:
            logits = model(input_ids=torch.tensor([prompt_ids + ids])).logits[0]
            logits = logits[len(prompt_ids) - 1 : -1]
    rows_of = logits.double().log_softmax(-1)
    return [-float(rows_of[at, token]) for at, token in enumerate(ids)]


def expected_difficulty(
    folder: Path, question: Question, rationale: Rationale, weights: TokenWeights
) -> list[float]:
    tokenizer = load_tokenizer(ModelFiles(folder, None, read_spec(folder), "model"))
    completion = encode_completion(
        tokenizer,
        PromptConfig().resolve(),
        rationale=rationale.text,
        answer=question.answer or "",
    )
    nats = plain_nats(folder, question, rationale)
    token_weights = project(weights, rationale.text, completion.spans)
    found = []
    for start, end in step_spans(rationale.text, rule="sentence"):
        members = [
            at
            for at, span in enumerate(completion.spans)
            if span and start <= span[1] - len(rationale.text[slice(*span)].lstrip()) < end
        ]
        powers = torch.tensor([token_weights[at] for at in members], dtype=torch.float64).softmax(0)
        found.append(
            sum(float(power) * nats[at] for power, at in zip(powers, members, strict=True))
        )
    return found


@each_family
def test_statement_12_difficulty_is_eq_8_on_the_unmasked_rationale_given_the_question(
    name: str,
) -> None:
    folder = FOLDERS[name]()
    found = difficulties(context(model=folder))

    for question, rationale, weights in zip(*rows(), unequal_weights(), strict=True):
        expected = expected_difficulty(folder, question, rationale, weights)
        assert found[rationale.id] == pytest.approx(expected, abs=1e-5)
        assert all(value >= 0 for value in found[rationale.id])


@each_family
def test_mistake_8_1_12_nothing_depends_on_the_batch_that_a_rationale_is_padded_in(
    name: str,
) -> None:
    folder = FOLDERS[name]()
    alone, together = (
        difficulties(context(replace(FP32, batch_tokens=size), model=folder))
        for size in (1, 10_000)
    )

    assert alone.keys() == together.keys()
    for key, values in alone.items():
        assert values == pytest.approx(together[key], abs=1e-5)


def test_mistake_8_1_11_labels_of_an_encoder_decoder_are_not_shifted() -> None:
    from kpod.stages._lm.likelihood import token_nll
    from kpod.stages._lm.parts import take_apart

    folder = tiny_t5(is_tied=False)
    files = ModelFiles(folder, None, read_spec(folder), "model")
    model: Any = load_lm(files, precision="fp32", device="cpu")
    parts = take_apart(model, precision="fp32", probe_ids=(5, 6, 7))
    passage = Passage((5, 6, 7, 8), (9, 10, 11, 12, 2), (1.0,) * 5)
    nats = token_nll(parts, [passage], batch_tokens=99, progress=lambda *_: None)[0]

    with torch.no_grad():
        loss = model(
            input_ids=torch.tensor([[5, 6, 7, 8, 2]]), labels=torch.tensor([[9, 10, 11, 12, 2]])
        ).loss
    assert math.fsum(nats) / 5 == pytest.approx(float(loss), abs=1e-5)


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=50),
    nats=st.lists(st.floats(0, 30), min_size=50, max_size=50),
)
def test_statement_11_step_weights_sum_to_one_and_equal_ones_give_the_plain_mean(
    weights: list[float], nats: list[float]
) -> None:
    shares = softmax(weights)
    values = nats[: len(weights)]

    assert math.fsum(shares) == pytest.approx(1.0, abs=1e-12)
    # w is in [0, 1], so no token counts more than e times another.
    assert max(shares) <= math.e * min(shares) * (1 + 1e-12)
    same = weighted_mean(values, [weights[0]] * len(values))
    assert same == pytest.approx(math.fsum(values) / len(values), abs=1e-12)
    assert min(values) - 1e-12 <= weighted_mean(values, weights) <= max(values) + 1e-12


def test_statement_11_unwired_weights_give_the_plain_mean_of_each_step() -> None:
    ctx = context()
    del ctx._inputs["weights"]
    found = difficulties(ctx)
    ones = [replace(row, weights=(0.25,) * len(row.spans)) for row in unequal_weights()]
    same = difficulties(context(inputs={"weights": ones}))

    for question, rationale in zip(*rows(), strict=True):
        assert found[rationale.id] == pytest.approx(same[rationale.id], abs=1e-12)
        spans = step_spans(rationale.text, rule="sentence")
        # One word, one token: the first step's tokens are its words and signs.
        num_tokens = len(rationale.text[slice(*spans[0])].replace(".", " .").split())
        nats = plain_nats(tiny_model(), question, rationale)[:num_tokens]
        assert found[rationale.id][0] == pytest.approx(math.fsum(nats) / num_tokens, abs=1e-5)


def test_statement_25_difficulties_are_joined_by_id_in_any_order() -> None:
    expected = difficulties(context())
    questions, rationales = rows()
    turned = difficulties(
        context(
            inputs={
                "questions": questions[::-1],
                "rationales": rationales[2:] + rationales[:2],
                "weights": unequal_weights()[1:] + unequal_weights()[:1],
            }
        )
    )

    assert list(turned) == [row.id for row in rationales[2:] + rationales[:2]]
    for key, values in turned.items():
        assert values == pytest.approx(expected[key], abs=1e-5)


def test_mistake_8_1_9_weights_in_another_order_change_nothing() -> None:
    expected = difficulties(context())

    assert difficulties(context(inputs={"weights": unequal_weights()[::-1]})) == expected


def test_mistake_8_1_5_each_step_has_its_own_nats_and_weights_matter() -> None:
    found = difficulties(context())
    rationale = rows()[1][3]
    ones = [replace(row, weights=(1.0,) * len(row.spans)) for row in unequal_weights()]

    assert len({round(value, 3) for value in found[rationale.id]}) == 4
    assert difficulties(context(inputs={"weights": ones}))[rationale.id] != found[rationale.id]


def test_mistake_8_1_17_difficulty_is_never_computed_in_fp16() -> None:
    schema = json.dumps(stage_schema(WeightedNll))

    assert '"fp16"' not in schema
    for device in ("cpu", "cuda"):
        machine = Capability(device=device, has_fast_bf16=True, memory_b=1, num_cpus=1, machine="x")
        resolved = WeightedNll.resolve(Config(), machine, {"model": tiny_model()})
        assert resolved.precision in {"fp32", "bf16"}


def test_bf16_gives_nearly_the_same_and_still_no_negative_number() -> None:
    exact = difficulties(context())
    rough = difficulties(context(replace(FP32, precision="bf16")))

    for key, values in rough.items():
        assert values == pytest.approx(exact[key], rel=0.05)
        assert min(values) >= 0


def test_facts_are_noted() -> None:
    ctx = context()
    found = difficulties(ctx)
    values = [value for row in found.values() for value in row]

    assert ctx.notes["steps"] == len(values) == 11
    assert ctx.notes["steps_by_rationale"] == {"1": 1, "3": 2, "4": 1}
    assert ctx.notes["total_difficulty"] == pytest.approx(math.fsum(values))
    assert ctx.notes["mean_nats"] == pytest.approx(math.fsum(values) / 11)
    assert ctx.notes["quantiles_nats"]["0"] == min(values)
    assert ctx.notes["quantiles_nats"]["1"] == max(values)
    assert ctx.notes["steps_without_token"] == 0
    assert ctx.notes["num_decimals_kept"] == 0
    assert ctx.notes["summary"].startswith("11 steps in 4 rationales, ")
    assert ctx.steps[-1][0] == ctx.steps[-1][1] == ctx.notes["processed_tokens"]


def test_the_spans_are_those_of_the_rule_that_the_recipe_names() -> None:
    for rule in ("sentence", "period"):
        ctx = context(replace(FP32, steps=rule))
        WeightedNll().run(ctx)
        for rationale, row in zip(rows()[1], ctx.rows("difficulty"), strict=True):
            assert [(start, end) for start, end, _ in row.steps] == step_spans(
                rationale.text, rule=rule
            )


def test_a_custom_prompt_is_read_as_the_student_will_read_it() -> None:
    prompt = PromptConfig(
        name="custom", template="{question} The answer is {answer} . So {rationale}"
    )
    found = difficulties(context(replace(FP32, prompt=prompt)))
    plain = difficulties(context())

    assert found.keys() == plain.keys()
    assert all(found[key] != plain[key] for key in plain)
    assert [len(row) for row in found.values()] == [len(row) for row in plain.values()]


def test_tokens_belong_to_the_step_of_their_first_visible_character() -> None:
    text = "ab. cd. . ef"
    steps = [(0, 4), (4, 8), (8, 10), (10, 12)]
    spans = ((0, 2), None, (2, 3), (3, 6), (6, 8), (10, 12))
    scored = Scored("r", text, Passage((1,), tuple(range(6)), (1.0,) * 6), spans)

    assert tokens_by_step(scored, text, steps) == [[0, 2], [3, 4], [], [5]]
    assert step_nats(scored, (1.0, 9.0, 3.0, 4.0, 6.0, 7.0), text, steps) == [2.0, 5.0, 0.0, 7.0]


def test_an_interruption_leaves_nothing_behind() -> None:
    ctx = context(replace(FP32, batch_tokens=1), stop_at=2)

    with pytest.raises(Interrupted, match="interrupted"):
        WeightedNll().run(ctx)
    assert ctx.outputs == {}


def failure(ctx: FakeContext[Config]) -> str:
    with pytest.raises(StageError) as raised:
        WeightedNll().run(ctx)
    assert ctx.outputs == {}
    return str(raised.value)


def test_a_rationale_of_an_unknown_question_is_named() -> None:
    questions, rationales = rows()

    assert failure(context(inputs={"questions": questions[1:]})) == (
        f"1 of 4 rationales belong to no question of this stage: {rationales[0].id} (question {questions[0].id})\n"
        "allowed: rationales made from the same questions; wire both from the same data stage with `in`"
    )


def test_missing_weights_are_named() -> None:
    _, rationales = rows()

    assert failure(context(inputs={"weights": unequal_weights()[:3]})) == (
        f"1 of 4 rationales have no token weights: {rationales[3].id}\n"
        "wire token weights that were made from the same rationales"
    )


@pytest.mark.parametrize(("limit", "advice"), [(40, "raise max_length"), (None, "use a model with a longer context")])  # fmt: skip
def test_a_rationale_longer_than_the_context_is_named(limit: int | None, advice: str) -> None:
    questions, rationales = rows()
    long = Rationale.make(questions[0].id, "Tom has 3 + 4 apples. " * 60, teacher="test")
    message = failure(
        context(
            replace(FP32, max_length=limit),
            inputs={"rationales": [rationales[2], long], "weights": [
                unequal_weights()[2],
                TokenWeights(rationale_id=long.id, spans=tuple(words(long.text)), weights=(1.0,) * 360),
            ]},
        )
    )  # fmt: skip

    assert message == (
        f"1 of 2 rationales are longer than {limit or 256} tokens with their questions; the longest, {long.id}, has 442\n"
        f"{advice}, or drop them with filter.verified (max_chars): none is left out here, the curriculum needs them all"
    )


def test_each_side_of_an_encoder_decoder_has_the_limit_for_itself() -> None:
    questions, _ = rows()
    difficulties(context(replace(FP32, max_length=32), model=tiny_t5(is_tied=False)))
    message = failure(context(replace(FP32, max_length=20), model=tiny_t5(is_tied=False)))

    assert "longer than 20 tokens" in message
    assert questions[0].id not in message


def test_a_rationale_without_text_or_tokens_is_named() -> None:
    from kpod.stages._lm.completions import Completion
    from kpod.stages.difficulty._scored import _scored

    empty = Rationale.make(rows()[0][0].id, "\n ", teacher="test")
    message = failure(context(inputs={"rationales": [empty]}))
    assert message.startswith(f"1 of 1 rationales have no step, their text is empty: {empty.id}")

    completion = Completion(ids=(2,), parts=("end",), spans=(None,))
    with pytest.raises(StageError) as raised:
        _scored(rows()[1][2], [5], completion, None)
    assert str(raised.value) == (
        f"rationale {rows()[1][2].id}: the model's tokenizer makes no token of its text 'She eats 2', so it has no"
        " difficulty\ndrop it with filter.verified, or use another model"
    )


def test_nan_is_named_and_never_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model(), folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[name][7] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    message = failure(context(model=folder))
    assert message == (
        f"rationale {rows()[1][0].id}: a step's difficulty is not a number; the model gives NaN or infinity for one of"
        " its tokens\nallowed: finite log-likelihoods; set precision: fp32, or check the model's weights"
    )


def test_a_prompt_without_a_rationale_is_refused() -> None:
    with pytest.raises(SettingError) as raised:
        Config(prompt=PromptConfig(name="answer_only"))

    assert str(raised.value) == (
        "prompt: a prompt without a rationale (answer_only) has no steps to measure;"
        " set name: cot, or a template with {rationale}"
    )
