"""What would run, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kpod.runner import KpodError, MissingExtra
from kpod.runner.outside import SourceMissing
from kpod.runner.registry import find_stage
from kpod.runner.selection import downstream_of, needed_for
from tests.chain import Chain, recipe, seven, step


def plan_of(chain: Chain, plain: object = None, **options: object) -> dict[str, tuple[str, str]]:
    """Status and reason by unit."""
    session = chain.session(plain, **options)  # type: ignore[arg-type]
    return {a.unit.name: (a.status, a.reason) for a in session.planner.plan(forced=session.forced)}


def test_before_the_first_run_the_first_stage_runs_and_the_rest_depends_on_it(
    chain: Chain,
) -> None:
    found = plan_of(chain, seven())

    assert found["s1"] == ("run", "no earlier result")
    assert found["s2"] == ("run?", "depends on s1")
    assert found["s7[s6]"] == ("run?", "depends on s6")


def test_planning_writes_no_archive_and_no_entry(chain: Chain) -> None:
    plan_of(chain, seven())

    assert list(chain.runs.glob("*/run.json")) == []
    assert not (chain.store / "entries").exists()


def test_the_plan_follows_hits_as_far_as_contents_are_known(chain: Chain) -> None:
    chain.run(seven())

    found = plan_of(chain, seven(s4={"add": 7}))

    assert found["s3"] == ("hit", "")
    assert found["s4"] == ("run", "config changed: add 1 -> 7")
    assert found["s5"] == ("run?", "depends on s4")


def test_a_result_that_is_gone_is_told(chain: Chain) -> None:
    key = chain.run(seven()).archive.units["s3"].manifest.key
    chain.session().store.remove(key)

    assert plan_of(chain)["s3"] == ("run", "its result is no longer in the store")


def test_an_interrupted_stage_is_told(chain: Chain) -> None:
    chain.write(seven(s4={"die_at": 1}))
    chain.kpod("run", "recipe.yaml")

    assert plan_of(chain)["s4"] == ("run", "was interrupted; continues")


def test_force_and_from_run_stages_that_are_stored(chain: Chain) -> None:
    chain.run(seven())

    assert plan_of(chain, force=["s3"])["s3"] == ("run", "forced")
    assert plan_of(chain, force=["s3"])["s2"] == ("hit", "")
    found = plan_of(chain, from_stage="s5")
    assert tuple(found[name][0] for name in ("s4", "s5", "s6")) == ("hit", "run", "run?")


def test_every_missing_file_is_told_at_once(chain: Chain) -> None:
    plain = recipe(
        a={"uses": "chain.numbers", "with": {"path": "a.txt"}},
        b={"uses": "chain.numbers", "with": {"path": "b.txt"}},
    )

    with pytest.raises(KpodError, match=r"(?s)a\.txt.*b\.txt.*nothing was run"):
        plan_of(chain, plain)


def test_until_keeps_a_stage_and_all_that_it_reads(chain: Chain) -> None:
    whole = chain.session(
        recipe(a={"uses": "chain.numbers"}, b=step("a", "b"), c=step("a", "c"), page={"uses": "chain.page"})
    ).recipe  # fmt: skip

    assert list(needed_for(whole, "c").stages) == ["a", "c"]
    assert needed_for(whole, "c").views == {}
    assert {"a", "b", "c"} == downstream_of(whole, "a")
    with pytest.raises(KpodError, match=r"no stage has the id 'd'\nallowed: a, b, c"):
        needed_for(whole, "d")


def test_the_plan_as_json_names_units_keys_and_reasons(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    from kpod.runner.cli import main

    path = str(chain.write(seven()))

    assert main(["plan", path, "--json", "--runs", str(chain.runs)]) == 10
    rows = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in rows] == ["s1", "s2", "s3", "s4", "s5", "s6", "s7[s6]"]
    assert (len(rows[0]["key"]), rows[1]["key"]) == (64, None)


def test_a_stage_of_many_elements_waits_for_all_of_them(chain: Chain) -> None:
    plain = recipe(
        a={"uses": "chain.numbers"},
        b=step("a", "b"),
        c={"uses": "chain.count", "in": {"questions": ["a", "b"]}},
    )
    chain.run(plain)

    found = plan_of(chain, recipe(**{**plain["stages"], "b": step("a", "b", add=3)}))

    assert (found["c[a]"][0], found["c[b]"][0]) == ("hit", "run?")


def test_libraries_that_are_not_installed_are_all_told_before_anything_runs(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_installed(config: Any) -> None:
        if config.add == 7:
            raise MissingExtra("scope", extra="trackers", needed_by="chain.step add: 7")

    chain.run(seven(s2={"add": 7}))
    executed = chain.journal.read_text(encoding="utf-8")
    monkeypatch.setattr(find_stage("chain.step"), "check_installed", check_installed)

    with pytest.raises(SourceMissing) as caught:
        chain.run(seven(s1={"count": 6}, s2={"add": 7}, s4={"add": 7}))

    assert str(caught.value).count('pip install "kpod[trackers]"') == 2
    for stage in ("s2", "s4"):
        assert f"stages.{stage}\n  chain.step add: 7 needs the library scope" in str(caught.value)
    assert str(caught.value).endswith("nothing was run")
    assert chain.journal.read_text(encoding="utf-8") == executed
    assert plan_of(chain, seven(s2={"add": 7}))["s2"] == ("hit", "")
