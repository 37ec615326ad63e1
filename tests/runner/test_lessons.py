"""What two students were taught: what is read of it, how it is found, and what a cluster is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner.comparing.lessons import Lessons, School
from kpod.runner.comparing.reading import differing, naming

IDS = st.sampled_from(["a", "b", "q1", "q10", 'with "quotes"', "naïve"])
ROWS = st.lists(
    st.fixed_dictionaries({"id": IDS, "of": IDS, "text": st.text(max_size=9)}), max_size=9
)
TEXTS = {"q1": "Mia has 4 eggs.", "q2": "Tom has 5 cars.", "q3": "Ann has 6 cats."}


class Taught(School):
    """A school that was never written down."""

    def __init__(
        self, rationales: Mapping[str, Mapping[str, str]], clusters: Mapping[str, int]
    ) -> None:
        self.questions, self.rationales, self.clusters = (
            dict(TEXTS),
            dict(rationales),
            dict(clusters),
        )  # type: ignore[misc]
        self.asked: list[set[str]] = []

    def rationales_of(self, questions: Collection[str]) -> Any:
        """All of them."""
        self.asked.append(set(questions))
        return self.rationales

    def nats_of(self, taught: Mapping[str, Collection[str]]) -> dict[str, float]:
        """One for every question."""
        return dict.fromkeys(taught, 1.5)


def _lines(rows: list[dict[str, str]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


@given(ROWS, st.sets(IDS))
def test_no_record_that_names_an_id_is_left_out(rows: list[dict[str, str]], ids: set[str]) -> None:
    found = list(naming(_lines(rows), ids))

    assert [row for row in found if row["of"] in ids] == [row for row in rows if row["of"] in ids]
    assert all(row in rows for row in found)


def test_of_few_ids_no_other_record_is_read() -> None:
    content = b'{"id":"a","of":"q1"}\nno JSON that names q1\n{"id":"b","of":"q10"}'

    assert list(naming(content, ["q10"])) == [{"id": "b", "of": "q10"}]
    assert list(naming(content, [])) == []


def test_of_many_ids_all_is_read_at_once() -> None:
    rows = [{"id": str(number)} for number in range(100)]

    assert list(naming(_lines(rows), [str(number) for number in range(70)])) == rows


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True))
def test_records_of_the_same_bytes_are_counted_and_left_out(a: list[int], b: list[int]) -> None:
    found = differing(*(_lines([{"id": str(one)} for one in side]) for side in (a, b)))

    assert found.num_same == len(set(a) & set(b))
    assert found.a == [orjson.dumps({"id": str(one)}) for one in a if one not in b]
    assert found.b == [orjson.dumps({"id": str(one)}) for one in b if one not in a]


def test_where_a_record_stands_twice_all_are_kept() -> None:
    found = differing(b'{"id":"a"}\n{"id":"a"}\n', b'{"id":"a"}\n')

    assert (len(found.a), len(found.b), found.num_same) == (2, 1, 0)


def test_a_cluster_of_b_is_called_as_a_calls_it() -> None:
    rationales = {key: {f"r{key}": "four"} for key in TEXTS}
    a = Taught(rationales, {"q1": 0, "q2": 1, "q3": 1})
    b = Taught(rationales, {"q1": 7, "q2": 0, "q3": 0})

    ((lesson,), (other,)) = Lessons(a, b).like(["How many eggs has Mia?", "Tom sells cars."])

    assert (lesson.question_id, lesson.cluster) == ("q1", (0, 0))
    assert (other.question_id, other.cluster) == ("q2", (1, 1))
    assert lesson.nats == (1.5, 1.5)


def test_what_one_student_alone_was_taught_is_found_beside_what_is_most_alike() -> None:
    a = Taught({"q1": {"r1": "four"}, "q3": {"r3": "six"}}, {})
    b = Taught({"q1": {"r1": "four"}, "q3": {"r4": "seven"}}, {})

    ((nearest, unlike),) = Lessons(a, b).like(["How many eggs has Mia?"])

    assert (nearest.question_id, nearest.only_a, nearest.cluster) == ("q1", (), (None, None))
    assert (unlike.question_id, unlike.only_a, unlike.only_b) == ("q3", ("six",), ("seven",))
    assert nearest.likeness > unlike.likeness


def test_one_school_is_asked_once_and_only_for_what_was_found() -> None:
    school = Taught({"q1": {"r1": "four"}}, {"q1": 3})

    ((lesson,),) = Lessons(school, school).like(["eggs"])

    assert (lesson.question_id, lesson.cluster) == ("q1", (3, 3))
    assert school.asked == [{"q1"}]


@pytest.mark.parametrize("text", ["", "zebra", "7 + 8"])
def test_a_text_without_a_word_in_common_has_no_lesson(text: str) -> None:
    school = Taught({}, {})

    assert Lessons(school, school).like([text]) == [()]
