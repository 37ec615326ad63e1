"""What a command may spend: never more than its limit, whatever requests cost within what was reserved."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Budget, BudgetReached
from kpod.runner.budget import money
from kpod.runner.cli import main
from kpod.runner.errors import StageFailed
from tests.chain import Chain
from tests.runner.test_ledger import priced


def test_without_a_limit_everything_is_allowed_and_counted() -> None:
    budget = Budget()

    assert budget.reserve(1e6)
    budget.settle(1e6, 10.0)
    assert (budget.spent_usd, budget.left_usd) == (10.0, None)


def test_a_reservation_that_could_pass_the_limit_is_refused_until_another_is_settled() -> None:
    budget = Budget(1.0)

    assert budget.reserve(0.6)
    assert not budget.reserve(0.5)
    budget.settle(0.6, 0.1)
    assert budget.reserve(0.9)
    assert budget.left_usd == 0.0


@given(
    st.floats(0.01, 100), st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1)), max_size=60)
)  # fmt: skip
def test_no_order_of_requests_spends_more_than_the_limit(
    limit: float, requests: list[tuple[float, float]]
) -> None:
    budget, open_requests = Budget(limit), []
    for most, share in requests:
        if budget.reserve(most):
            open_requests.append((most, most * share))
        elif open_requests:
            budget.settle(*open_requests.pop(0))
    for reserved, spent in open_requests:
        budget.settle(reserved, spent)

    assert budget.spent_usd <= limit + 1e-9  # money is counted in whole billionths
    assert not budget.reserve(limit + 1e-6)


def test_tenths_add_up_to_the_limit_exactly() -> None:
    budget = Budget(0.3)

    assert [budget.reserve(0.1) for _ in range(4)] == [True, True, True, False]


def test_what_was_reached_is_told_with_its_limit() -> None:
    budget = Budget(0.5)
    budget.reserve(0.4)
    budget.settle(0.4, 0.25)

    assert str(budget.reached(done=3, total=1200)) == (
        "the budget of 0.50 USD is reached: 0.2500 USD spent by this command,"
        " and the next request could cost more than is left; 3 of 1,200 texts are there\n"
        "what is answered is stored; the same command continues, with a budget of its own"
    )


def test_a_run_stops_at_its_budget_and_the_next_one_continues(chain: Chain) -> None:
    # Each request reserves 0.003 USD and costs 0.002.
    with pytest.raises(BudgetReached, match=r"the budget of 0\.01 USD is reached: 0\.0080 USD"):
        chain.run(priced(9), budget_usd=0.01)
    with pytest.raises(BudgetReached, match="reached"):
        chain.run(budget_usd=0.005)
    done = chain.run(budget_usd=1.0)

    asked = [line for line in chain.lines() if line.startswith("ask:")]
    assert asked == [f"ask:{number}" for number in range(9)]
    assert done.archive.facts["spent"]["answered"] == 9 - 4 - 2


def test_the_command_exits_with_4_and_tells_what_it_spent(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chain.write(priced(9))

    code = main(["run", str(path), "--runs", str(chain.runs), "--budget", "0.01"])

    said = capsys.readouterr()
    assert code == 4
    assert "spent 0.0080 USD on 4 answered requests" in said.out
    assert "is reached" in said.out
    assert said.err.startswith(
        "the budget of 0.01 USD is reached: 0.0080 USD spent by this command"
    )
    ends = [line for path in chain.runs.glob("*/events.jsonl") for line in path.read_text().split("\n")[-2:-1]]  # fmt: skip
    assert json.loads(ends[0])["event"] == "run_interrupted"


def test_a_stage_without_a_price_does_not_start_under_a_budget(chain: Chain) -> None:
    with pytest.raises(StageFailed, match=r"with\.price"):
        chain.run(priced(3, price=None), budget_usd=1.0)
    assert not [line for line in chain.lines() if line.startswith("ask:")]


@pytest.mark.parametrize("given_usd", ["0", "-1", "nan", "inf", "much"])
def test_a_budget_is_an_amount_of_money(
    chain: Chain, capsys: pytest.CaptureFixture[str], given_usd: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "x.yaml", "--runs", str(chain.runs), f"--budget={given_usd}"])
    assert end.value.code == 2
    assert "allowed: USD above 0" in capsys.readouterr().err


def test_all_seeds_of_a_sweep_share_one_budget(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chain.write(priced(9))
    words = ["sweep", str(path), "seed=0..2", "--runs", str(chain.runs), "--budget", "0.01"]

    assert main(words) == 4
    asked = [line for line in chain.lines() if line.startswith("ask:")]
    assert len(asked) == 4
    assert main([*words, "--jobs", "2"]) == 2
    assert "cannot share one budget" in capsys.readouterr().err


def test_retrying_refused_texts_asks_for_those_alone_and_once(chain: Chain) -> None:
    first = chain.run(priced(4, refuses=["1", "3"]))
    again = chain.run(priced(4, refuses=["3"]))
    retried = chain.run(priced(4, refuses=["3"]), retry_refused=True)
    last = chain.run(priced(4), retry_refused=True)
    nothing_left = chain.run(priced(4), retry_refused=True)

    def refused(ran: Any) -> int:
        return int(ran.archive.units["said"].manifest.notes["refused"])

    assert [refused(ran) for ran in (first, again, retried, last, nothing_left)] == [2, 2, 1, 0, 0]
    assert retried.reasons["said"] == "2 refused texts are asked for again"
    asked = [line for line in chain.lines() if line.startswith("ask:")]
    assert asked[4:] == ["ask:1", "ask:3", "ask:3"]
    assert nothing_left.archive.units["said"].status == "hit"


@pytest.mark.parametrize(("usd", "said"), [(0.001, "0.001 USD"), (0.5, "0.50 USD"), (1234.5, "1,234.50 USD")])  # fmt: skip
def test_money_is_told_with_two_decimals_and_with_more_where_it_has_more(
    usd: float, said: str
) -> None:
    assert money(usd) == said
