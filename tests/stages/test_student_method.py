"""KPOD's student: weights at their own offsets, given steps as context, the answer in every epoch, and fair budgets."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Curriculum, Question, Rationale, Record, StageError, TokenWeights
from kpod.stages._lm.curricula import first_targets
from kpod.stages._lm.encoding import encode_examples
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.passages import Passage
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._settings import Config
from kpod.stages.student._step import step_denominator
from kpod.stages.student._steps import steps_within
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model

FAST = Config(
    method="full",
    epochs=4,
    batch_size=8,
    learning_rate=5e-3,
    precision="fp32",
    micro_batch_tokens=4096,
)
FIRST, SECOND = "Tom has 7 + 2 = 9 apples. ", "Tom has 9 - 1 = 8 apples."


@cache
def rows() -> tuple[tuple[Question, ...], tuple[Rationale, ...]]:
    questions = tuple(
        Question.make(
            f"Tom has {number} apples. How many?", kind="numeric", answer="8", split="train", source="test"
        )
        for number in range(20)
    )  # fmt: skip
    return questions, tuple(
        Rationale.make(question.id, FIRST + SECOND, teacher="reference") for question in questions
    )


def weights(values: tuple[float, float] = (1.0, 1.0)) -> tuple[TokenWeights, ...]:
    """One weight for each of the two steps."""
    spans = ((0, len(FIRST)), (len(FIRST), len(FIRST + SECOND)))
    return tuple(
        TokenWeights(rationale_id=row.id, spans=spans, weights=values) for row in rows()[1]
    )


def curriculum(given: tuple[int, ...] = (2, 1, 0, 0)) -> tuple[Curriculum, ...]:
    ends = (0, len(FIRST), len(FIRST + SECOND))
    return tuple(
        Curriculum(rationale_id=row.id, num_steps=2, given=given, cut=tuple(ends[n] for n in given))
        for row in rows()[1]
    )


def context(
    config: Config = FAST, *, seed: int = 3, **more: tuple[Record, ...]
) -> FakeContext[Config]:
    questions, rationales = rows()
    inputs: dict[str, Any] = {"questions": questions, "rationales": rationales, **more}
    return FakeContext(config=config, inputs=inputs, models={"model": tiny_model()}, seed=seed)


def run(config: Config = FAST, **more: tuple[Record, ...]) -> FakeContext[Config]:
    ctx = context(config, **more)
    CausalLm().run(ctx)
    return ctx


def trained(ctx: FakeContext[Config]) -> bytes:
    return (ctx.folders["student"] / "model.safetensors").read_bytes()


def text(ids: tuple[int, ...]) -> str:
    return str(load_tokenizer(tiny_files()).decode(ids))


def test_statement_24_weights_of_one_and_no_given_step_are_standard_distillation() -> None:
    plain, ours = run(), run(weights=weights(), curriculum=curriculum((0, 0, 0, 0)))

    assert trained(ours) == trained(plain)
    assert ours.notes["losses"] == plain.notes["losses"]


def test_statement_23_a_suffix_keeps_the_weights_of_its_own_offsets() -> None:
    """Mistake 8.1.10: suffix targets got the first weights of the whole rationale."""
    ctx = context(weights=weights((0.25, 0.5)), curriculum=curriculum((1, 0, 0, 0)))
    first = next(CausalLm().inspect(ctx, limit=1, epoch=1))
    second = next(CausalLm().inspect(ctx, limit=1, epoch=2))

    said = [(token.text.strip(), token.weight) for token in first.tokens if token.is_target]
    assert said[: len(SECOND.split())] == [(word.rstrip("."), 0.5) for word in SECOND.split()]
    weighed = [token.weight for token in second.tokens if token.is_target]
    assert weighed.count(0.25) == len(FIRST.split()) + 1
    assert weighed.count(0.5) == len(SECOND.split()) + 1


@pytest.mark.parametrize(("epoch", "context_end"), [(1, SECOND), (2, FIRST.strip()), (3, "step.")])
def test_statement_23_given_steps_are_context_and_the_answer_weighs_one_in_every_epoch(
    epoch: int, context_end: str
) -> None:
    ctx = context(weights=weights((0.25, 0.5)), curriculum=curriculum())
    for example in CausalLm().inspect(ctx, limit=3, epoch=epoch):
        before = tuple(token.id for token in example.tokens if not token.is_target)
        targets = [token for token in example.tokens if token.is_target]

        assert text(before).endswith(context_end)
        assert all(token.weight == 0.0 for token in example.tokens if not token.is_target)
        answer = targets[-7:]
        assert text(tuple(token.id for token in answer)) == "Therefore, the answer is 8 <end>"
        assert [token.weight for token in answer] == [1.0] * 7


def test_statement_22_epochs_after_the_curriculum_generate_everything() -> None:
    ctx = run(curriculum=curriculum((2, 1, 0, 0)))
    plain = run()

    by_epoch, whole = ctx.notes["target_tokens_by_epoch"], plain.notes["target_tokens_by_epoch"]
    assert by_epoch[0] < by_epoch[1] < by_epoch[2] == by_epoch[3] == whole[0]


def test_statement_25_weights_and_cuts_follow_their_rationale_whatever_the_order() -> None:
    """Mistake 8.1.9: a shuffled loader gave weights and cuts of other samples."""
    different = tuple(
        replace(row, weights=(0.01 * n, 0.02 * n)) for n, row in enumerate(weights(), start=1)
    )
    one = context(weights=different, curriculum=curriculum())
    other = context(weights=different[::-1], curriculum=curriculum()[::-1])

    seen = [list(CausalLm().inspect(ctx, limit=20, epoch=3)) for ctx in (one, other)]
    assert seen[0] == seen[1]
    for example in seen[0]:
        number = next(n for n, row in enumerate(rows()[1], start=1) if row.id == example.example_id)
        found = {round(token.weight, 4) for token in example.tokens if token.is_target}
        assert found == {round(0.01 * number, 4), round(0.02 * number, 4), 1.0}


def test_equal_target_tokens_ends_within_half_a_step_of_the_curriculums_total() -> None:
    kpod = run(curriculum=curriculum())
    ctx = run(replace(FAST, epochs=None), budget=curriculum())

    total = kpod.notes["target_tokens"]
    assert ctx.notes["target_token_budget"] == total
    step = run().notes["target_tokens_by_epoch"][0] / 3
    assert abs(ctx.notes["target_tokens"] - total) <= step / 2
    assert ctx.notes["steps"] < kpod.notes["steps"]


@settings(max_examples=60, deadline=None)
@given(budget=st.integers(1, 900), lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_the_nearest_step_to_a_budget_is_at_most_half_a_step_away(
    budget: int, lengths: list[int]
) -> None:
    examples = [_example(length) for length in lengths]
    plan = StepPlan(num_examples=len(lengths), batch_size=4, num_steps=1, seed=0)
    spent = steps_within(budget, examples, plan)

    def total(steps: int) -> int:
        return sum(lengths[i] for step in range(steps) for i in plan.indices(step))

    assert spent.num_targets == total(spent.num_steps)
    distances = [abs(total(steps) - budget) for steps in range(1, spent.num_steps + 3)]
    assert abs(spent.num_targets - budget) == min(distances)


def _example(length: int) -> Any:
    from kpod.stages._lm.completions import Completion
    from kpod.stages._lm.encoding import Example

    completion = Completion(
        ids=(1,) * length, parts=("rationale",) * length, spans=(None,) * length
    )
    return Example(example_id="e", question_id="q", prompt_ids=(1,), completion=completion, weights=(1.0,) * length)  # fmt: skip


def test_normalise_says_what_a_step_is_divided_by() -> None:
    passages = [Passage((1,), (2, 3), (0.5, 1.0)), Passage((1,), (4,), (0.25,))]

    assert step_denominator(passages, "targets") == 3
    assert step_denominator(passages, "sequences") == 2
    assert step_denominator(passages, "weights") == pytest.approx(1.75)


def test_the_weighted_loss_is_the_sum_of_weighted_nats_over_targets() -> None:
    """Eq. 15, against logits of the whole model, one sequence at a time."""
    from kpod.stages._lm.loading import load_causal_lm
    from kpod.stages._lm.passages import pad
    from kpod.stages.student._loss import backward, take_apart

    ctx = context(weights=weights((0.25, 0.5)), curriculum=curriculum((1, 0, 0, 0)))
    model: Any = load_causal_lm(tiny_files(), precision="fp32", device="cpu")
    examples = list(CausalLm().inspect(ctx, limit=4, epoch=1))
    expected = torch.zeros(())
    passages = []
    for example in examples:
        ids = [token.id for token in example.tokens]
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        nll = torch.nn.functional.cross_entropy(
            logits[:-1], torch.tensor(ids[1:]), reduction="none"
        )
        expected = (
            expected + (nll * torch.tensor([token.weight for token in example.tokens[1:]])).sum()
        )
        first = next(n for n, token in enumerate(example.tokens) if token.is_target)
        shares = tuple(token.weight for token in example.tokens[first:])
        passages.append(Passage(tuple(ids[:first]), tuple(ids[first:]), shares))

    student = take_apart(model, precision="fp32", probe_ids=(1, 2, 3))
    loss = backward(student, pad(passages, device=torch.device("cpu")), denominator=10.0)

    assert float(loss) == pytest.approx(expected.item() / 10.0, rel=1e-5)


def test_a_token_is_given_or_written_by_its_first_character() -> None:
    spans = [(0, 3), (3, 7), (7, 8), None, (8, 12), None]
    told = "Tom has 9 is"

    assert first_targets((0, 3, 4, 8, 12), told, spans) == (0, 1, 1, 4, 5)


def test_missing_and_foreign_rows_are_named_by_id() -> None:
    _, rationales = rows()
    with pytest.raises(
        StageError, match=f"1 of 20 rationales have no token weights: {rationales[0].id}"
    ):
        run(weights=weights()[1:])
    with pytest.raises(
        StageError, match=f"2 of 20 rationales have no curriculum rows: {rationales[0].id}"
    ):
        run(curriculum=curriculum()[2:])
    short = (replace(weights()[0], spans=((0, 5), (5, 9))), *weights()[1:])
    with pytest.raises(
        StageError, match=f"token weights of rationale {rationales[0].id}: '\\+ 2 = 9"
    ):
        run(weights=short)
    wrong = (replace(curriculum()[0], cut=(999, 0, 0, 0)), *curriculum()[1:])
    with pytest.raises(StageError, match=f"curriculum of rationale {rationales[0].id}: 2 steps"):
        run(curriculum=wrong)


def test_weights_of_rationales_need_a_prompt_with_a_rationale() -> None:
    config = replace(FAST, prompt=PromptConfig(name="answer_only"))
    with pytest.raises(StageError, match="the prompt 'answer_only' has no rationale, but weights"):
        run(config, weights=weights())


def test_a_curriculum_must_not_give_the_answer_away() -> None:
    prompt = PromptConfig(name="custom", template="{question} {answer} since {rationale}")
    with pytest.raises(StageError, match="a curriculum would give the answer away"):
        run(replace(FAST, prompt=prompt), curriculum=curriculum())


def test_a_budget_and_epochs_are_refused_together() -> None:
    with pytest.raises(StageError, match="got a budget and epochs: 4"):
        run(budget=curriculum())
    with pytest.raises(StageError, match="epochs is null, and no budget is wired"):
        run(replace(FAST, epochs=None))


def test_the_whole_rationale_counts_for_an_encoders_limit() -> None:
    questions, rationales = rows()
    encoded = encode_examples(
        load_tokenizer(tiny_files()), questions=questions, rationales=list(rationales), prompt=PromptConfig().resolve(),
        max_length=256, has_encoder=True,
    )  # fmt: skip
    example = encoded.examples[0]

    given = len(FIRST.split()) + len(SECOND.split()) + 2
    assert example.sides(has_encoder=True) == (
        len(example.prompt_ids) + given + 1,
        len(example.completion.ids),
    )
    assert example.sides(has_encoder=False) == (0, example.num_tokens)
