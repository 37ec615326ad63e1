"""The answer predictor: it sees what is kept and nothing else, and its gradient reaches the weights through the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from kpod.stages._lm.embeddings import input_embeddings
from kpod.stages.weighting._draws import Draw, draw
from kpod.stages.weighting._items import Item
from kpod.stages.weighting._layouts import separate
from kpod.stages.weighting._objective import Module, Objective, losses
from kpod.stages.weighting._training import EpochTally
from tests.stages.weighting_models import fresh, predictor_files

KINDS = ("copy", "llama", "t5")
OBJECTIVE = Objective(
    alpha=0.5, temperature=1.0, samples="hard", mask_on="plain", normalise="per_dataset", mean_tokens=20.0,
)  # fmt: skip


def draws_of(items: Sequence[Item], prefixes: int | None = 4) -> list[Draw]:
    return [draw(item.id, item.num_tokens, seed=1, epoch=1, prefixes=prefixes) for item in items]


def nats(module: Module, items: list[Item], vectors: torch.Tensor, keep: torch.Tensor, ks: list[list[int]]) -> torch.Tensor:  # fmt: skip
    with torch.no_grad():
        return module.predictor.answer_nats(items, module.predictor.show(vectors, keep), ks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask_vector", ["learned", "zero"])
def test_statement_04_nothing_passes_a_masked_token(kind: str, mask_vector: str) -> None:
    """With all m = 0 the answer does not depend on the rationale; with m_j = 0 not on token j."""
    module, items = fresh(kind, mask_vector=mask_vector)
    weighed, is_token = module.weigh(items)
    ks = [list(range(1, item.num_tokens + 1)) for item in items]
    vectors, other = weighed.plain_BND, torch.randn_like(weighed.plain_BND)
    nothing = torch.zeros_like(weighed.logits_BN)

    assert torch.equal(nats(module, items, vectors, nothing, ks), nats(module, items, other, nothing, ks))  # fmt: skip

    odd = (torch.arange(is_token.shape[1]) % 2).expand_as(nothing).float()
    swapped = torch.where(odd.bool()[..., None], vectors, other)
    assert torch.equal(nats(module, items, vectors, odd, ks), nats(module, items, swapped, odd, ks))
    everything = torch.ones_like(nothing)
    assert not torch.allclose(nats(module, items, vectors, everything, ks), nats(module, items, swapped, everything, ks))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_statement_04_nothing_passes_the_end_of_a_prefix(kind: str) -> None:
    module, items = fresh(kind, count=1)
    weighed, is_token = module.weigh(items)
    everything, length = is_token.float(), items[0].num_tokens
    ks = [list(range(1, length + 1))]
    before = nats(module, items, weighed.plain_BND, everything, ks)
    for k in range(length):
        changed = weighed.plain_BND.clone()
        changed[0, k:] = torch.randn_like(changed[0, k:])
        after = nats(module, items, changed, everything, ks)
        # 1e-5: another shape of the same sum may round otherwise; a leak moves whole tenths.
        assert torch.allclose(after[:k], before[:k], atol=1e-5)
        assert abs(float(after[k] - before[k])) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", ["hard", "soft"])
def test_statement_04_and_mistake_8_1_01_the_answers_gradient_reaches_the_weight_generator(
    kind: str, samples: Any
) -> None:
    module, items = fresh(kind)
    parts = losses(module, items, draws_of(items), replace(OBJECTIVE, samples=samples))  # fmt: skip
    parts.nats_G.sum().backward()  # L_p alone, without L_m
    for name, value in module.weighter.layers.items():
        assert value.grad is not None, name
        assert float(value.grad.abs().max()) > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_statement_05_the_predictor_is_any_model_and_all_of_it_is_trained(kind: str) -> None:
    module, items = fresh(kind)
    losses(module, items, draws_of(items), OBJECTIVE).total(0.5).backward()
    untouched = {
        name for name, value in module.predictor.parameters.items() if value.grad is None or not value.grad.abs().max()
    }  # fmt: skip
    assert untouched == set()
    has_projection = "bridge.projection" in module.predictor.parameters
    assert has_projection == (kind != "copy")


def test_statement_05_by_default_the_predictor_is_a_copy_of_the_student() -> None:
    module, _ = fresh()
    own = module.predictor.parts.inner.get_input_embeddings().weight
    assert torch.equal(own, input_embeddings(predictor_files("copy").student))


@pytest.mark.parametrize("kind", ["copy", "llama"])
def test_a_packed_row_equals_one_plain_sequence_a_prefix(kind: str) -> None:
    """Against transformers' own forward pass on [question][prefix][connective and answer], one sequence at a time."""
    module, items = fresh(kind)
    weighed, _ = module.weigh(items)
    keep = torch.bernoulli(torch.full_like(weighed.logits_BN, 0.6), generator=torch.Generator().manual_seed(2))  # fmt: skip
    ks = [[1, item.num_tokens // 2, item.num_tokens] for item in items]
    model = module.predictor.parts.inner
    with torch.no_grad():
        seen = module.predictor.show(weighed.plain_BND, keep)
        packed = module.predictor.answer_nats(items, seen, ks)
        expected = []
        for b, item in enumerate(items):
            embed = model.get_input_embeddings()
            for k in ks[b]:
                question, tail = (embed(torch.tensor(ids)) for ids in (item.question_ids, item.tail_ids))  # fmt: skip
                logits = model(inputs_embeds=torch.cat([question, seen[b, :k], tail])[None]).logits[0]  # fmt: skip
                scores = logits[-item.num_answer - 1 : -1].log_softmax(-1)
                expected.append(-float(sum(scores[t, token] for t, token in enumerate(item.answer_ids))))  # fmt: skip
    assert module.predictor.is_packed
    assert torch.allclose(packed, torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("kind", ["copy", "llama"])
def test_rows_for_every_prefix_give_what_packed_rows_give(kind: str) -> None:
    module, items = fresh(kind)
    weighed, is_token = module.weigh(items)
    seen = module.predictor.show(weighed.plain_BND, is_token.float())
    ks = [[2, item.num_tokens] for item in items]
    with torch.no_grad():
        packed = module.predictor.answer_nats(items, seen, ks)
        layout = separate(items, ks, width=seen.shape[1], device=seen.device, encoder=None)
        assert torch.allclose(module.predictor._nats(layout, seen), packed, atol=1e-5)


def test_a_model_that_ignores_the_mask_is_noticed_and_read_row_by_row() -> None:
    module, items = fresh()
    seen = module.predictor.show(module.weigh(items[:1])[0].plain_BND, torch.ones(1, items[0].num_tokens))  # fmt: skip
    assert module.predictor.choose_layout(items[0], seen)
    decoder = module.predictor.parts.inner.get_decoder()
    forward = decoder.forward
    decoder.forward = lambda **kwargs: forward(**{**kwargs, "attention_mask": None})
    assert not module.predictor.choose_layout(items[0], seen)
    layout = module.predictor.layout(items, [[1, 2]] * len(items), width=40)
    assert layout.allowed is None


def test_an_encoder_reads_question_prefix_and_end_and_the_decoder_connective_and_answer() -> None:
    module, items = fresh("t5")
    weighed, _ = module.weigh(items)
    seen = module.predictor.show(weighed.plain_BND, torch.ones_like(weighed.logits_BN))
    model = module.predictor.parts.inner
    ks = [[1, item.num_tokens] for item in items]
    with torch.no_grad():
        actual = module.predictor.answer_nats(items, seen, ks)
        expected = []
        for b, item in enumerate(items):
            for k in ks[b]:
                embed = model.get_input_embeddings()
                question, end = embed(torch.tensor(item.question_ids)), embed(torch.tensor([2]))
                logits = model(
                    inputs_embeds=torch.cat([question, seen[b, :k], end])[None],
                    decoder_input_ids=torch.tensor([[0, *item.tail_ids[:-1]]]),
                ).logits[0]  # fmt: skip
                # An encoder-decoder's logits stand where their targets stand.
                scores = logits.log_softmax(-1)[-item.num_answer :]
                expected.append(-float(sum(scores[t, token] for t, token in enumerate(item.answer_ids))))  # fmt: skip
    assert torch.allclose(actual, torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_statement_06_and_07_with_all_prefixes_the_loss_is_eq_7_written_out(kind: str) -> None:
    """L_k = sum over prefixes of the answer's nats + alpha * kept tokens, over mean |r|; padding counts for nothing."""
    module, items = fresh(kind)
    mean_tokens = sum(item.num_tokens for item in items) / len(items)
    objective = replace(OBJECTIVE, mean_tokens=mean_tokens)
    draws = draws_of(items, None)
    with torch.no_grad():
        actual = losses(module, items, draws, objective).total(0.7)
        expected = 0.0
        for item, one in zip(items, draws, strict=True):
            alone = losses(module, [item], [one], objective)
            assert alone.kept_BN.shape == (1, item.num_tokens)
            expected += float(alone.nats_G.sum() + 0.7 * alone.kept_BN.sum()) / mean_tokens
    assert float(actual) == pytest.approx(expected, rel=1e-4)


def test_statement_07_alpha_is_one_half_by_default() -> None:
    from kpod.stages.weighting.mask_learning import Config

    assert Config().alpha == 0.5


def test_mistake_8_1_03_the_balance_of_answer_and_mask_does_not_move_with_length() -> None:
    """Twice the tokens at the same nats and the same share kept: both parts double, their ratio stays."""
    from kpod.stages.weighting._objective import Losses

    def parts(length: int) -> tuple[float, float]:
        one = Losses(
            torch.full((4,), 2.0), torch.zeros(4, dtype=torch.long), torch.ones(1, length),
            torch.tensor([length / 10]), torch.tensor([float(length)]),
        )  # fmt: skip
        return float(one.total(0.0)), float(one.total(0.5)) - float(one.total(0.0))

    (short_p, short_m), (long_p, long_m) = parts(10), parts(20)
    assert long_p == pytest.approx(2 * short_p)
    assert long_m == pytest.approx(2 * short_m)


def test_per_rationale_all_rationales_count_alike() -> None:
    objective = replace(OBJECTIVE, normalise="per_rationale")
    _, items = fresh(count=3)
    assert {objective.share(item) for item in items} == {1.0}
    assert OBJECTIVE.share(items[2]) == items[2].num_tokens / 20.0


def test_answers_are_told_by_quarter_of_the_prefix() -> None:
    module, items = fresh(count=1)
    item = items[0]
    tally, draws = EpochTally(), draws_of(items, None)
    with torch.no_grad():
        parts = losses(module, items, draws, OBJECTIVE)
    tally.add(items, draws, parts)
    n = item.num_tokens
    last = [float(parts.nats_G[k - 1]) for k in range(1, n + 1) if k / n > 0.75]
    assert tally.quarters[3] == pytest.approx(sum(last) / len(last), rel=1e-5)
    assert sum(tally.prefixes) == n
    assert tally.kept == float(parts.kept_BN.sum())


@pytest.mark.parametrize(("mask_on", "leaks"), [("plain", False), ("contextual", True)])
def test_mistake_8_1_01_masking_what_attention_made_lets_one_kept_token_tell_of_all_others(
    mask_on: Any, leaks: bool
) -> None:
    """Only the first token is kept and only a masked one is changed: the plain form hears nothing of it."""
    module, (item,) = fresh(count=1)
    with torch.no_grad():
        # The first token is kept and all others are masked, whatever the embeddings are.
        module.weighter.layers["mlp.1.weight"].zero_()
    noise = torch.full((item.num_tokens,), -50.0)
    noise[0] = 50.0
    objective = replace(OBJECTIVE, mask_on=mask_on)

    def told(one: Item) -> torch.Tensor:
        with torch.no_grad():
            return losses(module, [one], [Draw(noise, (1, item.num_tokens))], objective).nats_G

    swapped = replace(item, token_ids=(*item.token_ids[:5], item.token_ids[0], *item.token_ids[6:]))
    assert swapped.token_ids[5] != item.token_ids[5]
    change = (told(item) - told(swapped)).abs()
    assert bool((change > 1e-3).all()) is leaks
    assert bool((change == 0).all()) is not leaks
