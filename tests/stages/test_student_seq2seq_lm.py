"""student.seq2seq_lm: question and given steps in the encoder, the rest in the decoder, and the same loss as Eq. 15."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from kpod.runner import (
    Curriculum,
    Interrupted,
    Question,
    Rationale,
    Record,
    StageError,
    TokenWeights,
)
from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.parts import take_apart
from kpod.stages._lm.passages import Passage, pad
from kpod.stages.student._adapter import Lora
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from kpod.stages.student.seq2seq_lm import Seq2SeqLm
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model

FAST = Config(
    method="full",
    epochs=3,
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
        for number in range(16)
    )  # fmt: skip
    return questions, tuple(
        Rationale.make(question.id, FIRST + SECOND, teacher="reference") for question in questions
    )


def curriculum() -> tuple[Curriculum, ...]:
    cuts = (len(FIRST + SECOND), len(FIRST), 0)
    return tuple(
        Curriculum(rationale_id=row.id, num_steps=2, given=(2, 1, 0), cut=cuts) for row in rows()[1]
    )


def weights() -> tuple[TokenWeights, ...]:
    spans = ((0, len(FIRST)), (len(FIRST), len(FIRST + SECOND)))
    return tuple(
        TokenWeights(rationale_id=row.id, spans=spans, weights=(0.25, 0.5)) for row in rows()[1]
    )


def context(config: Config = FAST, *, model: Any = None, **more: Any) -> FakeContext[Config]:
    questions, rationales = rows()
    settings = {name: more.pop(name) for name in ("root", "stop_at") if name in more}
    inputs: dict[str, tuple[Record, ...]] = {
        "questions": questions, "rationales": rationales, **more,
    }  # fmt: skip
    return FakeContext(
        config=config,
        inputs=inputs,
        models={"model": model or tiny_model("t5")},
        seed=3,
        **settings,
    )


def student_bytes(ctx: FakeContext[Config]) -> dict[str, bytes]:
    Seq2SeqLm().run(ctx)
    return {path.name: path.read_bytes() for path in ctx.folders["student"].iterdir()}


def test_statement_26_the_loss_is_the_models_own_with_labels_that_are_not_shifted() -> None:
    """Mistake 8.1.11: labels were shifted although T5's logits are aligned."""
    model: Any = load_lm(tiny_files("t5"), precision="fp32", device="cpu")
    context_ids, target_ids = (5, 6, 7, 8), (9, 10, 11, 12, 2)
    encoder = [*context_ids, model.config.eos_token_id]
    expected = model(input_ids=torch.tensor([encoder]), labels=torch.tensor([target_ids])).loss

    parts = take_apart(model, precision="fp32", probe_ids=(5, 6))
    batch = pad(
        [Passage(context_ids, target_ids, (1.0,) * 5), Passage((5,), (6,), (0.0,))],
        device=torch.device("cpu"),
        encoder=parts.encoder,
    )
    nll = torch.nn.functional.cross_entropy(
        parts.head(parts.hidden(batch)), batch.targets, reduction="none"
    )

    assert ((nll * batch.weights).sum() / 5).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_encoder_reads_the_given_steps_and_the_decoder_writes_the_rest() -> None:
    ctx = context(curriculum=curriculum(), weights=weights())
    for epoch, end in ((1, "8 apples ."), (2, "9 apples ."), (3, "by step .")):
        for example in Seq2SeqLm().inspect(ctx, limit=2, epoch=epoch):
            read = " ".join(token.text.strip() for token in example.tokens if not token.is_target)
            said = [token for token in example.tokens if token.is_target]
            assert read.endswith(end)
            assert said[-1].weight == 1.0
            assert example.has_evaluation_prompt
            assert (0.25 in {token.weight for token in said}) == (epoch == 3)


def test_the_same_seed_gives_the_same_bytes_also_after_an_interruption(tmp_path: Any) -> None:
    for config in (FAST, replace(FAST, method="lora", lora=Lora(rank=4, dropout=0.1))):
        expected = student_bytes(context(config, curriculum=curriculum()))
        root = tmp_path / config.method
        with pytest.raises(Interrupted):
            Seq2SeqLm().run(context(config, curriculum=curriculum(), root=root, stop_at=3))

        assert student_bytes(context(config, curriculum=curriculum(), root=root)) == expected


def test_the_loss_falls_and_the_student_loads() -> None:
    ctx = context(replace(FAST, epochs=12))
    Seq2SeqLm().run(ctx)

    assert ctx.notes["losses"][-1] < ctx.notes["losses"][0] - 0.5
    spec = read_spec(ctx.folders["student"])
    files = ModelFiles(ctx.folders["student"], None, spec, "student")
    assert load_lm(files, precision="fp32", device="cpu").num_parameters() == spec.num_parameters


def test_statement_24_weights_of_one_are_standard_distillation_here_too() -> None:
    ones = tuple(replace(row, weights=(1.0, 1.0)) for row in weights())

    assert student_bytes(context(weights=ones)) == student_bytes(context())


def test_each_family_has_its_own_student() -> None:
    with pytest.raises(
        StageError, match=r"seq2seq_lm cannot train a Qwen3ForCausalLM\nuse student\.causal_lm"
    ):
        Seq2SeqLm().run(context(model=tiny_model()))
    with pytest.raises(
        StageError,
        match=r"causal_lm cannot train a T5ForConditionalGeneration\nuse student\.seq2seq_lm",
    ):
        CausalLm().run(context())
