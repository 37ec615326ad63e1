"""Runs of one recipe under several seeds: who is a sibling, and what a sweep and a diff say of methods."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kpod_chain import page
from kpod_school import exam, pupil

from kpod.runner import StageError
from kpod.runner.archive import Archive, find_run, list_runs
from kpod.runner.cli import main
from kpod.runner.commands import _seed_runs
from kpod.runner.document import dump
from kpod.runner.seeds import Series, compare_all, pair_by_seed, siblings
from tests.chain import Chain, recipe


def school(**changes: Any) -> dict[str, Any]:
    """Three pupils and their exam."""
    arms: dict[str, Any] = {
        name: {"uses": "school.pupil", "with": {"epochs": epochs}}
        for name, epochs in (("short", 2), ("long", 9), ("middle", 4))
    }
    arms["scores"] = {"uses": "school.exam", "in": {"models": list(arms)}}
    return {**recipe("school", **arms), "compare": {"primary": ["short", "long"]}, **changes}


def run_seeds(chain: Chain, seeds: Sequence[int], plain: dict[str, Any] | None = None) -> list[Archive]:  # fmt: skip
    """One run for each seed."""
    return [chain.run({**(plain or school()), "seed": seed}).archive for seed in seeds]


def sweep(chain: Chain, *words: str, plain: dict[str, Any] | None = None) -> int:
    """`kpod sweep` over the school."""
    path = chain.write(plain or school())
    return main(["sweep", str(path), *words, "--runs", str(chain.runs)])


def swept(chain: Chain) -> dict[str, Any]:
    """What the last sweep wrote."""
    folder = sorted(chain.runs.glob("*-sweep*"))[-1]
    facts: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return facts


def test_siblings_are_the_same_recipe_but_for_seed_and_placement(chain: Chain) -> None:
    first, second = run_seeds(chain, [0, 1])
    placed = chain.run({**school(seed=2), "placement": {"default": {"threads": 1}}}).archive
    chain.run(school(seed=3, description="another"))
    longer = school(seed=4)
    longer["stages"]["long"]["with"]["epochs"] = 8
    chain.run(longer)

    found = siblings(first, chain.runs)

    assert {seed: each.name for seed, each in found.by_seed.items()} == {
        0: first.name,
        1: second.name,
        2: placed.name,
    }


def test_of_two_runs_with_one_seed_the_newest_counts_and_unfinished_ones_do_not(
    chain: Chain,
) -> None:
    first, again, unfinished = run_seeds(chain, [0, 0, 1])
    (unfinished.folder / "run.json").unlink()

    assert {seed: each.name for seed, each in siblings(first, chain.runs).by_seed.items()} == {
        0: again.name
    }
    assert siblings(first, chain.folder / "nowhere").by_seed == {0: first}


def test_a_diff_of_two_arms_speaks_of_the_students_and_of_the_method_apart(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    run_seeds(chain, range(5))
    words = ["diff", "last:short", "last:long", "--runs", str(chain.runs)]

    assert main(words) == 0
    told = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["scores"]

    (students,) = [line for line in told.splitlines() if "these two students" in line]
    assert "right only in B, 0 right only in A; B less A +" in students
    assert "exact McNemar p < 0.0001; the same questions; B is the better student here" in students
    (method,) = [line for line in told.splitlines() if "the method, paired by seed" in line]
    assert "long is better than short: mean difference +" in method
    assert "n = 5 seeds" in method
    assert "A / B by seed: 0: 0." in told
    assert score["mcnemar_p"] < 1e-4
    assert score["method"]["result"]["n"] == 5
    assert score["method"]["result"]["p_flip"] == 2 / 32
    assert list(score["method"]["seeds"]) == ["0", "1", "2", "3", "4"]


def test_two_recipes_are_paired_over_the_seeds_that_both_have(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, a = run_seeds(chain, [0, 1, 2])
    longer = school()
    longer["stages"]["middle"]["with"]["epochs"] = 9
    *_, b = run_seeds(chain, [1, 2, 3], longer)

    assert main(["diff", a.name, b.name, "--runs", str(chain.runs)]) == 0
    told = capsys.readouterr().out.splitlines()

    (at,) = [number for number, line in enumerate(told) if line.startswith("  middle  A")]
    assert told[at + 2].startswith(
        "    the method, paired by seed: 2 seeds: no claim about B against A, 5 seeds needed: "
    )
    assert told[at + 3].startswith("      A / B by seed: 1: ")


def test_recipes_that_differ_in_the_seed_alone_have_a_spread_and_no_winner(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, a, b = run_seeds(chain, range(6))

    assert main(["diff", a.name, b.name, "--runs", str(chain.runs)]) == 0
    told = capsys.readouterr().out

    assert told.count("the two differ in nothing but the seed: over 6 seeds accuracy 0.") == 3
    assert told.count("no winner is named") == 3
    assert "better" not in told


def test_different_questions_allow_no_claim(chain: Chain) -> None:
    left = Series(name="a", evaluation="s", arm="a", accuracies={0: 0.5}, data={0: "x"})
    right = Series(name="b", evaluation="s", arm="b", accuracies={0: 0.6}, data={0: "y"})
    other = Series(name="b", evaluation="s", arm="b", accuracies={1: 0.6}, data={1: "x"})

    assert pair_by_seed(left, right).sentence == "no claim: a and b were asked different questions"
    assert pair_by_seed(left, other).sentence == "a and b share no seed: no claim, 5 seeds needed"


def test_each_evaluation_has_its_own_baseline_and_all_others_are_one_family() -> None:
    found = {
        f"{test}[{arm}]": Series(
            name=f"{test}[{arm}]", evaluation=test, arm=arm,
            accuracies={seed: share + seed / 100 * (arm == "c") for seed in range(5)}, data=dict.fromkeys(range(5), test),
        )
        for test in ("easy", "hard")
        for arm, share in (("a", 0.5), ("b", 0.6), ("c", 0.7))
    }  # fmt: skip

    primary, others = compare_all(found, ("b", "a"))

    assert [(method.a, method.b) for method in primary] == [("easy[b]", "easy[a]"), ("hard[b]", "hard[a]")]  # fmt: skip
    assert [(method.a, method.b) for method in others] == [("easy[b]", "easy[c]"), ("hard[b]", "hard[c]")]  # fmt: skip
    assert [method.result.family for method in others if method.result] == [2, 2]
    assert [(method.a, method.b) for method in compare_all(found, ()).others][:2] == [
        ("easy[a]", "easy[b]"),
        ("easy[a]", "easy[c]"),
    ]


def test_a_sweep_ends_in_the_comparisons_the_primary_first(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "seed=0..4") == 0
    told = capsys.readouterr().out
    facts = swept(chain)

    assert "; 3 of 5 seeds done" in told
    table, _, rest = told.partition("primary comparison, paired by seed (not corrected)")
    assert "accuracy, n = 200 questions, 5 seeds" in table
    assert rest.splitlines()[1] == "  short -> long"
    assert "other comparisons, paired by seed (not corrected)" in rest
    assert [method["b"] for method in facts["comparisons"]["primary"]] == ["long"]
    assert [method["b"] for method in facts["comparisons"]["others"]] == ["middle"]
    assert facts["comparisons"]["primary"][0]["result"]["n"] == 5
    assert [arm["name"] for arm in facts["arms"]] == ["short", "long", "middle"]


def test_the_folder_of_a_sweep_is_no_run(chain: Chain) -> None:
    assert sweep(chain, "seed=0,1") == 0
    (folder,) = chain.runs.glob("*-school-sweep")

    assert folder not in [archive.folder for archive in list_runs(chain.runs)]
    assert find_run("last", chain.runs).folder != folder


def test_a_sweep_run_again_makes_only_what_is_missing(chain: Chain) -> None:
    assert sweep(chain, "seed=0,1") == 0
    before = len(chain.executions())

    assert sweep(chain, "seed=0..2") == 0

    assert chain.executions()[before:] == ["pupil"] * 3 + ["exam"] * 3


def test_a_seed_that_fails_does_not_stop_the_others(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = pupil.Pupil.run, []

    def run(self: pupil.Pupil, ctx: Any) -> None:
        calls.append(ctx.seed)
        if len(calls) == 4:
            raise StageError("no luck with the second seed")
        real(self, ctx)

    monkeypatch.setattr(pupil.Pupil, "run", run)

    assert sweep(chain, "seed=0..2") == 3
    told = capsys.readouterr()

    assert "1 of 3 seeds failed: 1" in told.err
    assert "2 of 3 seeds done, 1 failed" in told.out
    assert list(swept(chain)["runs"]) == ["0", "2"]
    assert "no luck" in swept(chain)["failed"]["1"]


def test_a_view_that_can_is_asked_for_a_page_of_the_sweep(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render_sweep(_self: page.Page, archives: list[Archive], folder: Path, config: page.Config) -> None:  # fmt: skip
        (folder / "report.html").write_text(f"{len(archives)} {type(config).__name__}")

    plain = school()
    plain["stages"]["page"] = {"uses": "chain.page"}
    monkeypatch.setattr(page.Page, "render_sweep", render_sweep, raising=False)

    assert sweep(chain, "seed=0,1", plain=plain) == 0

    (folder,) = chain.runs.glob("*-sweep")
    assert (folder / "report.html").read_text(encoding="utf-8") == "2 Config"


def test_several_seeds_run_at_a_time_in_processes_of_their_own(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = str(Path(exam.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([plugin, os.environ.get("PYTHONPATH", "")]))

    assert sweep(chain, "seed=0,1", "--jobs", "2", "--set", "stages.middle.with.epochs=5") == 0
    assert "2 of 2 seeds done" in capsys.readouterr().out
    assert list(swept(chain)["runs"]) == ["0", "1"]

    unlucky = school()
    unlucky["stages"]["long"]["with"]["epochs"] = 13
    assert sweep(chain, "seed=5", "--jobs", "2", plain=unlucky) == 3
    assert "seed 5: stage scores[long] (school.exam)\n  13 epochs" in capsys.readouterr().err


def test_an_interrupted_sweep_stops_every_seed_and_is_continued_by_the_same_command(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_seed_runs.time, "sleep", interrupt)
        assert sweep(chain, "seed=0..3", "--jobs", "2") == 5

    assert "the same command continues it" in capsys.readouterr().err
    assert sweep(chain, "seed=0..3") == 0


def test_fewer_than_one_job_is_refused(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(chain, "seed=0", "--jobs", "0") == 2
    assert capsys.readouterr().err == "--jobs: got 0\nallowed: 1 or more\n"


def test_a_resolved_recipe_is_a_sibling_of_what_it_was_resolved_from(chain: Chain) -> None:
    (first,) = run_seeds(chain, [0])
    again = chain.run(dump({**first.resolved, "seed": 1})).archive

    assert {0: first.name, 1: again.name} == {
        seed: each.name for seed, each in siblings(again, chain.runs).by_seed.items()
    }
