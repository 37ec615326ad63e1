"""The report of archives that are built by hand, and of a real run that evaluates nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import KpodError, Metric, Prediction, Question, Rationale, Record, holm, mcnemar
from kpod.runner.archive import Archive
from kpod.runner.manifest import Manifest, StoredOutput
from kpod.stages._lm.statistics import wilson_interval
from kpod.stages.report._formats import count, duration, p_value, percent
from kpod.stages.report._paired import compare_arms
from kpod.stages.report.html import Config, Html

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \"' &amp; <b>"
NUM_QUESTIONS = 60


@dataclass(kw_only=True)
class FakeRun:
    """An archive under construction, in the form in which a run leaves it."""

    folder: Path
    primary: Sequence[str] = ()
    seed: int = 42
    units: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        name: str,
        uses: str,
        outputs: Mapping[str, Sequence[Record] | None],
        *,
        wires: Mapping[str, list[str]] | None = None,
        notes: Mapping[str, Any] | None = None,
        status: str = "run",
        seconds: float = 1.0,
        digest: str = "",
    ) -> None:
        """Add a unit; an output that is None is a folder."""
        stage, _, element = name.rstrip("]").partition("[")
        place = self.folder / "stages" / stage / element
        place.mkdir(parents=True, exist_ok=True)
        stored: dict[str, StoredOutput] = {}
        for output, rows in outputs.items():
            stored[output] = StoredOutput(
                digest=digest or f"digest of {name} {output}",
                files=(),
                num_records=None if rows is None else len(rows),
            )
            if rows is not None:
                lines = (orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n" for row in rows)
                (place / f"{output}.jsonl").write_bytes(b"".join(lines))
        manifest = Manifest(
            key=f"{len(self.units):02d}" + "ab" * 31, outputs=stored,
            preimage={"uses": uses, "version": 1, "config": {}, "sources": {}, "inputs": {}, "seed": None, "libraries": {}, "key_schema": 1},
            notes=dict(notes or {}), seconds=seconds, cpu_seconds=1.5 * seconds,
            made_at="2026-11-22T01:58:29Z", made_by="an_earlier_run",
        )  # fmt: skip
        self.units.append(
            {
                "name": name, "stage": stage, "element": element or None, "uses": uses,
                "status": status, "reason": "no earlier result" if status == "run" else "",
                "seconds": seconds if status == "run" else 0.0,
                "config": {"max_new_tokens": 256, "base_prompt": {"name": "kpod"}},
                "wires": dict(wires or {}), "manifest": asdict(manifest),
            }
        )  # fmt: skip

    def finish(self, description: str = "") -> Archive:
        """Write run.json and the recipe."""
        facts = {
            "format": 1, "name": "sums", "recipe": "recipes/sums.yaml", "seed": self.seed,
            "primary": list(self.primary), "started_at": "2026-11-22T01:58:29Z",
            "finished_at": "2026-11-22T02:01:02Z", "seconds": 153.2, "store": "runs/.store",
            "rerun_of": None, "units": self.units, "views": {"report": "report.html"},
            "sources": [
                {"unit": "questions", "setting": "path", "original": "sums.jsonl",
                 "fact": {"sha256": "f" * 64}, "archived": None}
            ],
            "capability": {"device": "cpu", "has_fast_bf16": False, "memory_b": 24_000_000_000,
                           "num_cpus": 2, "machine": "x86_64"},
            "machine": {"python": "3.11.7", "platform": "Linux", "processor": "a processor",
                        "executable": "python"},
            "packages": {"kpod": "0.1.0", "torch": "2.13.0", "left-pad": "1.0"},
            "git": {"commit": "0123456789abcdef0123", "is_dirty": True},
        }  # fmt: skip
        (self.folder / "run.json").write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")
        (self.folder / "resolved.yaml").write_text(
            f"kpod: 1\nname: sums\ndescription: {json.dumps(description)}\nseed: {self.seed}\nstages: {{}}\n",
            encoding="utf-8",
        )
        origins = {"name": "sums.yaml:2:7", "seed": "command line"}
        (self.folder / "origins.json").write_text(json.dumps(origins), encoding="utf-8")
        return Archive(self.folder)


class Page(HTMLParser):
    """What a reader of a page finds: its text, its tags, what it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.words: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.fetched += [str(value) for name, value in attrs if name in {"src", "href", "action"}]

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self.tags[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        """The words, one space apart."""
        return " ".join(" ".join(self.words).split())


def questions_of(
    split: str, *, has_gold: bool = True, number: int = NUM_QUESTIONS
) -> list[Question]:
    """Sums; the first is hostile."""
    texts = [
        f"Ann has {i} apples and buys {i + 1} more. How many has she ({split})?"
        for i in range(number)
    ]
    texts[0] = f"{HOSTILE} {split}"
    return [
        Question.make(
            text, kind="numeric", answer=str(2 * i + 1) if has_gold else None, split=split, source="sums"
        )
        for i, text in enumerate(texts)
    ]  # fmt: skip


def predictions_of(
    questions: Sequence[Question], model: str, *, num_correct: int, seed: int = 0
) -> list[Prediction]:
    """As many right answers as asked for, on questions drawn by the seed."""
    right = {q.id for q in random.Random(seed).sample(list(questions), num_correct)}
    rows = []
    for index, question in enumerate(questions):
        said = str(2 * index + 1 if question.id in right else 2 * index + 4)
        opening = HOSTILE if index == 0 else f"Ann has {index} apples. She buys {index + 1} more."
        rows.append(
            Prediction(
                question_id=question.id, model=model, sample=0,
                text=f"{opening} Therefore, the answer is {said}.", answer=said,
                is_correct=None if question.answer is None else question.id in right,
                rule="phrase", num_tokens=20 + index % 7, finish="stop",
            )
        )  # fmt: skip
    return rows


def metric_of(predictions: Sequence[Prediction], model: str) -> Metric:
    """The scores of these."""
    n = sum(row.is_correct is not None for row in predictions)
    num_correct = sum(bool(row.is_correct) for row in predictions)
    low, high = wilson_interval(num_correct, n) if n else (None, None)
    return Metric(
        model=model, data="d" * 64, n=n, num_correct=num_correct,
        accuracy=num_correct / n if n else None, low=low, high=high,
        strict_frac=0.0 if n else None, flexible_frac=(num_correct - 1) / n if n else None,
        num_changed_by_extractor=1 if n else None, no_answer_frac=0.05, truncated_frac=0.1,
        mean_tokens=22.98,
    )  # fmt: skip


def scored_run(
    folder: Path,
    scores: Mapping[str, int],
    *,
    primary: Sequence[str] = (),
    has_gold: bool = True,
    losses: Sequence[Any] | None = (2.31, 1.2, 0.61, 0.48),
    num_questions: int = NUM_QUESTIONS,
) -> Archive:
    """Arms with so many right answers each; the arm `base` was not trained."""
    run = FakeRun(folder=folder, primary=primary)
    test = questions_of("test", has_gold=has_gold, number=num_questions)
    train = questions_of("train", number=num_questions)
    rationales = [
        Rationale.make(
            q.id, f"{HOSTILE} so the sum of question {i} is taken.", teacher="reference",
            answer=q.answer, verdict="correct",
        )
        for i, q in enumerate(train)
    ]  # fmt: skip
    run.add("questions", "data.table", {"train": train, "validation": [], "test": test},
            notes={"rows_merged": 3, "questions": {"train": 60}}, status="hit", seconds=0.4)  # fmt: skip
    run.add("rationales", "teacher.reference", {"rationales": rationales},
            wires={"questions": ["questions.train"]}, seconds=12.0, status="hit")  # fmt: skip
    run.add("verified", "filter.verified", {"verified": rationales[3:]},
            wires={"rationales": ["rationales.rationales"], "questions": ["questions.train"]},
            notes={"read": 60, "wrong": 2, "arithmetic": 1, "kept": 57, "length": 0})  # fmt: skip
    for arm in scores:
        if arm == "base":
            run.add(arm, "model.pretrained", {"model": None}, digest=f"model {arm}")
        else:
            notes = {"target_tokens": 12345, "tokens_per_s": 1234.5, "steps": 400, "examples": 57}
            run.add(arm, "student.causal_lm", {"student": None}, digest=f"model {arm}", seconds=75.0,
                    wires={"questions": ["questions.train"], "rationales": ["verified.verified"]},
                    notes=notes if losses is None else {**notes, "losses": list(losses)})  # fmt: skip
    for index, (arm, num_correct) in enumerate(scores.items()):
        rows = predictions_of(test, f"model {arm}", num_correct=num_correct, seed=index)
        run.add(f"scores[{arm}]", "evaluate.accuracy",
                {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]},
                wires={"models": [f"{arm}.model"], "questions": ["questions.test"]})  # fmt: skip
    return run.finish()


