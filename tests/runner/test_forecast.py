"""What `kpod plan` says that a run will ask for and pay."""

from __future__ import annotations

import json

import pytest

from kpod.runner.cli import main
from tests.chain import Chain
from tests.runner.test_ledger import priced


def plan(chain: Chain, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    path = chain.folder / "recipe.yaml"
    main(["plan", str(path), "--runs", str(chain.runs), *words])
    return capsys.readouterr().out


def test_a_stage_whose_inputs_are_not_made_is_named(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.write(priced(4))

    assert plan(chain, capsys).splitlines()[-1] == (
        "no forecast yet for said, which reads s1: `kpod run RECIPE --until s1` makes it"
    )


def test_texts_tokens_and_usd_are_told_and_then_their_sum(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(priced(4), until="s1")

    assert plan(chain, capsys, "--budget", "0.01").splitlines()[-2:] == [
        "said: 4 texts; 4,000 tokens in, 4,000 out; 0.0120 USD (upper bound)",
        "forecast: 0.0120 USD, more than the budget of 0.01 USD",
    ]
    assert not chain.executions()[1:]
    assert list((chain.store / "tmp").iterdir()) == []


def test_stored_texts_cost_nothing_and_their_usage_tells_what_others_cost(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(priced(4))
    chain.run(priced(10), until="s1")

    said = plan(chain, capsys).splitlines()

    assert said[-2:] == [
        "said: 10 texts, 4 of them stored; 6,000 tokens in, 3,000 out; 0.0120 USD (mean of 4 texts)",
        "forecast: 0.0120 USD",
    ]
    (row,) = [row for row in json.loads(plan(chain, capsys, "--json")) if row["unit"] == "said"]
    assert row["forecast"] == {
        "num_texts": 10, "num_stored": 4, "prompt_tokens": 6000, "completion_tokens": 3000, "usd": 0.012,
        "basis": "mean of 4 texts",
    }  # fmt: skip


def test_a_plan_with_nothing_to_do_forecasts_nothing(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(priced(4, refuses=["2"]))

    assert plan(chain, capsys).splitlines()[-1] == "2 of 2 from the store, 0 to run"
    assert "said: 4 texts, 3 of them stored" in plan(chain, capsys, "--retry", "refused")


def test_the_store_lists_what_each_endpoint_took(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(priced(4))
    main(["cache", "ls", "--runs", str(chain.runs)])
    said = capsys.readouterr().out.splitlines()

    (row,) = [line.split() for line in said if line.startswith("http://echo/v1")]
    assert row == ["http://echo/v1", "echo-1", "4", "4", "0", "0", "4,000", "2,000", "0.0080"]
    main(["cache", "gc", "--yes", "--runs", str(chain.folder / "other"), "--store", str(chain.store)])  # fmt: skip
    capsys.readouterr()
    main(["cache", "ls", "--runs", str(chain.runs)])
    assert "4 generated texts" in capsys.readouterr().out
