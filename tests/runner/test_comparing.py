"""What differs between two runs: in the order of the graph, in the terms of each record, and what may be said of the scores."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import significance
from kpod.runner.cli import main
from kpod.runner.comparing.diff import diff
from kpod.runner.comparing.likeness import Likeness, words_of
from kpod.runner.comparing.moved import Columns, Numbers, spearman
from kpod.runner.comparing.rows import change_of
from kpod.runner.comparing.words import word_diff
from kpod.runner.errors import KpodError
from kpod.runner.record import Question, Rationale
from tests.chain import Chain, recipe, seven, step

WORDS = st.text(st.sampled_from("ab c.,1\n"), max_size=30)


@given(WORDS, WORDS)
def test_a_word_diff_holds_both_texts(before: str, after: str) -> None:
    said = word_diff(before, after)

    assert (
        re.sub(r"\{\+(.*?)\+\}", "", said, flags=re.DOTALL).replace("[-", "").replace("-]", "")
        == before
    )
    assert (
        re.sub(r"\[-(.*?)-\]", "", said, flags=re.DOTALL).replace("{+", "").replace("+}", "")
        == after
    )


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_rank_correlation_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy import stats

    before, after = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    found = spearman(before, after)

    if len(set(before)) == 1 or len(set(after)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(before, after).statistic, abs=1e-12)


def test_what_moved_most_is_named_first() -> None:
    numbers = Numbers()
    numbers.add("a", Columns([[0, 1]], [0.1]), Columns([[0, 1]], [0.2]))
    numbers.add("empty", Columns([], []), Columns([], []))
    numbers.add("b", Columns([[0, 1], [1, 2]], [0.9, 0.5]), Columns([[0, 1], [1, 2]], [0.1, 0.5]))

    found = numbers.moved("weight")

    assert found is not None
    assert [name for name, *_ in found.largest] == ["b [0, 1]", "a [0, 1]"]
    assert "mean weight 0.500 -> 0.267" in found.sentence
    assert Numbers().moved("weight") is None


def test_numbers_at_other_places_do_not_count() -> None:
    numbers = Numbers()
    numbers.add(
        "a",
        Columns([[0, 1], [1, 2]], [0.1, 0.2]),
        Columns([[0, 2], [1, 2], [2, 3]], [0.5, 0.6, 0.7]),
    )

    found = numbers.moved("weight")

    assert found is not None
    assert (found.n, found.largest) == (1, (("a [1, 2]", 0.2, 0.6),))


def _question(text: str, answer: str) -> Question:
    return Question.make(text, kind="numeric", answer=answer, split="train", source="test")


def test_questions_come_and_go_and_change_their_gold_answer() -> None:
    a = [asdict(_question("one", "1")), asdict(_question("two", "2"))]
    b = [asdict(_question("two", "22")), asdict(_question("three", "3"))]

    found = change_of("Question", "train", a, b)

    assert (found.num_same, found.only_a, found.only_b) == (0, 2, 2)
    assert [(one.before, one.after) for one in found.examples] == [
        ("one (gold: 1)", None), ("two (gold: 2)", "two (gold: 22)"), (None, "three (gold: 3)")
    ]  # fmt: skip


def test_a_rationale_that_changed_is_shown_word_by_word() -> None:
    rows = [
        [asdict(Rationale.make(key, text, teacher="t")) for key, text in side]
        for side in ((("q1", "2 + 3 = 5 eggs"), ("q2", "same")), (("q1", "2 + 3 = 6 eggs"), ("q2", "same")))
    ]  # fmt: skip

    found = change_of("Rationale", "rationales", *rows)

    assert (
        found.sentence
        == "rationales: 1 the same, 1 only in A, 1 only in B, 1 questions with other texts"
    )
    assert [one.words for one in found.examples] == ["2 + 3 = [-5-]{+6+} eggs"]


def test_a_question_that_differs_in_neither_text_nor_gold_tells_what_differs() -> None:
    row = {"id": "q", "text": "2 + 3?", "answer": "5", "solution": "2 + 3 = 5"}

    (example,) = change_of("Question", "train", [row], [{**row, "solution": "3 + 2 = 5"}]).examples

    assert example.before == "2 + 3? (gold: 5) solution: 2 + 3 = 5"
    assert example.after == "solution: 3 + 2 = 5"


def test_clusters_are_the_same_under_other_numbers() -> None:
    a = [{"question_id": str(number), "cluster": number % 3} for number in range(9)]
    b = [{**row, "cluster": (row["cluster"] + 1) % 3} for row in a]
    b[8]["cluster"] = 1

    found = change_of("Assignment", "clusters", a, b)

    assert (found.num_same, [one.id for one in found.examples]) == (8, ["8"])
    assert (found.examples[0].before, found.examples[0].after) == ("cluster 2", "cluster 0")
    assert found.renamed == {0: 2, 1: 0, 2: 1}
    assert (
        found.sentence
        == "clusters: 8 the same, 0 only in A, 0 only in B, clusters of B called as A calls them"
    )
    assert found.to_json()["renamed"] == found.renamed
    assert "renamed" not in change_of("Assignment", "clusters", a, a).to_json()


@pytest.mark.parametrize(
    ("record", "a", "b", "said"),
    [
        ("TokenWeights", {"spans": [[0, 1], [1, 2]], "weights": [0.1, 0.9]}, {"spans": [[0, 1], [1, 2]], "weights": [0.9, 0.1]}, "rank correlation -1.000, mean weight 0.500 -> 0.500"),
        ("Difficulty", {"steps": [[0, 1, 1.0], [1, 2, 3.0]]}, {"steps": [[0, 1, 2.0], [1, 2, 4.0]]}, "rank correlation 1.000, mean nats 2.000 -> 3.000"),
        ("Curriculum", {"given": [2, 1]}, {"given": [2, 0]}, "rank correlation 1.000, mean steps given 1.500 -> 1.000"),
    ],
)  # fmt: skip
def test_numbers_that_moved_are_told_in_their_unit(
    record: str, a: dict[str, object], b: dict[str, object], said: str
) -> None:
    found = change_of(record, "out", [{"rationale_id": "r", **a}], [{"rationale_id": "r", **b}])

    assert said in found.sentence


def test_the_question_most_like_another_tells_the_same_story_with_other_numbers() -> None:
    texts = {
        "eggs": "Mia has 4 boxes with 9 eggs in each box.",
        "cars": "A car drives 40 miles an hour.",
        "boxes": "Tom has boxes.",
    }

    found = Likeness(texts).nearest(["Mia has 17 boxes with 3 eggs in each box.", "zebra"])

    assert found == [("eggs", pytest.approx(1.0)), None]
    assert Likeness({}).nearest(["eggs"]) == [None]


def test_of_texts_that_are_alike_the_first_is_found_in_every_process() -> None:
    words = [f"word{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(200)]
    index = Likeness({word: f"eggs {word}" for word in words})

    # A set of texts is walked in another order by every process.
    assert index.nearest([" ".join(words)]) == [(words[0], pytest.approx(0.0, abs=0.01))]


@given(st.text(), st.text("aB-3é ", max_size=9))
def test_words_are_those_of_one_pattern_in_any_script(text: str, more: str) -> None:
    for one in (text, more, text + more):
        assert words_of(one) == frozenset(re.findall(r"[^\W\d_]+", one.lower()))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 200), st.integers(0, 9))
def test_the_bootstrap_is_that_over_questions(more: int, less: int, equal: int, seed: int) -> None:
    values = [1.0] * more + [-1.0] * less + [0.0] * equal
    low, high = significance.bootstrap_mean(values, seed=seed)
    draws = np.random.default_rng(seed + 100).choice(values, size=(4000, len(values))).mean(axis=1)

    spread = draws.std() + 1e-9
    assert abs(low - np.quantile(draws, 0.025)) < 0.35 * spread + 1.01 / len(values)
    assert abs(high - np.quantile(draws, 0.975)) < 0.35 * spread + 1.01 / len(values)


def test_as_many_questions_as_needed_tell_the_difference_four_times_in_five() -> None:
    # 10 % only right in B, 6 % only in A: simulated power at the number that the formula gives.
    needed = significance.questions_needed(60, 100, 1000)
    assert needed is not None
    draws = np.random.default_rng(0).multinomial(needed, [0.06, 0.10, 0.84], size=400)
    told = np.mean([significance.mcnemar(int(a), int(b)) < 0.05 for a, b, _ in draws])

    assert 0.72 < told < 0.88
    assert significance.questions_needed(5, 5, 100) is None


@pytest.mark.parametrize("family", [1, 5, 12])
def test_where_the_correction_takes_a_winner_more_questions_are_said_to_be_needed(
    family: int,
) -> None:
    # One of a family that misses the corrected level by little.
    only_a, only_b, n = 40, 40, 500
    while significance.mcnemar(only_a, only_b + 1) * family >= significance.LEVEL:
        only_b += 1

    needed = significance.questions_needed(only_a, only_b, n, level=significance.LEVEL / family)

    assert needed is not None
    assert needed > n


def test_stages_are_told_in_the_order_of_the_graph_with_the_cause(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    a = chain.run(seven()).archive
    b = chain.run(seven(s3={"add": 5})).archive
    found = diff(a, b, runs=chain.runs)

    by_name = {stage.unit: stage for stage in found.stages}
    assert list(by_name) == list(a.units)
    assert by_name["s2"].status == "same"
    assert by_name["s3"].status == "differs"
    assert by_name["s3"].causes == ("config changed: add 1 -> 5",)
    assert all(cause.startswith("input changed") for cause in by_name["s4"].causes)
    assert found.to_json()["stages"][0]["status"] == "same"

    assert main(["diff", a.name, b.name, "--runs", str(chain.runs)]) == 0
    told = capsys.readouterr().out
    assert "    because config changed: add 1 -> 5" in told


def test_a_stage_that_one_run_alone_has_stands_where_it_runs(chain: Chain) -> None:
    a = chain.run(recipe(s1={"uses": "chain.numbers"}, s3=step("s1", "s3"))).archive
    b = chain.run(
        recipe(s1={"uses": "chain.numbers"}, s2=step("s1", "s2"), s3=step("s2", "s3"))
    ).archive

    found = diff(a, b, runs=chain.runs)

    assert [(stage.unit, stage.status) for stage in found.stages][:2] == [
        ("s1", "same"),
        ("s2", "only in B"),
    ]


def test_an_arm_and_a_whole_run_cannot_be_compared(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run(seven())
    with pytest.raises(KpodError, match="has no evaluated arm 's3'"):
        diff("last:s3", "last", runs=chain.runs)
    monkeypatch.setattr("kpod.runner.comparing.diff.arms_of", lambda *_: {})

    with pytest.raises(KpodError, match="allowed: two runs, or RUN:ARM twice"):
        diff("last:s3", "last", runs=chain.runs)


def test_more_than_two_runs_are_one_table_grouped_by_what_differs(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        chain.run(seven()).archive.name,
        chain.run({**seven(), "seed": 5}).archive.name,
        chain.run(seven(s3={"add": 9})).archive.name,
    ]

    assert main(["diff", *names, "--json", "--runs", str(chain.runs)]) == 0
    many = json.loads(capsys.readouterr().out)
    assert many["differing"] == ["stages.s3.with.add"]
    assert [len(group["runs"]) for group in many["groups"]] == [2, 1]
    assert main(["diff", *names, "--runs", str(chain.runs)]) == 0
    assert "and 1 more" in capsys.readouterr().out


def test_runs_of_one_recipe_whose_file_changed_are_no_group(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    names, file = [], chain.folder / "numbers.txt"
    for text in ("1\n2\n", "1\n2\n", "3\n4\n"):
        file.write_text(text, encoding="utf-8")
        plain = recipe(s1={"uses": "chain.numbers", "with": {"path": str(file)}}, s2=step("s1", "s2"))  # fmt: skip
        names.append(chain.run({**plain, "seed": len(names)}).archive.name)

    assert main(["diff", *names, "--json", "--runs", str(chain.runs)]) == 0

    many = json.loads(capsys.readouterr().out)
    assert many["differing"] == ["data, code, libraries"]
    assert [len(group["runs"]) for group in many["groups"]] == [2, 1]


def test_a_page_is_written_whole_and_escapes_what_is_in_it(
    chain: Chain, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a = chain.run(seven()).archive
    b = chain.run({**seven(s3={"add": 5}), "description": "<script>alert(1)</script>"}).archive
    page = tmp_path / "diff.html"

    assert main(["diff", a.name, b.name, "--html", str(page), "--runs", str(chain.runs)]) == 0

    text = page.read_text(encoding="utf-8")
    assert "config changed: add 1 -&gt; 5" in text
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "http" not in text.replace("http-equiv", "")
    shutil.rmtree(tmp_path / "diff.html", ignore_errors=True)
    assert (
        main(
            [
                "diff",
                a.name,
                b.name,
                "--html",
                str(tmp_path / "no" / "d.html"),
                "--runs",
                str(chain.runs),
            ]
        )
        != 0
    )
