"""weighting.mask_learning as a stage: what it writes, what it tells, what it refuses, and that stopping it loses nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, Question, Rationale, StageError
from kpod.runner.capability import Capability
from kpod.stages._lm.token_weights import weights_by_rationale
from kpod.stages.weighting import _training
from kpod.stages.weighting._items import Item
from kpod.stages.weighting._training import length_groups, num_computed
from kpod.stages.weighting.mask_learning import Config, MaskLearning
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model
from tests.stages.weighting_models import fresh, pair, pairs, tiny_t5

QUICK: dict[str, Any] = {
    "epochs": 2, "batch_size": 4, "prefixes": 4, "precision": "fp32", "learning_rate": 0.01,
}  # fmt: skip


def run(
    rows: tuple[list[Question], list[Rationale]],
    *,
    root: Path | None = None,
    stop_at: int | None = None,
    seed: int = 3,
    predictor: Path | None = None,
    **settings: Any,
) -> FakeContext[Config]:
    models = {"student": tiny_model()} | ({"predictor": predictor} if predictor else {})
    ctx = FakeContext(
        config=Config(**{**QUICK, **settings}), models=models, seed=seed, root=root, stop_at=stop_at,
        inputs={"questions": rows[0], "rationales": rows[1]},
    )  # fmt: skip
    MaskLearning().run(ctx)
    return ctx


def test_weights_cover_every_rationale_and_are_rounded_so_that_bytes_are_stable() -> None:
    rows = pairs(6)
    ctx = run(rows)
    written = ctx.rows("weights")
    assert set(weights_by_rationale(written, rows[1])) == {one.id for one in rows[1]}
    assert [one.rationale_id for one in written] == [one.id for one in rows[1]]
    weights = [weight for one in written for weight in one.weights]
    assert weights == [round(weight, 6) for weight in weights]
    assert len(set(weights)) > 20


def test_notes_tell_means_by_class_and_answer_loss_by_prefix_for_every_epoch() -> None:
    ctx = run(pairs(6))
    assert set(ctx.notes["mean_weights"]) == {"digits_and_operators", "names", "fillers", "all"}
    assert [len(row) for row in ctx.notes["answer_nats_by_quarter_of_the_prefix"]] == [4, 4]
    assert all(0 <= rate <= 1 for rate in ctx.notes["keep_rate"])
    assert len(ctx.notes["kept_tokens_per_rationale"]) == 2
    assert ctx.notes["summary"].startswith("6 rationales; mean weight: digits and operators 0.")
    assert "layout" not in ctx.notes


def test_mistake_8_1_04_every_epoch_reads_every_rationale_and_none_of_another_split() -> None:
    rows = pairs(7)
    ctx = run(rows)
    num_tokens = sum(len(one.weights) for one in ctx.rows("weights"))
    assert ctx.notes["rationale_tokens"] == num_tokens
    assert [done for done, _, _, _ in ctx.steps] == [1, 2, 3, 4]
    assert MaskLearning.questions.role == "train"


def test_mistake_8_1_13_weights_are_the_sigmoids_themselves_and_not_clamped() -> None:
    ctx = run(pairs(6), alpha=50.0, epochs=15, learning_rate=0.05)
    assert max(weight for one in ctx.rows("weights") for weight in one.weights) < 0.1


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_stopped_and_continued_training_gives_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    rows = pairs(6)
    whole = run(rows, train_embeddings=True)
    with pytest.raises(Interrupted):
        run(rows, root=tmp_path, stop_at=stop_at, train_embeddings=True)
    continued = run(rows, root=tmp_path, train_embeddings=True)
    assert len(continued.steps) == len(whole.steps) - stop_at
    assert continued.rows("weights") == whole.rows("weights")
    for name in ("keep_rate", "answer_nats_by_quarter_of_the_prefix"):
        assert continued.notes[name] == whole.notes[name]


def test_weights_depend_on_the_seed_and_not_on_the_state_of_torch() -> None:
    rows = pairs(5)
    first = run(rows).rows("weights")
    torch.rand(3)
    assert run(rows).rows("weights") == first
    assert run(rows, seed=4).rows("weights") != first


def test_how_often_a_checkpoint_is_written_changes_nothing(tmp_path: Path) -> None:
    rows = pairs(5)
    often = run(rows, root=tmp_path, checkpoint_every_s=0.0)
    assert (tmp_path / "checkpoint" / "training.safetensors").exists()
    assert often.rows("weights") == run(rows).rows("weights")


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_vector": "zero", "samples": "soft", "temperature": 0.5},
        {"mask_on": "contextual", "normalise": "per_rationale"},
        {"prefixes": None, "positions": "none", "residual": False, "grad_clip": None},
        {
            "hidden_width": 8,
            "heads": 2,
            "warmup_frac": 1.0,
            "head_start_frac": 0.5,
            "micro_batch_tokens": 1,
        },
    ],
    ids=str,
)
def test_every_setting_runs(settings: dict[str, Any]) -> None:
    ctx = run(pairs(4), **{"epochs": 1, **settings})
    assert len(ctx.rows("weights")) == 4


def test_an_encoder_decoder_predicts_for_a_decoder_only_student() -> None:
    ctx = run(pairs(4), predictor=tiny_t5().weights, epochs=1)
    assert len(ctx.rows("weights")) == 4
    assert "one row for every prefix" in ctx.notes["layout"]


def test_precision_auto_is_resolved_by_the_predictor() -> None:
    machine = Capability(
        device="cpu", has_fast_bf16=True, memory_b=1 << 34, num_cpus=2, machine="x86_64"
    )
    models = {"student": tiny_model(), "predictor": tiny_model("llama")}
    assert MaskLearning.resolve(Config(), machine, models).precision == "fp32"
    assert MaskLearning.resolve(Config(), machine, {"student": tiny_model()}).precision == "fp32"


def test_a_rationale_of_an_unknown_question_is_told_by_id() -> None:
    questions, rationales = pairs(3)
    with pytest.raises(StageError, match=f"rationale {rationales[2].id} belongs to question {rationales[2].question_id}, which"):  # fmt: skip
        run((questions[:2], rationales))


def test_no_rationales_are_told() -> None:
    with pytest.raises(StageError, match="there are no rationales to weigh"):
        run((pairs(2)[0], []))


def test_a_rationale_without_a_token_is_told_by_id() -> None:
    question, _ = pair(1)
    empty = Rationale.make(question.id, "  ", teacher="test")
    with pytest.raises(StageError, match=f"rationale {empty.id}: its text '  ' has no token to weigh"):  # fmt: skip
        run(([question], [empty]))


def test_no_answer_is_told_by_id_and_the_teachers_stands_in_for_a_missing_gold_one() -> None:
    question, rationale = pair(1, answer=None)
    with pytest.raises(StageError, match=f"rationale {rationale.id}: question {question.id} has no gold answer"):  # fmt: skip
        run(([question], [rationale]))
    question, rationale = pair(1, answer=None, rationale_answer="6")
    assert len(run(([question], [rationale]), epochs=1).rows("weights")) == 1


def test_a_rationale_longer_than_the_predictors_context_is_told_with_its_length() -> None:
    question, _ = pair(1)
    long = Rationale.make(question.id, "Tom has 5 apples. " * 60, teacher="test")
    with pytest.raises(StageError, match=rf"longer than the 256 tokens that the predictor takes: {long.id} \(3\d\d tokens\)"):  # fmt: skip
        run(([question], [long]))


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_rationales() -> None:
    rows = pairs(3)
    module, items = fresh(count=3)
    with torch.no_grad():
        module.weighter.layers["mlp.1.bias"].fill_(float("nan"))
    ctx: FakeContext[Any] = FakeContext(config=None)
    with pytest.raises(StageError, match=rf"step 1 \(epoch 1\): loss nan, .*\n.*{rows[1][0].id}"):
        _training.train(ctx, module, items, _how(items))
    assert ctx.steps == []


def _how(items: list[Item], **changes: Any) -> _training.Training:
    from kpod.stages.weighting._objective import Objective

    objective = Objective(
        alpha=0.5, temperature=1.0, samples="hard", mask_on="plain", normalise="per_dataset", mean_tokens=20.0,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "objective": objective, "seed": 1, "epochs": 1, "batch_size": 8, "prefixes": 4, "learning_rate": 1e-3,
        "predictor_learning_rate": 1e-3, "warmup_frac": 0.1, "head_start_frac": 0.0, "grad_clip": 1.0, "micro_batch_tokens": 300,
        "checkpoint_every_s": 1e9,
    }  # fmt: skip
    return _training.Training(**{**settings, **changes})


def test_a_step_is_split_by_length_within_the_budget_and_no_rationale_is_lost() -> None:
    _, items = fresh(count=8)
    groups = length_groups(items, _how(items))
    assert sorted(item.id for group in groups for item in group) == sorted(item.id for item in items)  # fmt: skip
    assert len(groups) > 1
    for group in groups:
        widest = max(num_computed(item, 4) for item in group)
        assert len(group) == 1 or len(group) * widest <= 300
    sizes = [num_computed(item, 4) for group in groups for item in group]
    assert sizes == sorted(sizes)


def test_the_gradient_does_not_depend_on_how_a_step_is_split() -> None:
    results = []
    for budget in (1, 100_000):
        module, items = fresh(count=6)
        how = _how(items, micro_batch_tokens=budget, learning_rate=1e-3)
        _training.train(FakeContext(config=None), module, items, how)
        results.append(module.weighter.layers["mlp.1.weight"].detach().clone())
    # Adam divides the gradient by its size, so rounding shows as a share of the learning rate.
    assert torch.allclose(*results, atol=1e-5)


def test_rates_rise_and_fall_and_the_predictor_begins_alone() -> None:
    _, items = fresh(count=1)
    how = _how(items, learning_rate=1.0, predictor_learning_rate=2.0, head_start_frac=0.5)
    values = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [value]} for value in values], lr=0.0)
    found = []
    for step in range(20):
        _training._set_rates(optimizer, how, step, 20)
        found.append([group["lr"] for group in optimizer.param_groups])
    weighter, predictor = zip(*found, strict=True)
    assert weighter[:10] == (0.0,) * 10
    assert weighter[10:] == pytest.approx([1.0, *(1 - done / 9 for done in range(9))])
    assert predictor[:3] == (1.0, 2.0, 2.0)
    assert predictor[-1] == pytest.approx(2.0 / 18)


def test_the_weighters_rate_falls_with_the_width_of_the_student() -> None:
    from kpod.stages.weighting._learning import rate_share

    assert rate_share(96) == 1.0
    assert rate_share(4096) == pytest.approx(0.0234375)


def test_a_character_that_a_tokenizer_drops_leaves_no_gap_in_the_weights() -> None:
    """T5 drops zero-width signs, which four real SVAMP rationales hold."""
    from dataclasses import replace

    from kpod.stages._lm.token_weights import check_weights
    from kpod.stages.weighting._learning import weights_of

    module, items = fresh()
    text = items[0].text + "\u200b"
    (found,) = weights_of(module, [replace(items[0], text=text)])

    check_weights(found, text)
    assert found.spans[-1][1] == len(text)


def test_importing_the_stage_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, kpod.stages.weighting.mask_learning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
