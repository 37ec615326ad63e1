"""Archives of runs with the stages of the method, built by hand in the form in which a run leaves them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kpod.runner import Assignment, Curriculum, Difficulty, Question, Rationale, TokenWeights
from kpod.runner.archive import Archive
from tests.stages.report_pages import (
    HOSTILE,
    FakeRun,
    metric_of,
    predictions_of,
    questions_of,
)

NUM_EPOCHS = 6
STAGES = 3


def rationale_of(question: Question, index: int) -> Rationale:
    """Two to five steps; the first rationale is hostile."""
    steps = [
        f"Step {place} has {index + place} of {place + 1.5} eggs." for place in range(2 + index % 4)
    ]
    text = " ".join([HOSTILE + "." if index == 0 else "Ann counts them.", *steps])
    return Rationale.make(question.id, text, teacher="reference", answer=question.answer, verdict="correct")  # fmt: skip


def weights_of(rationale: Rationale, *, seed: int, constant: float | None = None) -> TokenWeights:
    """A weight for every word; numbers weigh most."""
    draw = random.Random(f"{seed}{rationale.id}")
    spans, at = [], 0
    for word in rationale.text.split(" "):
        spans.append((at, at + len(word)))
        at += len(word) + 1
    weights = tuple(
        constant
        if constant is not None
        else min(1.0, (0.6 if rationale.text[a:b][:1].isdigit() else 0.1) + 0.3 * draw.random())
        for a, b in spans
    )
    return TokenWeights(rationale_id=rationale.id, spans=tuple(spans), weights=weights)


def difficulty_of(rationale: Rationale, index: int) -> Difficulty:
    """A step ends after every period that a space follows."""
    text = rationale.text
    ends = [place + 2 for place in range(len(text)) if text.startswith(". ", place)] + [len(text)]
    steps = [
        (start, end, 0.5 + 0.1 * number + 0.001 * index)
        for number, (start, end) in enumerate(pairwise([0, *ends]))
    ]
    return Difficulty(rationale_id=rationale.id, steps=tuple(steps))


def curriculum_of(difficulty: Difficulty, *, is_reversed: bool = False) -> Curriculum:
    """From all but two steps given to none in three stages; or the stages turned around."""
    num = len(difficulty.steps)
    stages = [max(0, num - 2 - epoch) for epoch in range(STAGES)]
    given = (*(reversed(stages) if is_reversed else stages), *(0,) * (NUM_EPOCHS - STAGES))
    cut = tuple(difficulty.steps[count - 1][1] if count else 0 for count in given)
    return Curriculum(rationale_id=difficulty.rationale_id, num_steps=num, given=given, cut=cut)


def training_notes(*, is_cut: bool, scale: float = 1.0) -> dict[str, Any]:
    """As a student notes them; a curriculum makes the first epochs smaller."""
    targets = [400, 700, 900, 1000, 1000, 1000] if is_cut else [1000] * NUM_EPOCHS
    return {
        "examples": 60, "steps": 180, "losses": [2.0 / (1 + epoch) for epoch in range(NUM_EPOCHS)],
        "target_tokens": int(sum(targets) * scale), "target_tokens_by_epoch": [int(size * scale) for size in targets],
        "processed_tokens": 9000, "padded_tokens": 9900, "seconds": 12.5 * scale, "tokens_per_s": 720.0,
        "summary": "180 steps",
    }  # fmt: skip


def epoch_notes(total: float) -> list[dict[str, Any]]:
    """As curriculum.progressive notes them, epoch 0 first."""
    shares = [0.3, 0.43, 0.68, 1.0, 1.0, 1.0, 1.0]
    return [
        {"epoch": epoch, "budget_nats": total * share, "realised_nats": total * share * (1 if epoch > 2 else 0.97),
         "value_nats": None, "generated_frac": share, "num_moved": 7, "num_full": 3}
        for epoch, share in enumerate(shares)
    ]  # fmt: skip


MASK_LEARNING_NOTES: dict[str, Any] = {
    "mean_weights": {"digits_and_operators": 0.71, "names": None, "fillers": 0.12, "all": 0.35},
    "answer_nats_by_quarter_of_the_prefix": [[3.0, 2.5, 2.0, 1.5], [2.0, 1.5, None, 0.5], [1.9, 1.2, 0.8, 0.3]],
    "keep_rate": [0.5, 0.4, 0.3], "rationale_tokens": 4321, "summary": "60 rationales",
}  # fmt: skip


def method_run(
    folder: Path,
    *,
    scores: Mapping[str, int] | None = None,
    seed: int = 42,
    number: int = 60,
    has_notes: bool = True,
    primary: Sequence[str] = ("standard", "kpod"),
    rationales: Sequence[Rationale] | None = None,
) -> Archive:
    """A run with every stage of the method and arms that take them; an arm named `kpod…` takes weights and curriculum."""
    arms = {"standard": 40, "standard_tokens": 41, "kpod": 47} if scores is None else scores
    run = FakeRun(folder=folder, primary=primary, seed=seed)
    train = questions_of("train", number=number)
    test = questions_of("test", number=min(number, 60))
    made = [rationale_of(q, i) for i, q in enumerate(train)] if rationales is None else rationales
    run.add("questions", "data.table", {"train": train, "test": test})
    run.add(
        "rationales",
        "teacher.reference",
        {"rationales": made},
        wires={"questions": ["questions.train"]},
    )
    add_method(run, train, made, has_notes=has_notes)
    for arm in arms:
        is_kpod = arm.startswith("kpod")
        wires = {"questions": ["questions.train"], "rationales": ["rationales.rationales"]}
        if is_kpod:
            wires |= {"weights": ["weights.weights"], "curriculum": ["curriculum.curriculum"]}
        notes = training_notes(is_cut=is_kpod, scale=0.8 if arm == "standard_tokens" else 1.0)
        if arm == "standard_tokens":
            wires["budget"] = ["curriculum.curriculum"]
            notes["target_token_budget"] = 4806
        run.add(
            arm,
            "student.causal_lm",
            {"student": None},
            wires=wires,
            digest=f"model {arm}",
            notes=notes if has_notes else {},
            seconds=20.0,
        )
    for index, (arm, num_correct) in enumerate(arms.items()):
        rows = predictions_of(
            test, f"model {arm}", num_correct=min(num_correct, len(test)), seed=index
        )
        run.add(
            f"scores[{arm}]",
            "evaluate.accuracy",
            {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]},
            wires={"models": [f"{arm}.student"], "questions": ["questions.test"]},
        )
    return run.finish()


def add_method(
    run: FakeRun, train: Sequence[Question], made: Sequence[Rationale], *, has_notes: bool = True
) -> None:
    """Weights, their shuffled and uniform controls, difficulty, clusters, a curriculum and its reverse."""
    questions, rationales = (
        {"questions": ["questions.train"]},
        {"rationales": ["rationales.rationales"]},
    )
    hard = [difficulty_of(rationale, index) for index, rationale in enumerate(made)]
    total = sum(nats for row in hard for *_, nats in row.steps)
    run.add(
        "weights",
        "weighting.mask_learning",
        {"weights": [weights_of(r, seed=1) for r in made]},
        wires={**questions, **rationales},
        notes=MASK_LEARNING_NOTES if has_notes else {},
    )
    run.add(
        "shuffled",
        "weighting.shuffled",
        {"shuffled": [weights_of(r, seed=2) for r in made]},
        wires={"weights": ["weights.weights"]},
    )
    run.add(
        "uniform",
        "weighting.uniform",
        {"weights": [weights_of(r, seed=0, constant=1.0) for r in made]},
        wires=rationales,
    )
    run.add(
        "difficulty",
        "difficulty.weighted_nll",
        {"difficulty": hard},
        wires={**rationales, "weights": ["weights.weights"]},
        notes={"total_difficulty": total, "steps_without_token": 0} if has_notes else {},
    )
    clusters = [Assignment(question_id=q.id, cluster=i % 3) for i, q in enumerate(train)]
    grouped = [
        {"cluster": k, "size": len(train[k::3]), "examples": [q.text for q in train[k::3][:3]]}
        for k in range(3)
    ]
    run.add(
        "clusters",
        "clustering.kmeans",
        {"clusters": clusters},
        wires=questions,
        notes={"clusters": grouped, "inertia": 12.25} if has_notes else {},
    )
    run.add(
        "curriculum",
        "curriculum.progressive",
        {"curriculum": [curriculum_of(row) for row in hard]},
        wires={
            **rationales,
            "difficulty": ["difficulty.difficulty"],
            "clusters": ["clusters.clusters"],
        },
        notes={"epochs": epoch_notes(total)} if has_notes else {},
    )
    run.add(
        "turned",
        "curriculum.reversed",
        {"reversed": [curriculum_of(row, is_reversed=True) for row in hard]},
        wires={"curriculum": ["curriculum.curriculum"]},
    )


def sweep_runs(
    folder: Path, scores: Mapping[str, Sequence[int]], *, primary: Sequence[str]
) -> list[Archive]:
    """One run a seed; each arm with its number of right answers of 60 under each seed."""
    num_seeds = len(next(iter(scores.values())))
    archives = []
    for seed in range(num_seeds):
        place = folder / f"run-{seed}"
        place.mkdir(parents=True)
        archives.append(
            method_run(
                place,
                scores={arm: right[seed] for arm, right in scores.items()},
                seed=seed,
                primary=primary,
                number=60,
            )
        )
    return archives
