"""What changed inside an output of records, told in the terms of its kind: rows in and out, texts word by word, numbers moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any

from kpod.runner.comparing.moved import Columns, Moved, Numbers
from kpod.runner.comparing.reading import Differing
from kpod.runner.comparing.renaming import names_in_a
from kpod.runner.comparing.weights import weights_at_same_places
from kpod.runner.comparing.words import word_diff

Row = Mapping[str, Any]
BY_ID = frozenset({"Question", "TokenWeights", "Difficulty", "Curriculum"})
"""Types whose rows are each compared with the one of the same id: rows that are the same need not be looked at."""

_MOST_EXAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One thing that changed.

    Args:
        id: of the question or the rationale.
        before, after: what A and B have; None where one has nothing.
        words: both in one text, [-gone-] and {+new+}; "" where they are no texts.
    """

    id: str
    before: str | None
    after: str | None
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed in one output.

    Args:
        output, record: its name and the type of its records.
        num_a, num_b: records in A and in B.
        num_same: records that both have.
        only_a, only_b: what one alone has: questions, rationales (see `num_reworded`), or ids.
        num_reworded: questions that have rationales in both, but not the same ones.
        moved: how numbers that both have went; None where the record holds none.
        examples: at most 20.
        renamed: clusters of B that A calls otherwise: number in B, number in A.
    """

    output: str
    record: str
    num_a: int
    num_b: int
    num_same: int
    only_a: int
    only_b: int
    num_reworded: int = 0
    moved: Moved | None = None
    examples: tuple[Example, ...] = ()
    renamed: dict[int, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        said = [
            f"{self.num_same:,} the same",
            f"{self.only_a:,} only in A",
            f"{self.only_b:,} only in B",
        ]
        if self.num_reworded:
            said.append(f"{self.num_reworded:,} questions with other texts")
        if self.moved is not None:
            said.append(self.moved.sentence)
        if self.renamed:
            said.append("clusters of B called as A calls them")
        return f"{self.output}: {', '.join(said)}"

    def to_json(self) -> dict[str, Any]:
        """As JSON; `renamed` only where it says something."""
        found = asdict(self)
        if not self.renamed:
            del found["renamed"]
        return found


def change_of(record: str, output: str, a: Iterable[Row], b: Iterable[Row]) -> Change:
    """Compare two outputs of one type of record.

    Args:
        record: name of the type.
        output: name of the output.
        a: its rows in A, as JSON objects.
        b: those in B.
    """
    return _BY_RECORD.get(record, _plain)(record, output, list(a), list(b))


def change_of_lines(record: str, output: str, lines: Differing) -> Change:
    """As `change_of`, of a type that is `BY_ID`, whose lines that both have need not be read."""
    import orjson

    also = weights_at_same_places(lines) if record == "TokenWeights" else None
    if also is None:
        found = change_of(record, output, map(orjson.loads, lines.a), map(orjson.loads, lines.b))
    else:
        found = Change(
            output=output, record=record, num_a=len(lines.a), num_b=len(lines.b), num_same=also.num_same, only_a=0, only_b=0,
            moved=also.numbers.moved("weight"),
        )  # fmt: skip
    return replace(
        found, num_a=found.num_a + lines.num_same, num_b=found.num_b + lines.num_same,
        num_same=found.num_same + lines.num_same,
    )  # fmt: skip


def _plain(record: str, output: str, a: list[Row], b: list[Row]) -> Change:
    """Rows by their place: nothing is known of them."""
    num_same = sum(left == right for left, right in zip(a, b, strict=False))
    return Change(
        output=output, record=record, num_a=len(a), num_b=len(b), num_same=num_same,
        only_a=len(a) - num_same, only_b=len(b) - num_same,
    )  # fmt: skip


def _questions(record: str, output: str, a: list[Row], b: list[Row]) -> Change:
    """Questions in and out; one of the same text with another gold answer is told as both."""
    left = {row["id"]: row for row in a}
    right = {row["id"]: row for row in b}
    examples = [
        Example(id=key, before=before, after=after)
        for key in _differing(left, right)
        for before, after in [_questions_told(left.get(key), right.get(key))]
    ]
    num_same = sum(left[key] == right[key] for key in left if key in right)
    return Change(
        output=output, record=record, num_a=len(a), num_b=len(b), num_same=num_same,
        only_a=len(left) - num_same, only_b=len(right) - num_same, examples=tuple(examples[:_MOST_EXAMPLES]),
    )  # fmt: skip


def _questions_told(before: Row | None, after: Row | None) -> tuple[str | None, str | None]:
    """A question in A and in B; where text and gold answer are the same, what else is not."""
    told = _question(before), _question(after)
    if before is None or after is None or told[0] != told[1]:
        return told
    names = [
        name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)
    ]
    left, right = (
        "; ".join(f"{name}: {row.get(name)}" for name in names) for row in (before, after)
    )
    return f"{told[0]} {left}", right


def _question(row: Row | None) -> str | None:
    return None if row is None else f"{row['text']} (gold: {row['answer']})"


def _rationales(record: str, output: str, a: list[Row], b: list[Row]) -> Change:
    """Rationales by question: a text that one run alone has is shown beside the other's, word by word."""
    left, right = _by_question(a), _by_question(b)
    ids_a, ids_b = {row["id"] for row in a}, {row["id"] for row in b}
    examples: list[Example] = []
    num_reworded = 0
    for question in dict.fromkeys([*left, *right]):
        gone = [row["text"] for row in left.get(question, ()) if row["id"] not in ids_b]
        new = [row["text"] for row in right.get(question, ()) if row["id"] not in ids_a]
        num_reworded += bool(gone and new)
        for before, after in zip_longest(gone, new):
            if len(examples) < _MOST_EXAMPLES:
                words = word_diff(before, after) if before and after else ""
                examples.append(Example(id=question, before=before, after=after, words=words))
    return Change(
        output=output, record=record, num_a=len(a), num_b=len(b), num_same=len(ids_a & ids_b),
        only_a=len(ids_a - ids_b), only_b=len(ids_b - ids_a), num_reworded=num_reworded, examples=tuple(examples),
    )  # fmt: skip


