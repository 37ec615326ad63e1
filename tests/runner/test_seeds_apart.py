"""What a diff says where two runs are one recipe under two seeds, where they are not quite, and which tests are one family."""

from __future__ import annotations

import pytest
from kpod_school import pupil

from kpod.runner.cli import main
from kpod.runner.comparing.diff import diff
from kpod.runner.comparing.page import page_text
from kpod.runner.seeds import Method, siblings
from tests.chain import Chain
from tests.runner.test_seeds import run_seeds, school


def test_a_run_of_the_same_recipe_with_other_code_is_no_sibling_and_a_diff_says_so(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run_seeds(chain, [0, 1])
    monkeypatch.setattr(pupil.Pupil, "version", 2)
    third, fourth = run_seeds(chain, [2, 3])

    assert list(siblings(first, chain.runs).by_seed) == [0, 1]
    assert siblings(first, chain.runs).left_out == (2, 3)
    assert main(["diff", first.name, third.name, "--runs", str(chain.runs)]) == 0
    told = capsys.readouterr().out
    assert "nothing but the seed" not in told
    assert "share no seed: no claim, 5 seeds needed; seeds 2, 3 were made from other data, code or libraries and are left out" in told  # fmt: skip
    assert main(["diff", third.name, fourth.name, "--runs", str(chain.runs)]) == 0
    told = capsys.readouterr().out
    assert "nothing but the seed: over 2 seeds" in told
    assert "seeds 0, 1 were made from other data" in told


def test_two_runs_of_one_seed_are_not_called_two_seeds(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = run_seeds(chain, [0, 0])

    assert main(["diff", first.name, again.name, "--runs", str(chain.runs)]) == 0
    told = capsys.readouterr().out

    assert "nothing but the seed" not in told
    assert told.count("one recipe under one seed, made from the same things; no winner is named") == 3  # fmt: skip


def test_the_methods_of_a_diff_are_corrected_for_being_many_but_for_the_primary_one(
    chain: Chain,
) -> None:
    *_, a = run_seeds(chain, range(5))
    other = school()
    for name in ("short", "long", "middle"):
        other["stages"][name]["with"]["epochs"] += 1
    *_, b = run_seeds(chain, range(5), other)

    found = diff(a, b, runs=chain.runs)

    family = {
        score.name: method.result.family
        for score, method in zip(found.scores, found.methods, strict=True)
        if isinstance(method, Method) and method.result is not None
    }
    assert family == {"short": 2, "long": 1, "middle": 2}


def test_arms_that_say_the_same_in_both_runs_are_none_of_the_many(chain: Chain) -> None:
    (a,) = run_seeds(chain, [0])
    other = school()
    other["stages"]["middle"]["with"]["epochs"] = 6
    (b,) = run_seeds(chain, [0], other)

    found = {score.name: score for score in diff(a, b, runs=chain.runs).scores}

    assert found["short"].is_same_texts
    assert (found["middle"].family, found["middle"].p_holm) == (1, found["middle"].p)
    assert found["short"].p_holm is None
    assert found["short"].verdict == "the same answers, word by word"


def test_the_page_of_two_arms_begins_with_both_claims_and_says_what_the_recipe_is_about(
    chain: Chain,
) -> None:
    (run,) = run_seeds(chain, [0])
    about = page_text(diff(f"{run.name}:short", f"{run.name}:long", runs=chain.runs))
    other = page_text(diff(f"{run.name}:short", f"{run.name}:middle", runs=chain.runs))

    assert f'<span class="key">{run.name}:long</span>' in about
    first = about.partition("<h2>")[0]
    assert "these two students: B is the better student here." in first
    assert "The method: 1 seed: no claim about long against short, 5 seeds needed." in first
    assert "(what the recipe is about)" in about
    assert "(what the recipe is about)" not in other


def test_a_stage_with_another_name_and_the_same_result_is_the_same(chain: Chain) -> None:
    (a,) = run_seeds(chain, [0])
    renamed = school()
    renamed["stages"]["quick"] = renamed["stages"].pop("short")
    renamed["stages"]["scores"]["in"]["models"] = ["quick", "long", "middle"]
    renamed["compare"]["primary"] = ["quick", "long"]
    (b,) = run_seeds(chain, [0], renamed)

    found = diff(a, b, runs=chain.runs)

    assert {stage.status for stage in found.stages} == {"same"}
    assert "short / quick" in [stage.unit for stage in found.stages]
    assert [row[0] for row in found.values if row[0].startswith("stages.quick")] == [
        "stages.quick.uses",
        "stages.quick.with.epochs",
    ]
