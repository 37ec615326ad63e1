"""`kpod accept`: an earlier result stands where a part made again is the same, and only where nothing but code changed."""

from __future__ import annotations

import json
from typing import Any

import kpod_chain.step as chain_step
import kpod_school.exam as school
import pytest

from kpod.runner import Assignment
from kpod.runner.accepting import accept
from kpod.runner.cli import main
from kpod.runner.errors import KpodError
from tests.chain import Chain, recipe, seven, step

LESSONS = recipe(
    s1={"uses": "chain.numbers", "with": {"count": 50}},
    lessons={"uses": "school.lesson", "in": {"questions": "s1"}},
)


def newer(monkeypatch: pytest.MonkeyPatch, stage: Any) -> None:
    """The stage's code changed."""
    monkeypatch.setattr(stage, "version", stage.version + 1)


def command(chain: Chain, *words: str) -> int:
    return main(["accept", str(chain.folder / chain.name), *words, "--runs", str(chain.runs)])


def test_a_result_that_comes_out_the_same_stands_and_nothing_after_it_runs(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = chain.run(seven()).archive
    newer(monkeypatch, chain_step.Step)
    for number in range(2, 7):
        assert command(chain, f"s{number}", "--because", "tidied") == 0
    told = capsys.readouterr().out
    after = chain.run()

    assert (
        "s2: version changed: 1 -> 2\n  made again: all of it: bit-identical; the earlier result stands"
        in told
    )
    assert after.executed == []
    one = after.archive.units["s4"].manifest
    assert one.outputs == before.units["s4"].manifest.outputs
    assert one.notes["accepted"]["because"] == "tidied"
    assert one.notes["accepted"]["from"] == before.units["s4"].manifest.key


def test_a_result_that_differs_does_not_stand(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())
    newer(monkeypatch, chain_step.Step)
    honest = chain_step.Step.run

    def off_by_one(self: Any, ctx: Any) -> None:
        ctx.checkpoint.joinpath("done.txt").write_text("1 2 4", encoding="utf-8")
        honest(self, ctx)

    monkeypatch.setattr(chain_step.Step, "run", off_by_one)
    assert command(chain, "s2", "--because", "tidied") == 3

    told = capsys.readouterr().out
    assert "not accepted: result: record 3 2ccf89e81738868b, id: " in told
    assert "run the recipe" in told
    assert [one.status for one in chain.session().plan()][:2] == ["hit", "run"]


def test_nothing_of_what_was_made_again_is_kept(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run(seven())
    newer(monkeypatch, chain_step.Step)
    accept(chain.session(), "s2", because="tidied", sample=20)

    assert list((chain.store / "tmp").iterdir()) == []
    assert list((chain.store / "partial").glob("*")) == []


def test_of_a_stage_that_works_by_question_a_few_are_looked_at(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.write(LESSONS)
    monkeypatch.setattr(
        school,
        "Assignment",
        lambda question_id, cluster: Assignment(question_id=question_id, cluster=0),
    )
    chain.run()
    newer(monkeypatch, school.Lesson)
    monkeypatch.setattr(school.Lesson, "by_question", True)
    seen: list[int] = []
    honest = school.Lesson.run

    def counted(self: Any, ctx: Any) -> None:
        seen.append(len(list(ctx.read(self.questions))))
        honest(self, ctx)

    monkeypatch.setattr(school.Lesson, "run", counted)
    (one,) = accept(chain.session(), "lessons", because="tidied", sample=7)

    assert seen == [7]
    others = "what names no question was not compared: curriculum, difficulty, weights"
    assert (one.part, one.verdict) == (f"7 of 50 questions ({others})", "bit-identical")
    assert chain.run().executed == []


def test_a_stage_that_only_says_it_works_by_question_is_found_out(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run(LESSONS)  # clusters go by the place of a question among the others
    newer(monkeypatch, school.Lesson)
    monkeypatch.setattr(school.Lesson, "by_question", True)
    (one,) = accept(chain.session(), "lessons", because="tidied", sample=7)

    assert one.verdict == "diverged"
    assert one.first.startswith("clusters: record ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"s2": {"add": 5}},
            "s2: config changed: add 1 -> 5\nonly results whose code or libraries changed",
        ),
        (
            {"s1": {"count": 6}},
            "s2 depends on s1, whose result is not known\naccept or run that first",
        ),
    ],
)
def test_what_was_changed_on_purpose_is_not_accepted(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    chain.run(seven())
    newer(monkeypatch, chain_step.Step)
    chain.write(seven(**change))

    with pytest.raises(KpodError) as caught:
        accept(chain.session(), "s2", because="tidied", sample=20)
    assert str(caught.value).startswith(said)


def test_without_an_earlier_result_there_is_nothing_to_stand(chain: Chain) -> None:
    chain.run(recipe(s1={"uses": "chain.numbers", "with": {"count": 5}}))
    chain.write(recipe(s1={"uses": "chain.numbers", "with": {"count": 5}}, s2=step("s1", "s2")))

    with pytest.raises(
        KpodError, match=r"s2 has no earlier result in .* that could stand\nrun the recipe"
    ):
        accept(chain.session(), "s2", because="tidied", sample=20)


def test_answers_of_an_endpoint_are_not_asked_for_again(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run(seven())
    newer(monkeypatch, chain_step.Step)
    monkeypatch.setattr(chain_step.Step, "determinism", "external")

    with pytest.raises(KpodError, match="asks an endpoint"):
        accept(chain.session(), "s2", because="tidied", sample=20)


def test_a_stored_result_needs_no_acceptance(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())

    assert command(chain, "s2", "--because", "tidied") == 0
    assert capsys.readouterr().out == "s2: its result is stored; there is nothing to accept\n"
    assert command(chain, "s2", "--because", "tidied", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "stored"


@pytest.mark.parametrize(
    "words",
    [("s2", "--because", " "), ("s2", "--because", "x", "--sample", "0"), ("s9", "--because", "x")],
)
def test_a_wrong_call_is_told_in_words(
    chain: Chain, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    chain.run(seven())

    assert command(chain, *words) == 2
    assert "Traceback" not in capsys.readouterr().err
