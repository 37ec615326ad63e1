"""What the report tells of the method's stages: weights, difficulty, clusters, curriculum, and losses that do not compare."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Curriculum, TokenWeights
from kpod.stages.report._curriculum import turns
from kpod.stages.report._curves import read_curves
from kpod.stages.report._formats import signed, thinned
from kpod.stages.report._shades import Thirds, pieces
from kpod.stages.report._weights import _thirds
from tests.stages.report_pages import FakeRun, Page, questions_of, render, scored_run
from tests.stages.report_runs import (
    NUM_EPOCHS,
    add_method,
    curriculum_of,
    difficulty_of,
    method_run,
    rationale_of,
    weights_of,
)

WHOLE = Thirds(low=1 / 3, high=2 / 3, least=0.0, most=1.0)


@pytest.fixture(name="rendered", scope="module")
def rendered_fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, dict[str, Any]]:
    return render(method_run(tmp_path_factory.mktemp("method")))


@pytest.fixture(name="page")
def page_fixture(rendered: tuple[Page, dict[str, Any]]) -> Page:
    return rendered[0]


@pytest.fixture(name="method")
def method_fixture(rendered: tuple[Page, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = rendered[1]["method"]
    return found


def section(page: Page, name: str) -> Page:
    """One section of the page."""
    return Page(re.split('<section id="|</main>', page.html.partition(f'<section id="{name}">')[2])[0])  # fmt: skip


def test_a_run_without_the_method_says_nothing_of_it(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"standard": 30}))
    assert set(map(len, facts["method"].values())) == {0}
    assert not re.search('id="(weights|difficulty|clusters|curriculum)"', page.html)
    assert "training set" not in page.text


def test_weights_are_counted_and_averaged_over_all_rationales(method: dict[str, Any]) -> None:
    train = questions_of("train")
    every = [w for i, q in enumerate(train) for w in weights_of(rationale_of(q, i), seed=1).weights]
    learned = method["weightings"][0]
    assert learned["mean"] == pytest.approx(mean(every))
    assert (learned["num_rationales"], learned["num_weights"]) == (60, len(every))
    # A bar ends where a weight rounds up to the next tenth, to a thousandth.
    expected = [sum(int(int(w * 1000 + 0.5) // 100) == tenth for w in every) for tenth in range(10)]
    assert learned["bins"] == expected
    assert learned["taken_by"] == ["shuffled", "difficulty", "kpod"]


def test_heavy_tokens_are_told_by_shade_line_and_number(page: Page) -> None:
    weights = section(page, "weights")
    found = re.findall(
        r'<span class="w w(\d)" style="--w:([\d.]+)" title="([\d.]+)">([^<]+)</span>',
        weights.html.partition("<strong>shuffled")[0],
    )
    assert all(shade == title for _, shade, title, _ in found)
    by_third = {third: [float(w) for t, w, *_ in found if t == third] for third in "123"}
    assert max(by_third["1"]) <= min(by_third["2"])
    assert max(by_third["2"]) <= min(by_third["3"])
    assert {third for third, _, _, text in found if text[0].isdigit()} == {"2", "3"}
    assert "lowest third" in weights.text


def test_weights_that_are_all_equal_have_no_thirds(page: Page, method: dict[str, Any]) -> None:
    uniform = next(each for each in method["weightings"] if each["name"] == "uniform")
    assert {third for row in uniform["shaded"] for _, weight, third in row["pieces"] if weight} == {
        0
    }
    assert uniform["bins"][-1] == uniform["num_weights"]
    assert '<span class="w w0" style="--w:1.0" title="1.0">Ann</span>' in page.html


def test_what_mask_learning_noted_is_drawn_by_epoch(page: Page, method: dict[str, Any]) -> None:
    learned = method["weightings"][0]
    names = [curves["name"] for curves in learned["curves"]]
    assert names == ["answer nats by quarter of the prefix", "keep rate"]
    third = learned["curves"][0]["curves"][2]
    assert third == {"name": "third quarter", "values": [2.0, None, 0.8]}
    assert learned["class_means"] == [
        ["digits and operators", 0.71], ["names", None], ["all", 0.35], ["fillers", 0.12],
    ]  # fmt: skip
    assert "last quarter 1.5 → 0.3" in section(page, "weights").text


def test_controls_stand_after_the_weights_of_the_arm_that_the_recipe_is_about(
    tmp_path: Path,
) -> None:
    run = FakeRun(folder=tmp_path, primary=["standard", "kpod"])
    train = questions_of("train", number=4)
    made = [rationale_of(q, i) for i, q in enumerate(train)]
    run.add("questions", "data.table", {"train": train})
    run.add(
        "rationales",
        "teacher.reference",
        {"rationales": made},
        wires={"questions": ["questions.train"]},
    )
    run.add("control", "weighting.random", {"weights": [weights_of(r, seed=3) for r in made]})
    add_method(run, train, made)
    run.add("kpod", "student.causal_lm", {"student": None},
            wires={"rationales": ["rationales.rationales"], "weights": ["weights.weights"]})  # fmt: skip
    _, facts = render(run.finish())
    named = [each["name"] for each in facts["method"]["weightings"]]
    assert named == ["weights", "control", "shuffled", "uniform"]
    assert [len(each["shaded"]) for each in facts["method"]["weightings"]] == [4, 2, 2, 2]
    assert facts["method"]["lessons"][0]["weights"] == "weights"


def test_difficulty_is_averaged_by_the_number_of_the_step(
    page: Page, method: dict[str, Any]
) -> None:
    rows = [difficulty_of(rationale_of(q, i), i) for i, q in enumerate(questions_of("train"))]
    hard = method["difficulties"][0]
    second = [row.steps[1][2] for row in rows]
    assert hard["by_step"][1]["mean"] == pytest.approx(mean(second))
    assert (hard["by_step"][1]["n"], hard["by_step"][1]["label"]) == (60, "2")
    assert hard["last"]["mean"] == pytest.approx(mean(row.steps[-1][2] for row in rows))
    assert hard["total"] == pytest.approx(sum(nats for row in rows for *_, nats in row.steps))
    assert sum(size for _, size in hard["sizes"]) == 60
    assert sum(step["n"] for step in hard["by_step"]) == hard["num_steps"]
    assert f"step 2: mean {hard['by_step'][1]['mean']:.3g} nats" in page.html


def test_steps_after_the_eighth_are_taken_together(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    rows = [
        {"rationale_id": str(i), "steps": tuple((k, k + 1, 1.0 + k) for k in range(count))}
        for i, count in enumerate((2, 9, 11))
    ]
    from kpod.runner import Difficulty

    run.add("d", "difficulty.step_count", {"difficulty": [Difficulty(**row) for row in rows]})  # type: ignore[arg-type]
    page, facts = render(run.finish())
    hard = facts["method"]["difficulties"][0]
    assert [(step["label"], step["n"]) for step in hard["by_step"][-2:]] == [("8", 2), ("9 and on", 4)]  # fmt: skip
    assert hard["sizes"] == [["2", 1], ["9 and on", 2]]
    assert "9+" in page.text


def test_the_curriculum_tells_what_is_generated_moved_and_given(method: dict[str, Any]) -> None:
    rows = [
        curriculum_of(difficulty_of(rationale_of(q, i), i))
        for i, q in enumerate(questions_of("train"))
    ]
    steps = sum(row.num_steps for row in rows)
    plan = method["plans"][0]
    before, *epochs = plan["epochs"]
    assert (before["number"], before["generated_frac"], before["given"]) == (0, 0.3, [])
    assert len(epochs) == NUM_EPOCHS
    for index, epoch in enumerate(epochs):
        assert epoch["generated_frac"] == pytest.approx(1 - sum(row.given[index] for row in rows) / steps)  # fmt: skip
        assert sum(epoch["given"]) == 60
        assert epoch["num_full"] == sum(row.given[index] == 0 for row in rows)
    assert epochs[1]["num_moved"] == sum(row.given[0] != row.given[1] for row in rows)
    assert epochs[0]["num_moved"] == 7  # as noted: what came before epoch 1 is in no record
    assert epochs[0]["budget"] == pytest.approx(0.43 * plan["total"])
    assert (plan["cuts"], plan["counts"]) == (["kpod"], ["standard_tokens"])


def test_a_curriculum_that_noted_nothing_is_told_from_its_records(method: dict[str, Any]) -> None:
    turned = method["plans"][1]
    assert (turned["name"], turned["total"], turned["cuts"]) == ("turned", None, [])
    assert [epoch["budget"] for epoch in turned["epochs"]] == [None] * NUM_EPOCHS
    assert turned["epochs"][0]["num_moved"] is None
    shares = [epoch["generated_frac"] for epoch in turned["epochs"]]
    assert shares[0] > shares[1] > shares[2] < shares[3] == 1.0


def test_given_text_is_greyed_and_a_mark_stands_at_the_cut(
    page: Page, method: dict[str, Any]
) -> None:
    cut = method["plans"][0]["examples"][0]
    first = cut["turns"][0]
    assert first["num_given"] > 0
    shown = section(page, "curriculum").html
    assert f'<span class="given" title="given">{first["given"]}</span><span class="cut"' in shown
    sizes = [len(each["turns"]) for each in method["plans"][0]["examples"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 4  # three stages and the epochs after them


@given(
    st.text(min_size=1, max_size=40),
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
)
def test_turns_cover_every_epoch_once_and_lose_no_text(text: str, cuts: list[int]) -> None:
    at = [min(cut, len(text)) for cut in cuts]
    row = Curriculum(rationale_id="r", num_steps=9, given=tuple(at), cut=tuple(at))
    found = turns(text, row)
    numbers = [int(part) for turn in found for part in re.findall(r"\d+", turn.epochs)]
    assert numbers[0] == 1
    assert numbers[-1] == len(cuts)
    assert all(turn.given + turn.generated == text for turn in found)
    assert all(a.num_given != b.num_given for a, b in pairwise(found))


def test_clusters_have_sizes_and_the_examples_that_were_noted(
    page: Page, method: dict[str, Any]
) -> None:
    grouping = method["groupings"][0]
    assert [cluster["size"] for cluster in grouping["clusters"]] == [20, 20, 20]
    assert [len(cluster["examples"]) for cluster in grouping["clusters"]] == [3, 3, 3]
    assert grouping["has_nearest"]
    assert "those nearest the centre" in section(page, "clusters").text


def test_without_notes_everything_is_told_from_the_records(tmp_path: Path) -> None:
    page, facts = render(method_run(tmp_path, has_notes=False))
    method = facts["method"]
    grouping = method["groupings"][0]
    texts = {question.text for question in questions_of("train")}
    assert not grouping["has_nearest"]
    assert all(set(cluster["examples"]) <= texts and len(cluster["examples"]) == 3 for cluster in grouping["clusters"])  # fmt: skip
    assert method["weightings"][0]["curves"] == []
    assert [epoch["number"] for epoch in method["plans"][0]["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert "hollow" not in section(page, "training").html
    assert facts["students"][2]["ratios"]["target_tokens"] is None


def test_a_training_question_is_followed_step_by_step(page: Page, method: dict[str, Any]) -> None:
    train = questions_of("train")
    index_of = {rationale_of(q, i).id: i for i, q in enumerate(train)}
    assert len(method["lessons"]) == 6
    for lesson in method["lessons"]:
        index = index_of[lesson["rationale_id"]]
        rationale = rationale_of(train[index], index)
        row = difficulty_of(rationale, index)
        texts = ["".join(text for text, *_ in step["pieces"]) for step in lesson["steps"]]
        assert texts == [rationale.text[start:end] for start, end, _ in row.steps]
        assert [step["nats"] for step in lesson["steps"]] == [[nats] for *_, nats in row.steps]
        assert lesson["clusters"] == [["clusters", index % 3]]
    assert lesson["curricula"] == ["curriculum", "turned"]
    last = lesson["steps"][-1]
    assert last["epochs"] == ["1–6", "1–6"]
    assert "Questions of the training set" in section(page, "journeys").text


def test_the_epochs_of_a_step_are_told_as_they_are_also_where_they_come_and_go(
    tmp_path: Path,
) -> None:
    _, facts = render(method_run(tmp_path, number=4))
    lesson = max(facts["method"]["lessons"], key=lambda each: len(each["steps"]))
    num = len(lesson["steps"])
    given = [max(0, num - 2 - epoch) for epoch in range(3)]
    assert num == 6
    assert given == [4, 3, 2]
    assert [step["epochs"] for step in lesson["steps"]] == [
        ["4–6", "4–6"], ["4–6", "4–6"], ["3–6", "1, 4–6"], ["2–6", "1–2, 4–6"], ["1–6", "1–6"], ["1–6", "1–6"],
    ]  # fmt: skip


def test_losses_over_fewer_targets_are_marked(
    page: Page, rendered: tuple[Page, dict[str, Any]]
) -> None:
    students = {row["name"]: row for row in rendered[1]["students"]}
    assert students["kpod"]["partial_epochs"] == [True, True, True, False, False, False]
    assert students["standard"]["partial_epochs"] == [False] * NUM_EPOCHS
    training = section(page, "training")
    assert training.html.count('class="hollow"') == 3
    assert "that loss is over other targets than the same epoch's of the other arms" in training.text  # fmt: skip
    assert "(400)" in training.text


def test_arms_are_told_as_multiples_of_the_baseline(
    page: Page, rendered: tuple[Page, dict[str, Any]]
) -> None:
    students = {row["name"]: row for row in rendered[1]["students"]}
    assert students["standard"]["ratios"] is None
    assert students["kpod"]["ratios"]["target_tokens"] == pytest.approx(5000 / 6000)
    assert students["standard_tokens"]["ratios"]["training_s"] == pytest.approx(0.8)
    assert (students["kpod"]["weights"], students["kpod"]["curriculum"]) == ("weights", "curriculum")  # fmt: skip
    assert (students["standard_tokens"]["budget"], students["standard_tokens"]["target_token_budget"]) == ("curriculum", 4806)  # fmt: skip
    text = section(page, "training").text.replace("\u00a0", " ")
    assert "× 0.83" in text
    assert "multiples of standard" in text
    assert "weighted by weights" in text


@pytest.mark.parametrize(
    ("normalise", "told"),
    [("targets", "target token"), ("sequences", "sequence"), ("weights", "unit of weight"), (None, "target token")],
)  # fmt: skip
def test_a_loss_says_what_it_is_a_mean_over(
    tmp_path: Path, normalise: str | None, told: str
) -> None:
    run = FakeRun(folder=tmp_path)
    run.add("s", "student.causal_lm", {"student": None}, notes={"losses": [1.0]})
    run.units[-1]["config"] = {} if normalise is None else {"normalise": normalise}
    page, facts = render(run.finish())
    assert facts["students"][0]["loss_per"] == told
    assert f"nats per {told}" in page.text


def test_hostile_text_stays_text_in_every_section(tmp_path: Path) -> None:
    page, facts = render(method_run(tmp_path, number=3))
    assert any("<script>" in lesson["steps"][0]["pieces"][0][0] for lesson in facts["method"]["lessons"])  # fmt: skip
    assert not {"img", "b", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 1, "the search, and nothing else"
    assert page.handlers == []
    for name in ("weights", "clusters", "curriculum", "journeys"):
        assert "<script>alert('x')</script>" in section(page, name).text, name
    styles = set(re.findall(r' style="([^"]*)"', page.html))
    assert all(re.fullmatch(r"--w:[\d.]+", style) for style in styles)


def test_every_drawing_can_be_read_aloud_and_every_percentage_has_its_interval(page: Page) -> None:
    assert all(
        "aria-label=" in tag or "aria-hidden=" in tag for tag in re.findall("<svg[^>]*>", page.html)
    )
    cells = page.html.split("<td")
    bare = [cell for cell in cells if "\u00a0%" in cell.partition("</td>")[0] and "[" not in cell]
    assert bare == []


def test_equal_archives_give_equal_bytes_with_the_method_too(tmp_path: Path) -> None:
    archive = method_run(tmp_path)
    pages = []
    for _ in range(2):
        render(archive)
        pages.append([(tmp_path / f"report.{kind}").read_bytes() for kind in ("html", "json")])
    assert pages[0] == pages[1]


@pytest.mark.slow
def test_a_page_of_two_thousand_questions_and_twelve_arms_stays_under_a_megabyte(
    tmp_path: Path,
) -> None:
    arms = {f"{'kpod' if index % 2 else 'arm'}{index}": 20 + index for index in range(12)}
    render(method_run(tmp_path, number=2000, scores=arms, primary=["arm0", "kpod1"]))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert (tmp_path / "report.json").stat().st_size < 1_000_000


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70), st.floats(0, 1))), st.integers(0, 60), st.integers(0, 60))  # fmt: skip
def test_stretches_lose_no_character_whatever_the_spans(
    text: str, spans: list[tuple[int, int, float]], one: int, other: int
) -> None:
    row = TokenWeights(
        rationale_id="r", spans=tuple((a, b) for a, b, _ in spans), weights=tuple(w for *_, w in spans)
    )  # fmt: skip
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    assert "".join(piece.text for piece in pieces(text, row, WHOLE)) == text
    assert "".join(piece.text for piece in pieces(text, row, WHOLE, start=start, end=end)) == text[start:end]  # fmt: skip


def test_a_very_long_rationale_is_cut_and_says_so() -> None:
    row = TokenWeights(rationale_id="r", spans=((0, 2000),), weights=(0.5,))
    shown = pieces("x" * 2000, row, WHOLE)
    assert [len(shown[0].text), shown[1].text] == [1000, " [… 1,000 characters left out …]"]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_thirds_follow_the_weights_and_reach_both_ends(thousandths: list[int]) -> None:
    grains = [thousandths.count(grain) for grain in range(1001)]
    thirds = _thirds(grains)
    ordered = [thirds.of(grain / 1000) for grain in sorted(thousandths)]
    assert ordered == sorted(ordered)
    if len(set(thousandths)) == 1:
        assert set(ordered) == {0}
    else:
        assert (ordered[0], ordered[-1]) == (1, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_any_note_is_either_curves_of_one_length_or_none(notes: dict[str, Any]) -> None:
    for curves in read_curves(notes):
        assert 1 <= len(curves.curves) <= 4
        assert len({len(curve.values) for curve in curves.curves}) == 1
        assert all(any(value is not None for value in curve.values) for curve in curves.curves)


@given(st.lists(st.integers(), min_size=1), st.integers(2, 30))
def test_thinning_keeps_both_ends_and_the_order(items: list[int], most: int) -> None:
    marked = list(enumerate(items))
    kept = thinned(marked, most)
    assert len(kept) == min(len(items), most)
    assert (kept[0], kept[-1]) == (marked[0], marked[-1])
    assert kept == sorted(set(kept))


def test_a_difference_of_nothing_has_no_minus() -> None:
    assert [signed(-1e-9), signed(-0.004), signed(0.0125, 2)] == ["+0.0", "−0.4", "+1.25"]
