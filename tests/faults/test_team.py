"""Several processes train what one trains, and stop together after the same step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Interrupted
from kpod.stages.student._loop import train
from kpod.stages.student._processes import assign, enough_groups, team_of
from kpod.stages.student._tally import Tally
from tests.ranks import together
from tests.stages.fakes import FakeContext, FakePlacement
from tests.stages.test_loop_training import EXAMPLES, fresh, training, weights

Trained = tuple[list[float], dict[str, torch.Tensor]]


def trained(
    root: Path, *, stop_at: int | None = None, micro_batch_tokens: int, method: str
) -> Trained:
    """The loss of every step that was told, and the weights at the end, as this process sees them."""
    student = fresh(dropout=0.0 if method == "lora" else None)
    ctx = FakeContext(config=None, root=root, stop_at=stop_at)
    team = team_of(FakePlacement(device="cpu"))
    told: list[float] = []

    class Told:
        def after(self, done: Any, tally: Tally) -> dict[str, float]:
            told.append(done.loss)
            return {}

    try:
        train(ctx, student, EXAMPLES, training(micro_batch_tokens=micro_batch_tokens), team=team, monitor=Told())  # type: ignore[arg-type]  # fmt: skip
    except Interrupted:
        told.append(-1.0)
    return told, weights(student)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "micro_batch_tokens"), [("lora", 4096), ("full", 40)])
def test_one_two_and_four_processes_train_the_same_though_steps_are_ragged(
    tmp_path: Path, method: str, micro_batch_tokens: int
) -> None:
    """Nine steps of 5, 5 and 2 examples: with four processes, two of them have nothing to do in each third step."""

    def work(rank: int) -> Trained:
        return trained(tmp_path / f"{size}", micro_batch_tokens=micro_batch_tokens, method=method)

    size = 1
    losses, expected = trained(
        tmp_path / "alone", micro_batch_tokens=micro_batch_tokens, method=method
    )
    for size in (2, 4):
        found = together(size, work, tmp_path)

        assert [len(told) for told, _ in found] == [len(losses)] * size
        assert found[0][0] == pytest.approx(losses, abs=1e-4)
        for name, value in expected.items():
            assert torch.allclose(value, found[0][1][name], atol=1e-4)
            assert all(torch.equal(found[0][1][name], own[name]) for _, own in found[1:])


def test_all_ranks_stop_after_the_same_step_and_go_on_from_one_checkpoint(tmp_path: Path) -> None:
    whole, expected = trained(tmp_path / "alone", micro_batch_tokens=40, method="lora")
    stop_at: int | None = 4

    def work(rank: int) -> Trained:
        own = stop_at if rank == 0 else None  # one rank alone hears the wish
        return trained(tmp_path / "two", stop_at=own, micro_batch_tokens=40, method="lora")

    stopped = together(2, work, tmp_path)
    stop_at = None
    resumed = together(2, work, tmp_path)

    assert stopped[0][0][-1] == stopped[1][0][-1] == -1.0
    assert len(stopped[0][0]) == len(stopped[1][0]) < len(whole)
    assert stopped[0][0][:-1] + resumed[0][0] == pytest.approx(whole, abs=1e-4)
    assert all(torch.allclose(expected[name], resumed[0][1][name], atol=1e-4) for name in expected)


groups_of_sequences = st.lists(
    st.lists(st.tuples(st.just(0) | st.integers(1, 9), st.integers(1, 99)), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


@given(grouped=groups_of_sequences, num=st.integers(1, 8))
def test_cut_groups_hold_every_sequence_once_in_order_and_leave_nobody_idle(
    grouped: list[list[tuple[int, int]]], num: int
) -> None:
    sides = [one for group in grouped for one in group]
    numbers = iter(range(len(sides)))
    groups = [[next(numbers) for _ in group] for group in grouped]

    cut = enough_groups(groups, sides, num=num)

    assert [index for group in cut for index in group] == list(range(len(sides)))
    assert all(cut)
    assert len(cut) == max(len(groups), min(num, len(sides)))
    assert cut == groups or len(groups) < num


@given(costs=st.lists(st.integers(1, 1000), min_size=1, max_size=30), num=st.integers(1, 8))
def test_the_load_of_every_rank_is_within_the_bound_of_longest_first(
    costs: list[int], num: int
) -> None:
    owners = assign(costs, num_ranks=num)

    loads = [
        sum(c for c, owner in zip(costs, owners, strict=True) if owner == rank)
        for rank in range(num)
    ]
    assert sum(loads) == sum(costs)
    assert len(costs) < num or min(loads) > 0
    assert max(loads) <= sum(costs) / num + max(costs)