def render(archive: Archive) -> tuple[Page, dict[str, Any]]:
    """The page and the facts."""
    Html().render(archive, Config())
    facts = json.loads((archive.folder / "report.json").read_text(encoding="utf-8"))
    return Page((archive.folder / "report.html").read_text(encoding="utf-8")), facts


@pytest.fixture(name="three_arms")
def three_arms_fixture(tmp_path: Path) -> Archive:
    return scored_run(
        tmp_path, {"base": 2, "standard": 44, "kpod": 47}, primary=["standard", "kpod"]
    )


def test_the_comparison_that_the_recipe_is_about_comes_first(three_arms: Archive) -> None:
    page, facts = render(three_arms)
    assert facts["headlines"][0]["claim"] == (
        "No winner between standard and kpod on the 60 test questions: "
        "3 more right answers of kpod may be chance."
    )
    first, seed, ranking = (" ".join(line.split()) for line in facts["headlines"][0]["details"])
    assert "standard → kpod: +5.0 points" in first
    assert seed == "One seed (42): an observation, not a claim about the method."
    assert ranking == (
        "No winner on the 60 test questions: kpod has the most right answers, but its interval overlaps that of standard. "
        "kpod: 78.3 % [66.4, 86.9], n = 60; beside it standard 73.3 % [61.0, 82.9], n = 60. "
        "Its interval does lie above that of base (3.3 % [0.9, 11.4], n = 60)."
    )
    assert facts["headlines"][0]["claim"] in page.text


