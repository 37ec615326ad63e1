"""The report of archives that are built by hand, and of a real run that evaluates nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kpod.runner import KpodError
from kpod.runner.archive import Archive
from kpod.stages.report.html import Config, Html
from tests.stages.report_pages import (  # noqa: F401 - fixtures are found by their names
    ROOT,
    Page,
    render,
    scored_run,
    three_arms_fixture,
)


def test_the_primary_arms_come_first_with_the_baseline_leading(three_arms: Archive) -> None:
    _, facts = render(three_arms)
    assert [arm["name"] for arm in facts["test_sets"][0]["arms"]] == ["standard", "kpod", "base"]
    assert [arm["training_s"] for arm in facts["test_sets"][0]["arms"]] == [75.0, 75.0, None]


def test_hostile_text_stays_text(three_arms: Archive) -> None:
    page, _ = render(three_arms)
    assert not {"img", "b", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 1, "the search, and nothing else"
    assert page.handlers == []
    assert "<script>alert('x')</script><img src=x onerror=alert(1)> {{ 7 * 7 }}" in page.text


def test_the_page_fetches_nothing(three_arms: Archive) -> None:
    page, _ = render(three_arms)
    outside = [to for to in page.fetched if not to.startswith(("#", "data:,", "report.json"))]
    assert outside == []
    assert "url(" not in page.html
    assert "@import" not in page.html


def test_every_percentage_of_the_page_has_its_count_and_interval(three_arms: Archive) -> None:
    page, _ = render(three_arms)
    cells = page.html.split("<td")
    bare = [cell for cell in cells if "\u00a0%" in cell.partition("</td>")[0] and "[" not in cell]
    assert bare == []


def test_journeys_mix_what_was_fixed_and_broken_and_mark_the_answer(three_arms: Archive) -> None:
    page, facts = render(three_arms)
    sample = facts["samples"][0]
    assert len(sample["journeys"]) == 12
    assert (sample["baseline"], sample["other"]) == ("standard", "kpod")
    assert {row["change"] for row in sample["journeys"]} == set(sample["sizes"])
    assert sum(sample["sizes"].values()) == 60
    said = sample["journeys"][0]["said"]
    assert [row["arm"] for row in said] == ["standard", "kpod", "base"]
    assert said[0]["text"]["answer"] == said[0]["answer"]
    assert "<mark>" in page.html


def test_the_sample_is_the_same_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    _, first = render(scored_run(tmp_path / "a", {"a": 20, "b": 40}))
    path = tmp_path / "a" / "stages" / "scores" / "a" / "predictions.jsonl"
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    _, second = render(Archive(tmp_path / "a"))
    assert second["samples"] == first["samples"]


def test_what_students_learned_is_shown_with_its_verdict(three_arms: Archive) -> None:
    page, facts = render(three_arms)
    assert [row["source"] for row in facts["taught"]] == ["verified"] * 4
    assert facts["taught"][0]["verdict"] == "correct"
    assert "60 read − 2 wrong − 1 arithmetic → 57 kept" in page.text


def test_what_the_store_saved_is_the_time_of_the_hits(three_arms: Archive) -> None:
    _, facts = render(three_arms)
    totals = facts["totals"]
    assert (totals["num_units"], totals["num_executed"]) == (9, 7)
    assert totals["saved_seconds"] == pytest.approx(12.4)
    assert totals["executed_cpu_seconds"] == pytest.approx(1.5 * (2 * 75 + 5))


def test_losses_are_drawn_from_numbers_and_from_objects_and_a_gap_where_one_is_not_finite(
    tmp_path: Path,
) -> None:
    noted = [{"loss": 2.0}, 1.5, float("nan"), 0.5, {"epoch": 5}, 0.25, 0.2]
    page, facts = render(scored_run(tmp_path, {"kpod": 9}, losses=noted))
    assert facts["students"][0]["losses"] == [2.0, 1.5, None, 0.5, None, 0.25, 0.2]
    assert page.tags.count("polyline") == 2


def test_students_without_losses_are_listed_without_a_chart(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"kpod": 9}, losses=None))
    assert facts["students"][0]["target_tokens"] == 12345
    assert page.tags.count("polyline") == 0


def test_a_typical_page_is_small_and_tells_how_to_run_again(three_arms: Archive) -> None:
    page, _ = render(three_arms)
    assert len(page.html.encode()) < 300_000
    assert f"kpod rerun {three_arms.name}" in page.html
    assert "with changes that are not committed" in page.text
    assert "left-pad" not in page.html


def test_equal_archives_give_equal_bytes(three_arms: Archive) -> None:
    render(three_arms)
    first = [(three_arms.folder / f"report.{kind}").read_bytes() for kind in ("html", "json")]
    render(Archive(three_arms.folder))
    second = [(three_arms.folder / f"report.{kind}").read_bytes() for kind in ("html", "json")]
    assert second == first


def test_a_page_that_other_runs_share_is_replaced_and_not_written_through(
    three_arms: Archive, tmp_path: Path
) -> None:
    (tmp_path / "kept.html").write_text("earlier", encoding="utf-8")
    (three_arms.folder / "report.html").hardlink_to(tmp_path / "kept.html")
    render(three_arms)
    assert (tmp_path / "kept.html").read_text(encoding="utf-8") == "earlier"


def test_a_run_that_did_not_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        KpodError, match=r"did not come to its end .*\nkpod resume .* goes on with it"
    ):
        Html().render(Archive(tmp_path), Config())


def test_a_run_of_unknown_stages_without_an_evaluation_is_listed(tmp_path: Path) -> None:
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(
        "kpod: 1\nname: chain\nseed: 0\nstages:\n  s1: {uses: chain.numbers, with: {count: 5}}\n"
        "  s2: {uses: chain.count, in: {questions: [s1]}}\n",
        encoding="utf-8",
    )
    code = (
        "import sys; from pathlib import Path; from kpod.runner.session import RunOptions, Session\n"
        "from kpod.stages.report.html import Config, Html\n"
        "archive = Session(Path('chain.yaml'), RunOptions()).run()\n"
        "Html().render(archive, Config()); print(archive.folder)\n"
        "assert not {'torch', 'transformers', 'numpy', 'datasets', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT / "tests" / "plugin"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    folder = tmp_path / done.stdout.strip()
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert facts["headlines"][0]["claim"] == "No score: this run of 2 stages evaluates nothing."
    assert [row["uses"] for row in facts["stages"]] == ["chain.numbers", "chain.count"]
    assert "chain.numbers" in page.text
    assert "Scores" not in page.text
