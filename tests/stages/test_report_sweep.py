"""The page of a sweep: what several seeds allow to say of two methods, and that it says no more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import KpodError
from kpod.runner.archive import Archive
from kpod.stages.report._forest import axis_of
from kpod.stages.report._matrix import seeds_command
from kpod.stages.report._verdict import claim_of, verdict_of
from kpod.stages.report._versus import Difference, Versus
from kpod.stages.report.html import Config, Html
from tests.stages.report_pages import FakeRun, Page, scored_run
from tests.stages.report_runs import sweep_runs

BETTER = {"standard": [40, 41, 38, 42, 39, 40], "tokens": [41, 40, 40, 41, 39, 42], "kpod": [44, 43, 42, 46, 41, 43]}  # fmt: skip


def swept(
    folder: Path, scores: Mapping[str, Sequence[int]], *, primary: Sequence[str] = ("standard", "kpod")
) -> tuple[Page, dict[str, Any]]:  # fmt: skip
    """The page and the facts of a sweep."""
    return render_sweep(sweep_runs(folder, scores, primary=primary), folder / "sweep")


def render_sweep(archives: Sequence[Archive], folder: Path) -> tuple[Page, dict[str, Any]]:
    """The page and the facts."""
    folder.mkdir(exist_ok=True)
    Html().render_sweep(archives, folder, Config())
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return Page((folder / "report.html").read_text(encoding="utf-8")), facts


def plain(text: str) -> str:
    """Without the spaces that hold a number and its unit together."""
    return text.replace("\u00a0", " ")


def versus(
    differences: Sequence[float], *, low: float, high: float, is_claim: bool = False, family: int = 1
) -> Versus:  # fmt: skip
    """A comparison with these figures."""
    return Versus(
        baseline="a", other="b", is_primary=True,
        differences=tuple(Difference(seed, value) for seed, value in enumerate(differences)),
        mean=mean(differences), sd=0.01, low=low, high=high, p_t=0.03, p_holm=0.03, p_flip=0.06, is_exact=True, p_flip_holm=0.06, family=family,
        is_claim=is_claim, needed=5, sentence="",
    )  # fmt: skip


@pytest.fixture(name="better", scope="module")
def better_fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, dict[str, Any]]:
    return swept(tmp_path_factory.mktemp("better"), BETTER)


def test_a_method_that_wins_under_every_seed_is_called_better_with_its_interval(
    better: tuple[Page, dict[str, Any]],
) -> None:
    page, facts = better
    claim = plain(facts["verdict"]["claim"])
    assert claim.startswith("kpod is better than standard by 5.28 points, ")
    assert claim.endswith("95 % t interval [+3.56, +7.00], n = 6 seeds.")
    assert claim in plain(page.text)


def test_scores_are_told_by_seed_and_arm_with_mean_and_sd(
    better: tuple[Page, dict[str, Any]],
) -> None:
    page, facts = better
    (test_set,) = facts["sets"]
    assert [arm["name"] for arm in test_set["arms"]] == ["standard", "kpod", "tokens"]
    for arm in test_set["arms"]:
        accuracies = [right / 60 for right in BETTER[arm["name"]]]
        assert [share["count"] for share in arm["scores"]] == BETTER[arm["name"]]
        assert arm["mean"] == pytest.approx(mean(accuracies))
        assert arm["sd"] == pytest.approx(stdev(accuracies))
    assert test_set["sizes"] == [60]
    assert "73.3 % [61.0, 82.9]" in plain(page.text)


def test_the_comparison_of_the_recipe_comes_first_and_all_others_have_the_same_baseline(
    tmp_path: Path,
) -> None:
    page, facts = swept(tmp_path, {**BETTER, "random": BETTER["tokens"]})
    told = [(row["baseline"], row["other"], row["is_primary"], row["family"]) for row in facts["comparisons"]]  # fmt: skip
    assert told == [
        ("standard", "kpod", True, 1), ("standard", "tokens", False, 2), ("standard", "random", False, 2),
    ]  # fmt: skip
    first, second = facts["comparisons"][:2]
    assert first["p_flip"] == first["p_flip_holm"] == pytest.approx(2 / 64)
    assert second["p_flip_holm"] == pytest.approx(min(1.0, 2 * second["p_flip"]))
    assert second["p_holm"] == pytest.approx(min(1.0, 2 * second["p_t"]))
    assert [each["value"] if isinstance(each, dict) else each[1] for each in first["differences"]] == pytest.approx(
        [(b - a) / 60 for a, b in zip(BETTER["standard"], BETTER["kpod"], strict=True)]
    )  # fmt: skip
    assert "no winner" in page.text


def test_below_five_seeds_no_claim_is_made_however_clear_it_looks(tmp_path: Path) -> None:
    page, facts = swept(tmp_path, {"standard": [20, 21, 20, 21], "kpod": [50, 51, 50, 52]})
    claim = plain(facts["verdict"]["claim"])
    assert claim.startswith("No claim about kpod against standard: 5 seeds are needed. So far ")
    assert claim.endswith("n = 4 seeds.")
    assert "is better" not in page.text


def test_an_interval_that_holds_zero_names_no_winner(tmp_path: Path) -> None:
    page, facts = swept(tmp_path, {"standard": [30, 32, 31, 33, 30], "kpod": [31, 30, 33, 32, 31]})
    assert plain(facts["verdict"]["claim"]).startswith("No winner between standard and kpod: ")
    assert "is better" not in page.text


def test_one_seed_has_neither_spread_nor_interval(tmp_path: Path) -> None:
    page, facts = swept(tmp_path, {"standard": [30], "kpod": [40]})
    assert plain(facts["verdict"]["claim"]).endswith(
        "So far kpod − standard is +16.67 points, without an interval, n = 1 seed."
    )
    assert (facts["comparisons"][0]["sd"], facts["sets"][0]["arms"][0]["sd"]) == (None, None)
    assert "None" not in page.text


def test_the_p_that_decides_stands_beside_what_it_decides(tmp_path: Path) -> None:
    # With 5 seeds no sign-flip p is below 0.0625: a page that shows it alone contradicts its own winner.
    page, facts = swept(tmp_path, {"standard": [30, 32, 31, 33, 30], "kpod": [40, 41, 42, 43, 39]})
    row = facts["comparisons"][0]
    assert (row["is_claim"], row["p_flip"]) == (True, pytest.approx(0.0625))
    assert row["p_t"] < 0.001
    assert "kpod is better" in page.text
    assert "p < 0.001 flips p = 0.062" in " ".join(plain(page.text).split())


def test_the_command_of_a_sweep_has_the_settings_that_it_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    (folder / "001").mkdir(parents=True)
    rows = [{"folder": "001", "settings": ["stages.kpod.with.epochs=2"]}]
    told = {"settings": ["stages.questions.with.limit={train: 9}"], "matrix": {"rows": rows}}
    (folder / "sweep.json").write_text(json.dumps(told), encoding="utf-8")
    whole = "kpod sweep r.yaml --set 'stages.questions.with.limit={train: 9}'"

    assert seeds_command(folder, recipe="r.yaml", seeds=[0, 1]) == f"{whole} seed=0,1"
    assert seeds_command(folder / "001", recipe="r.yaml", seeds=[0, 1]) == (
        f"{whole} --set stages.kpod.with.epochs=2 seed=0,1"
    )
    assert seeds_command(tmp_path, recipe="r.yaml", seeds=[3]) == "kpod sweep r.yaml seed=3"


def test_a_recipe_that_names_no_comparison_gets_no_answer(tmp_path: Path) -> None:
    _, facts = swept(tmp_path, BETTER, primary=())
    assert facts["verdict"]["claim"] == (
        "3 arms over 6 seeds; the recipe names no comparison, so none is answered here."
    )
    assert {row["is_primary"] for row in facts["comparisons"]} == {False}
    assert {row["family"] for row in facts["comparisons"]} == {2}


def test_a_single_arm_has_a_spread_and_no_comparison(tmp_path: Path) -> None:
    page, facts = swept(tmp_path, {"standard": [30, 31]}, primary=())
    assert facts["verdict"]["claim"] == "One arm over 2 seeds: there is nothing to compare it with."
    assert 'id="comparisons"' not in page.html


def test_runs_without_an_evaluation_are_listed(tmp_path: Path) -> None:
    archives = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        run = FakeRun(folder=tmp_path / str(seed), seed=seed)
        run.add("q", "data.table", {"test": []})
        archives.append(run.finish())
    page, facts = render_sweep(archives, tmp_path / "sweep")
    assert facts["verdict"]["claim"] == "No score: 2 seeds, and nothing was evaluated."
    assert [row["seed"] for row in facts["runs"]] == [0, 1]
    assert "kpod sweep recipes/sums.yaml seed=0,1" in page.html


def test_what_each_arm_took_is_a_mean_over_seeds_and_a_multiple_of_the_baseline(
    better: tuple[Page, dict[str, Any]],
) -> None:
    page, facts = better
    costs = {row["name"]: row for row in facts["costs"]}
    assert (facts["baseline"], costs["standard"]["ratios"]) == ("standard", None)
    assert (costs["kpod"]["num_seeds"], costs["kpod"]["target_tokens"]) == (6, 5000)
    assert costs["kpod"]["ratios"]["target_tokens"] == pytest.approx(5 / 6)
    assert "multiples of standard" in page.text


def test_the_page_links_to_its_runs_and_fetches_nothing(
    better: tuple[Page, dict[str, Any]],
) -> None:
    page, facts = better
    links = [to for to in page.fetched if not to.startswith(("#", "data:,", "report.json"))]
    assert links == [f"../run-{seed}/report.html" for seed in range(6)]
    assert [row["link"] for row in facts["runs"]] == links
    assert not {"script", "img", "iframe", "object"} & set(page.tags)
    assert "url(" not in page.html


def test_hostile_descriptions_stay_text_and_equal_sweeps_give_equal_bytes(tmp_path: Path) -> None:
    archives = sweep_runs(tmp_path, {"a": [3, 4], "b": [4, 5]}, primary=["a", "b"])
    path = archives[0].folder / "resolved.yaml"
    path.write_text(path.read_text().replace('description: ""', "description: <script>x</script>"))
    pages = [render_sweep(archives, tmp_path / "sweep")[0] for _ in range(2)]
    assert "<script>x</script>" in pages[0].text
    assert "script" not in pages[0].tags
    assert pages[0].html == pages[1].html


def test_a_run_that_did_not_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "torn").mkdir()
    done = scored_run(tmp_path / "done", {"a": 30})
    with pytest.raises(KpodError, match="did not come to its end"):
        Html().render_sweep([done, Archive(tmp_path / "torn")], tmp_path, Config())


def test_a_claim_that_the_correction_takes_back_says_so() -> None:
    row = versus([0.01] * 6, low=0.001, high=0.02, family=3)
    assert plain(claim_of(row)).startswith(
        "No winner between a and b once corrected for 3 comparisons: b − a is +1.00 points, "
    )


def test_a_baseline_that_wins_is_called_better() -> None:
    row = versus([-0.02] * 6, low=-0.03, high=-0.01, is_claim=True)
    assert plain(claim_of(row)).startswith(
        "a is better than b by 2.00 points, 95 % t interval [+1.00, +3.00], "
    )


def test_several_primary_comparisons_are_all_told() -> None:
    rows = [versus([0.02] * 6, low=0.01, high=0.03, is_claim=True, family=2), versus([0.0] * 6, low=-0.01, high=0.01, family=2)]  # fmt: skip
    verdict = verdict_of(rows, num_seeds=6, num_arms=3)
    assert verdict.claim.startswith("b is better than a")
    assert verdict.details[0].startswith("No winner between a and b")


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_every_seed_stands_on_the_axis_and_0_in_its_middle(differences: list[float]) -> None:
    row = versus(differences, low=-3.0, high=3.0)
    axis = axis_of([row])
    tree = axis.tree(row)
    assert all(0 <= mark.x <= 100 for mark in tree.seeds)
    assert (tree.low, tree.high) == (0.0, 100.0)
    assert axis.tree(versus([0.0], low=0.0, high=0.0)).mean == 50
