"""Where inputs come from: named, or in no doubt."""

from __future__ import annotations

from typing import Any

import pytest

from kpod.runner import Assignment, Input, Output, Question, Rationale, Stage
from kpod.runner.errors import Position
from kpod.runner.wiring import Named, Unwired, Wiring


class Data(Stage[Any]):
    """Questions in every role."""

    train = Output(Question, role="train")
    test = Output(Question, role="test")


class Teacher(Stage[Any]):
    """Questions to rationales."""

    questions = Input(Question, role="train")
    rationales = Output(Rationale)


class Filter(Stage[Any]):
    """Rationales refined."""

    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    verified = Output(Rationale, refines="rationales")


class FilterMany(Stage[Any]):
    """Rationales of several sources refined."""

    questions = Input(Question, role="train")
    rationales = Input(Rationale, many=True)
    verified = Output(Rationale, refines="rationales")


class Again(Stage[Any]):
    """A teacher that is asked what is not solved."""

    questions = Input(Question, role="train")
    solved = Input(Rationale, optional=True)
    rationales = Output(Rationale)


class Student(Stage[Any]):
    """Reads rationales, and clusters where they are named."""

    rationales = Input(Rationale)
    clusters = Input(Assignment, optional=True)
    held_out = Input(Question, role="test")


class Clusters(Stage[Any]):
    """Questions to clusters."""

    questions = Input(Question, role="train")
    clusters = Output(Assignment)


class Many(Stage[Any]):
    """Several rationales at once."""

    rationales = Input(Rationale, many=True)


class Two(Stage[Any]):
    """Two outputs of one type."""

    one = Output(Rationale)
    two = Output(Rationale)


Two.uses = "teacher.two"


def wiring(**stages: tuple[type[Stage[Any]], dict[str, Any]] | type[Stage[Any]]) -> Wiring:
    """A wiring of stages, each a class or a class with what `in` says."""
    place = Position("r.yaml", 1, 1)
    unwired = {}
    for name, stage in stages.items():
        kind, sources = stage if isinstance(stage, tuple) else (stage, {})
        named = {
            key: tuple(Named(text, place) for text in ([value] if isinstance(value, str) else value))
            for key, value in sources.items()
        }  # fmt: skip
        unwired[name] = Unwired(kind, named, place, dict.fromkeys(sources, place))
    found = Wiring(unwired)
    found.wire_all()
    return found


def wires_of(found: Wiring, stage: str) -> dict[str, list[str]]:
    assert [str(problem) for problem in found.problems] == []
    return {name: [str(wire) for wire in wires] for name, wires in found.wires[stage].items()}


def test_roles_choose_the_output() -> None:
    found = wiring(data=Data, teacher=Teacher, student=Student)

    assert wires_of(found, "teacher") == {"questions": ["data.train"]}
    assert wires_of(found, "student") == {"rationales": ["teacher.rationales"], "held_out": ["data.test"]}  # fmt: skip


@pytest.mark.parametrize("is_filter_first", [False, True])
def test_a_filter_supersedes_what_it_filtered_wherever_it_stands(*, is_filter_first: bool) -> None:
    stages: dict[str, Any] = {"data": Data, "teacher": Teacher, "student": Student}
    stages = {"verified": Filter, **stages} if is_filter_first else {**stages, "verified": Filter}

    found = wiring(**stages)

    assert wires_of(found, "verified")["rationales"] == ["teacher.rationales"]
    assert wires_of(found, "student")["rationales"] == ["verified.verified"]


def test_two_filters_in_a_row_name_their_inputs() -> None:
    found = wiring(data=Data, teacher=Teacher, one=Filter, two=Filter, student=Student)

    assert sum("could come from 2 stages" in problem.message for problem in found.problems) == 2
    named = wiring(
        data=Data, teacher=Teacher, one=(Filter, {"rationales": "teacher"}),
        two=(Filter, {"rationales": "one"}), student=Student,
    )  # fmt: skip
    assert wires_of(named, "student")["rationales"] == ["two.verified"]


def test_what_waits_for_a_stage_is_no_candidate_of_it() -> None:
    """A ladder: filter, ask again for what is unsolved, filter both."""
    found = wiring(
        questions=Data,
        rationales=Teacher,
        verified=Filter,
        again=(Again, {"solved": ["verified"]}),
        kept=(FilterMany, {"rationales": ["verified", "again"]}),
        student=Student,
    )

    assert wires_of(found, "verified")["rationales"] == ["rationales.rationales"]
    assert wires_of(found, "student")["rationales"] == ["kept.verified"]


def test_what_is_superseded_may_still_be_named() -> None:
    found = wiring(data=Data, teacher=Teacher, one=Filter, raw=(Student, {"rationales": "teacher"}))

    assert wires_of(found, "raw")["rationales"] == ["teacher.rationales"]


def test_an_optional_input_is_wired_only_when_named() -> None:
    stages: dict[str, Any] = {"data": Data, "teacher": Teacher, "clusters": Clusters}

    assert "clusters" not in wires_of(wiring(**stages, student=Student), "student")
    named = wiring(**stages, student=(Student, {"clusters": "clusters"}))
    assert wires_of(named, "student")["clusters"] == ["clusters.clusters"]


def test_a_list_keeps_its_order() -> None:
    found = wiring(
        data=Data, b=Teacher, a=Teacher, many=(Many, {"rationales": ["b", "a.rationales"]})
    )

    assert wires_of(found, "many")["rationales"] == ["b.rationales", "a.rationales"]


def test_several_candidates_are_listed() -> None:
    (problem,) = wiring(data=Data, b=Teacher, a=Teacher, many=Many).problems

    assert problem.message == "'rationales' (Rationale) could come from 2 stages"
    assert problem.allowed == "a.rationales, b.rationales"


def test_order_puts_each_stage_behind_what_it_reads_and_knows_no_file_order() -> None:
    one = wiring(student=Student, teacher=Teacher, verified=Filter, data=Data)
    two = wiring(data=Data, verified=Filter, teacher=Teacher, student=Student)

    assert ["data", "teacher", "verified", "student"] == one.order() == two.order()


def test_a_circle_names_its_members_and_not_those_behind_it() -> None:
    (problem,) = wiring(
        data=Data, a=(Filter, {"rationales": "b"}), b=(Filter, {"rationales": "a"}),
        behind=(Student, {"rationales": "b"}),
    ).problems  # fmt: skip

    assert problem.message == "these stages wait for each other in a circle: a <- b <- a"


def test_a_name_that_leaves_the_output_open_is_refused() -> None:
    (problem,) = wiring(two=Two, many=(Many, {"rationales": "two"})).problems

    assert (
        problem.message == "two (teacher.two) has several outputs that fit 'rationales' (Rationale)"
    )
    assert problem.allowed == "two.one, two.two"
