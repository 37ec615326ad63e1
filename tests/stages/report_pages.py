"""Archives of evaluated arms, built by hand, and their report as a reader finds it: the page and its facts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from kpod.runner import Metric, Prediction, Question, Rationale, Record
from kpod.runner.archive import Archive
from kpod.runner.manifest import Manifest, StoredOutput
from kpod.stages._lm.statistics import wilson_interval
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
    """Two students that may be equal, and their base."""
    return scored_run(
        tmp_path, {"base": 2, "standard": 44, "kpod": 47}, primary=["standard", "kpod"]
    )