@pytest.mark.parametrize(
    ("num_right", "claim"),
    [
        (50, "kpod answers 20 more of the 60 test questions right than standard."),
        (10, "kpod answers 20 fewer of the 60 test questions right than standard."),
        (30, "standard and kpod have equally many right answers on the 60 test questions."),
    ],
)
def test_two_students_that_differ_are_said_to(tmp_path: Path, num_right: int, claim: str) -> None:
    run = scored_run(tmp_path, {"standard": 30, "kpod": num_right}, primary=["standard", "kpod"])

    assert render(run)[1]["headlines"][0]["claim"] == claim


def test_an_interval_above_all_others_names_the_best(tmp_path: Path) -> None:
    _, facts = render(scored_run(tmp_path, {"base": 2, "answer_only": 11, "standard": 46}))
    assert facts["headlines"][0]["claim"] == "standard is best on the 60 test questions."
    assert "lies above those of answer_only" in facts["headlines"][0]["details"][0]


def test_equal_scores_are_called_equal(tmp_path: Path) -> None:
    _, facts = render(scored_run(tmp_path, {"a": 30, "b": 30}))
    assert facts["headlines"][0]["claim"] == (
        "No winner on the 60 test questions: a and b have equally many right answers."
    )


def test_the_headline_of_many_arms_stays_a_sentence(tmp_path: Path) -> None:
    _, facts = render(scored_run(tmp_path, {name: 30 + i for i, name in enumerate("abcde")}))
    assert facts["headlines"][0]["claim"] == (
        "No winner on the 60 test questions: e has the most right answers, "
        "but its interval overlaps those of d, c and 2 more."
    )


def test_a_single_arm_is_compared_with_nothing(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"standard": 30}))
    assert facts["headlines"][0]["claim"] == "standard answers 30 of 60 test questions right."
    assert "There is one arm" in page.text
    assert facts["test_sets"][0]["pairs"] == []
    assert facts["samples"][0]["sizes"] == {"wrong": 30, "right": 30}


def test_a_second_test_set_has_its_own_answer_and_its_own_questions(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    for stage, number, num_right in (("scores", 60, 50), ("scores_far", 9, 4)):
        asked = questions_of(stage, number=number)
        run.add(f"set_{stage}", "data.table", {"test": asked})
        for arm in ("a", "b"):
            rows = predictions_of(asked, f"model {arm}", num_correct=num_right if arm == "a" else 2)
            run.add(f"{stage}[{arm}]", "evaluate.accuracy",
                    {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]},
                    wires={"questions": [f"set_{stage}.test"]})  # fmt: skip
    page, facts = render(run.finish())
    assert [row["claim"] for row in facts["headlines"]] == [
        "a is best on the 60 test questions.",
        "No winner on the 9 test questions (scores_far): a has the most right answers, "
        "but its interval overlaps that of b.",
    ]
    assert [len(sample["journeys"]) for sample in facts["samples"]] == [12, 9]
    assert all(headline["claim"] in page.text for headline in facts["headlines"])


