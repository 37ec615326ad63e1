"""The weighting module: Emb, one attention layer, two-layer MLP, sigmoid, and the mask that is drawn from it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import StageError
from kpod.stages._lm.embeddings import input_embeddings
from kpod.stages.weighting._draws import draw, shuffled_order
from kpod.stages.weighting._learning import weights_of
from kpod.stages.weighting._weighter import Shape, Weighter, sample_mask
from tests.stages.weighting_models import fresh, pairs, predictor_files

SHAPE = Shape(
    heads=4, residual=True, positions="none", hidden_width=None, initial_weight=0.5, train_embeddings=False
)  # fmt: skip


@pytest.mark.parametrize("kind", ["copy", "t5"])
def test_statement_01_emb_is_the_students_table_and_every_token_of_the_student_has_one_weight(
    kind: str,
) -> None:
    module, items = fresh(kind)
    table = input_embeddings(predictor_files(kind).student)
    for token, row in module.row_of.items():
        assert torch.equal(module.weighter.table_VD[row], table[token])
    assert not module.weighter.table_VD.requires_grad
    _, rationales = pairs(len(items))
    for item, row, rationale in zip(items, weights_of(module, items), rationales, strict=True):
        assert row.rationale_id == rationale.id
        assert row.spans == item.spans
        assert len(row.weights) == item.num_tokens
        covered = "".join(rationale.text[start:end] for start, end in row.spans)
        assert covered.replace(" ", "") == rationale.text.replace(" ", "")


def test_statement_02_w_is_one_attention_layer_a_two_layer_mlp_and_a_sigmoid() -> None:
    """The same numbers from torch's own layer of attention, and the paper's order of things."""
    module, items = fresh(heads=4, positions="none", hidden_width=20)
    weighter = module.weighter
    weighed, is_token = module.weigh(items)
    width = weighter.table_VD.shape[1]
    attention = torch.nn.MultiheadAttention(width, 4, bias=False, batch_first=True)
    layers = weighter.layers
    with torch.no_grad():
        names = ("query", "key", "value")
        attention.in_proj_weight.copy_(torch.cat([layers[f"attention.{n}.weight"] for n in names]))
        attention.out_proj.weight.copy_(layers["attention.output.weight"])
        own = weighed.plain_BND / weighter.unit
        e = own + attention(own, own, own, key_padding_mask=~is_token)[0]
        hidden = F.gelu(e @ layers["mlp.0.weight"].T + layers["mlp.0.bias"])
        expected = (hidden @ layers["mlp.1.weight"].T + layers["mlp.1.bias"]).squeeze(-1).sigmoid()

    actual = weighed.logits_BN.sigmoid()

    assert layers["mlp.0.weight"].shape == (20, width)
    assert torch.allclose(actual[is_token], expected[is_token], atol=1e-5)
    assert bool(((actual > 0) & (actual < 1)).all())


def test_mistake_8_1_02_the_weighter_is_no_frozen_encoder_but_one_trained_layer() -> None:
    module, _ = fresh()
    names = {name for name in module.parameters if name.startswith("weighter.")}
    assert names == {
        *(f"weighter.attention.{n}.weight" for n in ("query", "key", "value", "output")),
        *(f"weighter.mlp.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")),
    }
    assert all(module.parameters[name].requires_grad for name in names)


@pytest.mark.parametrize("initial_weight", [0.5, 0.9])
def test_every_token_starts_at_the_same_weight(initial_weight: float) -> None:
    shape = replace(SHAPE, initial_weight=initial_weight)
    weighter = Weighter(torch.randn(9, 8), unit=1.0, shape=shape, seed=1)
    weighed = weighter.weigh(torch.tensor([[1, 5, 7]]), torch.ones(1, 3, dtype=torch.bool))
    assert weighed.logits_BN.sigmoid()[0].tolist() == pytest.approx([initial_weight] * 3)


@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
def test_padding_changes_no_weight(positions: str) -> None:
    module, items = fresh(count=6, positions=positions)
    together, is_token = module.weigh(items)
    for number, item in enumerate(items):
        alone, _ = module.weigh([item])
        row = together.logits_BN[number][is_token[number]]
        assert torch.allclose(row, alone.logits_BN[0], atol=1e-5)


def test_positions_tell_two_equal_tokens_apart_and_without_them_they_are_one() -> None:
    for positions, are_equal in (("none", True), ("sinusoidal", False)):
        module, items = fresh(count=1, positions=positions)
        first, second = [at for at, token in enumerate(items[0].token_ids) if token == items[0].token_ids[0]][:2]  # fmt: skip
        logits = module.weigh(items)[0].logits_BN[0]
        assert bool(torch.isclose(logits[first], logits[second], atol=1e-6)) is are_equal


def test_heads_that_do_not_divide_the_width_are_told() -> None:
    shape = replace(SHAPE, heads=5)
    with pytest.raises(
        StageError, match=r"heads: 5 does not divide the student's embedding width 8"
    ):
        Weighter(torch.randn(9, 8), unit=1.0, shape=shape, seed=1)


@given(st.floats(-8, 8), st.integers(0, 2**32), st.sampled_from([0.3, 1.0, 2.5]))
@settings(max_examples=60, deadline=None)
def test_statement_03_the_mask_is_a_binary_gumbel_softmax(
    logit: float, seed: int, temperature: float
) -> None:
    """Written out over the two classes, masked and kept, with two Gumbel variables."""
    g_masked, g_kept = -torch.rand(2, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6).log().neg().log()  # fmt: skip
    w = torch.tensor(logit, dtype=torch.float64).sigmoid()
    classes = torch.stack([(1 - w).log() + g_masked, w.log() + g_kept])
    expected = (classes / temperature).softmax(0)[1]

    logits, noise = torch.tensor([[logit]]), (g_kept - g_masked).view(1, 1)
    soft = sample_mask(logits, noise, temperature=temperature, samples="soft")
    hard = sample_mask(logits, noise, temperature=temperature, samples="hard")

    assert math.isclose(soft.item(), expected.item(), abs_tol=1e-4)
    assert hard.item() == float(soft.item() > 0.5)


def test_statement_03_hard_samples_are_0_or_1_kept_as_often_as_w_and_have_the_soft_gradient() -> (
    None
):
    w = torch.tensor([0.05, 0.5, 0.9])
    noise = draw("r", 3 * 20_000, seed=3, epoch=1, prefixes=4).noise.view(-1, 3)
    logits = (w.log() - (1 - w).log()).expand_as(noise).clone().requires_grad_()

    hard = sample_mask(logits, noise, temperature=1.0, samples="hard")
    (gradient,) = torch.autograd.grad(hard.sum(), logits)

    assert set(hard.unique().tolist()) == {0.0, 1.0}
    # Three standard errors of a share of 20,000 are at most 0.011.
    assert torch.allclose(hard.mean(0), w, atol=0.011)
    soft = sample_mask(logits, noise, temperature=1.0, samples="soft")
    assert torch.allclose(gradient, soft * (1 - soft), atol=1e-6)


@given(st.integers(1, 60), st.integers(4, 12), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_statement_06_prefixes_lie_within_the_rationale_and_all_are_taken_where_there_are_few(
    length: int, count: int, epoch: int
) -> None:
    drawn = draw("r", length, seed=1, epoch=epoch, prefixes=count).prefixes
    assert list(drawn) == sorted(drawn)
    assert 1 <= drawn[0] <= drawn[-1] <= length
    assert len(drawn) == min(length, count)
    assert draw("r", length, seed=1, epoch=epoch, prefixes=None).prefixes == tuple(range(1, length + 1))  # fmt: skip


def test_statement_06_every_prefix_is_drawn_equally_often_the_whole_rationale_among_them() -> None:
    counts = [0] * 14
    for epoch in range(3_000):
        for k in draw("r", 13, seed=5, epoch=epoch, prefixes=4).prefixes:
            counts[k] += 1
    # 12,000 draws over 13 lengths: 923 each, standard deviation at most 29.
    assert counts[0] == 0
    assert all(abs(count - 923) < 120 for count in counts[1:])


def test_draws_belong_to_the_rationale_and_not_to_its_place() -> None:
    first, again = (draw("r1", 9, seed=4, epoch=2, prefixes=4) for _ in range(2))
    assert torch.equal(first.noise, again.noise)
    assert first.prefixes == again.prefixes
    for other in (
        draw("r2", 9, seed=4, epoch=2, prefixes=4),
        draw("r1", 9, seed=5, epoch=2, prefixes=4),
        draw("r1", 9, seed=4, epoch=3, prefixes=4),
    ):
        assert not torch.equal(first.noise, other.noise)
    assert sorted(shuffled_order(50, seed=1, epoch=1)) == list(range(50))
    assert shuffled_order(50, seed=1, epoch=1) != shuffled_order(50, seed=1, epoch=2)