def _by_question(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["question_id"], []).append(row)
    return found


def _numbers(
    id_of: str, columns: Callable[[Row], Columns], unit: str
) -> Callable[[str, str, list[Row], list[Row]], Change]:
    """A comparison of records that hold numbers: how those that both have moved."""

    def compare(record: str, output: str, a: list[Row], b: list[Row]) -> Change:
        left, right = {row[id_of]: row for row in a}, {row[id_of]: row for row in b}
        shared = [key for key in left if key in right]
        changed = [key for key in shared if left[key] != right[key]]
        numbers = Numbers()
        for key in changed:
            numbers.add(key, columns(left[key]), columns(right[key]))
        return Change(
            output=output, record=record, num_a=len(a), num_b=len(b), num_same=len(shared) - len(changed),
            only_a=len(left) - len(shared), only_b=len(right) - len(shared), moved=numbers.moved(unit),
        )  # fmt: skip

    return compare


def _weights(row: Row) -> Columns:
    return Columns(row["spans"], row["weights"])


def _difficulties(row: Row) -> Columns:
    return Columns([step[:2] for step in row["steps"]], [step[2] for step in row["steps"]])


def _given(row: Row) -> Columns:
    return Columns(
        [f"epoch {epoch}" for epoch in range(1, len(row["given"]) + 1)],
        [float(given) for given in row["given"]],
    )


def _assignments(record: str, output: str, a: list[Row], b: list[Row]) -> Change:
    """Clusters are the same where the same questions stand together, whatever their numbers: B's are called as A calls them."""
    left = {row["question_id"]: row["cluster"] for row in a}
    right = {row["question_id"]: row["cluster"] for row in b}
    names = names_in_a(left, right)
    shared = [key for key in left if key in right]
    moved_ids = [key for key in shared if left[key] != names[right[key]]]
    examples = [
        Example(id=key, before=f"cluster {left[key]}", after=f"cluster {names[right[key]]}")
        for key in moved_ids[:_MOST_EXAMPLES]
    ]
    return Change(
        output=output, record=record, num_a=len(a), num_b=len(b), num_same=len(shared) - len(moved_ids),
        only_a=len(left) - len(shared), only_b=len(right) - len(shared), examples=tuple(examples),
        renamed={number: name for number, name in names.items() if number != name},
    )  # fmt: skip


def _predictions(record: str, output: str, a: list[Row], b: list[Row]) -> Change:
    """Texts by question and sample; whether they are right is said under the scores."""
    left = {(row["question_id"], row["sample"]): row for row in a}
    right = {(row["question_id"], row["sample"]): row for row in b}
    shared = [key for key in left if key in right]
    other = [key for key in shared if left[key]["text"] != right[key]["text"]]
    return Change(
        output=output, record=record, num_a=len(a), num_b=len(b), num_same=len(shared) - len(other),
        only_a=len(left) - len(shared), only_b=len(right) - len(shared), num_reworded=len(other),
    )  # fmt: skip


def _differing(left: Mapping[str, Row], right: Mapping[str, Row]) -> Iterator[str]:
    for key in dict.fromkeys([*left, *right]):
        if left.get(key) != right.get(key):
            yield key


_BY_RECORD: dict[str, Callable[[str, str, list[Row], list[Row]], Change]] = {
    "Question": _questions,
    "Rationale": _rationales,
    "TokenWeights": _numbers("rationale_id", _weights, "weight"),
    "Difficulty": _numbers("rationale_id", _difficulties, "nats"),
    "Curriculum": _numbers("rationale_id", _given, "steps given"),
    "Assignment": _assignments,
    "Prediction": _predictions,
}