def test_questions_that_were_answered_several_times_are_not_paired(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    asked = questions_of("test", number=5)
    for arm in ("a", "b"):
        rows = predictions_of(asked, f"model {arm}", num_correct=3)
        rows += [replace(row, sample=1) for row in rows]
        run.add(f"scores[{arm}]", "evaluate.accuracy",
                {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]})  # fmt: skip
    page, facts = render(run.finish())
    assert facts["test_sets"][0]["pairs"] == []
    assert "The arms are not paired: questions were answered several times." in page.text


def test_the_choices_of_a_question_are_listed_and_escaped(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    asked = [
        Question.make("Where is rain?", kind="choice", answer="B", split="test", source="x",
                      choices=["<i>shoe</i>", "cloud"])
    ]  # fmt: skip
    run.add("q", "data.table", {"test": asked})
    rows = predictions_of(asked, "model a", num_correct=1)
    run.add("scores[a]", "evaluate.accuracy",
            {"predictions": rows, "metrics": [metric_of(rows, "model a")]},
            wires={"questions": ["q.test"]})  # fmt: skip
    page, _ = render(run.finish())
    assert "<i>shoe</i> cloud" in page.text
    assert "i" not in page.tags


def test_untrained_arms_need_no_word_on_seeds(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"base": 30}))
    assert facts["students"] == []
    assert "One seed" not in page.text


def test_questions_without_gold_give_texts_and_no_score(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"standard": 0, "kpod": 0}, has_gold=False))
    assert facts["headlines"][0]["claim"] == (
        "No score: none of the 60 test questions has a gold answer."
    )
    assert facts["test_sets"][0]["arms"][0]["accuracy"] is None
    assert facts["test_sets"][0]["pairs"] == []
    assert "not scored" in page.text


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


@pytest.mark.parametrize(
    ("num_fixed", "num_broken", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (10, 2, 0.038574), (6, 6, 1.0), (0, 12, 0.000488)],
)
def test_mcnemar_is_the_exact_binomial_test(num_fixed: int, num_broken: int, p: float) -> None:
    # Golden values of scipy.stats.binomtest(b, b + c, 0.5).pvalue, to six digits.
    assert mcnemar(num_fixed, num_broken) == pytest.approx(p, abs=5e-7)


@given(st.integers(0, 120), st.integers(0, 120))
def test_mcnemar_is_a_probability_and_does_not_care_which_arm_is_first(b: int, c: int) -> None:
    assert 0 < mcnemar(b, c) <= 1
    assert mcnemar(b, c) == mcnemar(c, b)


def test_holm_steps_down_and_never_below_an_earlier_one() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pairs_are_joined_by_question_and_leave_out_those_without_gold() -> None:
    verdicts: dict[str, dict[str, bool | None]] = {
        "a": {"q1": True, "q2": False, "q3": None, "q4": False},
        "b": {"q4": True, "q3": True, "q2": True, "q1": False, "q5": True},
    }
    (pair,) = compare_arms(verdicts, [])
    assert (pair.n, pair.num_fixed, pair.num_broken) == (3, 2, 1)


def test_many_arms_are_each_compared_with_the_first() -> None:
    verdicts: dict[str, dict[str, bool | None]] = {
        name: {"q": name != "a"} for name in ("a", "b", "c", "d", "e")
    }
    pairs = compare_arms(verdicts, ["a", "c"])
    assert [(pair.baseline, pair.other, pair.is_primary) for pair in pairs] == [
        ("a", "c", True), ("a", "b", False), ("a", "d", False), ("a", "e", False),
    ]  # fmt: skip


def test_a_primary_pair_is_listed_once_whatever_the_order_of_the_recipe() -> None:
    verdicts: dict[str, dict[str, bool | None]] = {name: {"q": True} for name in ("base", "b", "a")}
    pairs = compare_arms(verdicts, ["a", "b"])
    assert [(pair.baseline, pair.other) for pair in pairs] == [
        ("a", "b"), ("base", "b"), ("base", "a"),
    ]  # fmt: skip


def test_figures_are_written_for_people() -> None:
    shown = [percent(7 / 12), duration(0.031), duration(75.2), duration(3599.9), duration(7500)]
    assert [text.replace("\u00a0", " ") for text in shown] == [
        "58.3 %", "0.03 s", "1 min 15 s", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip
    assert [count(12345), count(0.5), count(3.0)] == ["12,345", "0.5", "3"]
    assert p_value(0.0004).replace("\u00a0", " ") == "p < 0.001"
