"""What `kpod diff` says of a stage, a flip and a method, line by line."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from kpod.runner.commands.diff import _flip_lines, _method_lines, _stage_lines
from kpod.runner.comparing.flips import Flip, Lesson
from kpod.runner.comparing.rows import change_of
from kpod.runner.comparing.stages import StageChange
from kpod.runner.record import Rationale
from kpod.runner.seeds import Method
from kpod.runner.significance import paired


def _said(stage: StageChange) -> str:
    assert stage.to_json()["unit"] == stage.unit
    return "\n".join(_stage_lines(stage))


def test_a_stage_is_told_with_time_cost_cause_and_examples() -> None:
    rows = [[asdict(Rationale.make("q1", text, teacher="t"))] for text in ("2 eggs", "3 eggs")]
    weights = [
        [{"rationale_id": "r", "spans": [[0, 1]], "weights": [weight]}] for weight in (0.25, 0.75)
    ]
    told = _said(
        StageChange(
            unit="rationales", uses="teacher.openai", status="differs", causes=("config changed: samples 1 -> 4",),
            outputs=(change_of("Rationale", "rationales", *rows), change_of("TokenWeights", "weights", *weights)),
            seconds=(1.0, 2.5), usd=(None, 0.5),
        )
    )  # fmt: skip

    assert "rationales  differs  (teacher.openai, 1.0 s -> 2.5 s, no price -> 0.5000 USD)" in told
    assert "    because config changed: samples 1 -> 4" in told
    assert "      q1: [-2-]{+3+} eggs" in told
    assert "      r [0, 1]: 0.250 -> 0.750" in told


@pytest.mark.parametrize(
    ("status", "said"),
    [("same", "s  same"), ("only in A", "s  only in A"), ("differs", "not deterministic here")],
)
def test_a_stage_without_causes_is_told_by_its_status(status: str, said: str) -> None:
    told = _said(StageChange(unit="s", uses="x.y", status=status, seconds=(1.0, None)))  # type: ignore[arg-type]

    assert said in told


@pytest.mark.parametrize("nats", [(None, None), (4.0, None)])
@pytest.mark.parametrize("cluster", [(None, None), (1, 2)])
def test_a_flip_is_told_with_the_lesson_most_like_it(
    nats: tuple[float | None, float | None], cluster: tuple[int | None, int | None]
) -> None:
    lesson = Lesson(
        question_id="t1", text="How many?", likeness=0.5, cluster=cluster, nats=nats, only_a=("taught a",), only_b=("taught b",),
    )  # fmt: skip
    flips = tuple(
        Flip(
            question_id=f"q{number}", question="How  many\nowls?", gold="3", kind=kind, texts=("two " * 90, "three"),
            answers=("2", "3"), lessons=(lesson,),
        )
        for number, kind in enumerate(("fixed", "broken", "fixed", "fixed", "fixed"))
    )  # type: ignore[arg-type]  # fmt: skip

    told = "\n".join(_flip_lines(flips))

    assert told.count("    fixed ") == 3
    assert "    broken q1 (gold 3): How many owls?" in told
    assert "only in A: taught a; only in B: taught b" in told
    assert ("cluster 1 / 2" in told) == (cluster == (1, 2))
    assert ("difficulty 4.0 / none nats" in told) == (nats[0] == 4.0)
    assert flips[0].to_json()["kind"] == "fixed"


def test_a_method_inside_the_noise_says_how_many_seeds_would_tell() -> None:
    scores = {seed: (0.5, 0.5 + gain) for seed, gain in enumerate((0.03, -0.02, 0.01))}
    result = paired([after - before for before, after in scores.values()])
    told = "\n".join(_method_lines(Method(a="A", b="B", scores=scores, result=result)))

    assert "A / B by seed: 0: 0.500 / 0.530" in told
    assert "seeds would tell this difference" in told
    assert list(_method_lines("only the seed differs")) == ["    the method: only the seed differs"]
