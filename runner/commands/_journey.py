"""One question's journey through a run: what every stage made of it, in the order of the graph, for people to read.

Read from the archived records alone. A record is known by its fields, so that a run of a plug-in that is not installed
any more can still be read; one that is of no type known here is shown field by field.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from itertools import groupby
from typing import Any

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.errors import KpodError
from kpod.runner.record import (
    Assignment,
    Curriculum,
    Difficulty,
    Prediction,
    Question,
    Rationale,
    Record,
    TokenWeights,
)

_WIDTH = 96
_IDS = ("id", "question_id", "rationale_id")


def journey_lines(archive: Archive, start: str) -> Iterator[str]:
    """The lines of one question's journey.

    Args:
        archive: the run.
        start: the id of a question or of a rationale, or its beginning.

    Raises:
        KpodError: no question of this run has such an id, or several have.
    """
    question_id = _question_of(archive, start)
    texts = dict(_rationales(archive, question_id))
    journey = _Journey(archive=archive, ids=frozenset({question_id, *texts}), texts=texts)
    yield f"q_{question_id}"
    yield from journey.lines()


@dataclass(slots=True, kw_only=True)
class _Journey:
    """A question and its rationales.

    Args:
        ids: of the question and its rationales.
        texts: of its rationales, by id.
    """

    archive: Archive
    ids: frozenset[str]
    texts: Mapping[str, str]
    _shown: set[str] = field(default_factory=set)

    def lines(self) -> Iterator[str]:
        """All stages."""
        for unit, output in _outputs(self.archive):
            rows = [
                row
                for row in _rows(self.archive, unit, output, self.ids)
                if any(row.get(name) in self.ids for name in _IDS)
            ]
            if rows:
                yield f"\n{unit.name}.{output}  {unit.uses}"
                for row in rows:
                    yield from (
                        f"  {line}".rstrip() for line in self._told(row, unit=unit, output=output)
                    )

    def _told(self, row: Mapping[str, Any], *, unit: ArchivedUnit, output: str) -> Iterator[str]:
        record = _KNOWN.get(frozenset(row))
        if record is None:
            yield from _field_by_field(row)
        elif record is Assignment:
            yield _cluster(self.archive, unit, output, Assignment.from_row(row).cluster)
        elif record is Rationale:
            yield from self._rationale(Rationale.from_row(row))
        elif record in _OF_A_RATIONALE:
            text = self.texts[row["rationale_id"]]
            if len(self.texts) > 1:
                yield f"rationale {row['rationale_id']}"
            yield from _OF_A_RATIONALE[record](record.from_row(row), text)
        else:
            yield from _OF_A_QUESTION[record](record.from_row(row))

    def _rationale(self, rationale: Rationale) -> Iterator[str]:
        """Who wrote it, the verdict, and the text the first time that it is seen."""
        samples = f", {rationale.count} identical samples" if rationale.count > 1 else ""
        verdict = "" if rationale.verdict is None else f", {rationale.verdict}"
        answer = "" if rationale.answer is None else f", answer {_clean(rationale.answer)}"
        teacher = _clean(rationale.teacher)[:24]
        yield (
            f"{rationale.id}  by {teacher}, ended by {rationale.finish}{samples}{verdict}{answer}"
        )
        if rationale.id in self._shown:
            yield "  (the text above)"
        else:
            yield from _indented(rationale.text)
        self._shown.add(rationale.id)


def _question(question: Question) -> Iterator[str]:
    yield from _text_lines(question.text)
    for letter, choice in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", question.choices or (), strict=False):
        yield f"  {letter}  {_clean(choice)}"
    gold = "none" if question.answer is None else _clean(question.answer)
    yield f"gold answer: {gold}  ({question.kind}, {question.split}, {_clean(question.source)})"


def _prediction(prediction: Prediction) -> Iterator[str]:
    verdicts = {True: "right", False: "wrong", None: "not scored"}
    answer = "no answer" if prediction.answer is None else f"answer {_clean(prediction.answer)}"
    rule = "" if prediction.rule is None else f" by rule {prediction.rule}"
    sample = f"sample {prediction.sample}: " if prediction.sample else ""
    yield (
        f"{sample}{verdicts[prediction.is_correct]}, {answer}{rule}; "
        f"{prediction.num_tokens} tokens, ended by {prediction.finish}"
    )
    yield from _indented(prediction.text)


def _weights(weights: TokenWeights, text: str) -> Iterator[str]:
    """The text with each stretch's weight under it, wrapped; a line of its own where all weigh the same."""
    if len(set(weights.weights)) == 1:
        yield f"all {len(weights.weights)} tokens weigh {weights.weights[0]:.2f}"
        return
    cells = [
        (_clean(text[start:end].strip(" ")), f"{weight:.2f}")
        for (start, end), weight in zip(weights.spans, weights.weights, strict=True)
        if text[start:end].strip()
    ]
    mean = sum(weights.weights) / len(weights.weights)
    yield f"{len(weights.weights)} tokens, mean weight {mean:.2f}; weight below each token"
    for row in _wrapped(cells):
        widths = [max(map(len, cell)) for cell in row]
        for line in zip(*row, strict=True):
            yield "  " + " ".join(
                part.ljust(width) for part, width in zip(line, widths, strict=True)
            )


def _wrapped(cells: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The cells in rows that fit the width."""
    row: list[tuple[str, str]] = []
    used = 0
    for cell in cells:
        width = max(map(len, cell)) + 1
        if row and used + width > _WIDTH:
            yield row
            row, used = [], 0
        row.append(cell)
        used += width
    if row:
        yield row


def _difficulty(difficulty: Difficulty, text: str) -> Iterator[str]:
    total = sum(nats for _, _, nats in difficulty.steps)
    yield f"{len(difficulty.steps)} steps, {total:.3f} nats in all"
    for number, (start, end, nats) in enumerate(difficulty.steps, start=1):
        yield f"  step {number}  {nats:7.3f}  {_clean(text[start:end].strip())}"


def _curriculum(curriculum: Curriculum, text: str) -> Iterator[str]:
    """What is input and what is generated, one block for epochs that are alike."""
    epochs = enumerate(zip(curriculum.given, curriculum.cut, strict=True), start=1)
    yield f"{curriculum.num_steps} steps"
    for (given, cut), alike in groupby(epochs, key=lambda item: item[1]):
        numbers = [epoch for epoch, _ in alike]
        span = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        yield f"epoch {span}: {given} given, {curriculum.num_steps - given} generated"
        if given:
            yield f"  input      {_clean(text[:cut].strip())}"
            yield f"  generated  {_clean(text[cut:].strip()) or '(only the answer)'}"
    if curriculum.given and curriculum.given[-1]:
        yield f"after epoch {len(curriculum.given)}: all steps are generated"


def _cluster(archive: Archive, unit: ArchivedUnit, output: str, cluster: int) -> str:
    sizes = Counter(row.cluster for row in archive.read(unit, output, Assignment))
    return f"cluster {cluster}, with {sizes[cluster]:,} of {sizes.total():,} questions in {len(sizes)} clusters"


_OF_A_QUESTION: dict[type[Record], Callable[[Any], Iterator[str]]] = {
    Question: _question,
    Prediction: _prediction,
}
_OF_A_RATIONALE: dict[type[Record], Callable[[Any, str], Iterator[str]]] = {
    TokenWeights: _weights,
    Difficulty: _difficulty,
    Curriculum: _curriculum,
}
_KNOWN: dict[frozenset[str], type[Record]] = {
    frozenset(field.name for field in fields(record)): record
    for record in (*_OF_A_QUESTION, Rationale, *_OF_A_RATIONALE, Assignment)
}


def _question_of(archive: Archive, start: str) -> str:
    """The id of the question that the start of an id means: its own, or that of a rationale."""
    found: dict[str, None] = {}
    for unit, output in _outputs(archive):
        for row in _rows(archive, unit, output, {start}):
            own, question = row.get("id"), row.get("question_id")
            for name in (own, question):
                if isinstance(name, str) and name.startswith(start):
                    found[question or name] = None
    if len(found) == 1:
        return next(iter(found))
    if found:
        ids = ", ".join(f"q_{name}" for name in list(found)[:8])
        raise KpodError(f"q_{start} fits {len(found)} questions of {archive.name}\nallowed: {ids}")
    raise KpodError(f"{archive.name} has no question whose id begins with '{start}'")


def _rationales(archive: Archive, question_id: str) -> Iterator[tuple[str, str]]:
    """Ids and texts of all rationales for a question."""
    for unit, output in _outputs(archive):
        for row in _rows(archive, unit, output, {question_id}):
            if row.get("question_id") == question_id and {"id", "text"} <= row.keys():
                yield row["id"], row["text"]


def _outputs(archive: Archive) -> Iterator[tuple[ArchivedUnit, str]]:
    """Every output that holds records, in the order of the graph."""
    for unit in archive.units.values():
        for output, stored in unit.manifest.outputs.items():
            if stored.num_records is not None and archive.output_path(unit, output).exists():
                yield unit, output


def _rows(
    archive: Archive, unit: ArchivedUnit, output: str, ids: Set[str]
) -> Iterator[dict[str, Any]]:
    """The rows in which one of these texts stands; only those are parsed."""
    with archive.output_path(unit, output).open(encoding="utf-8") as lines:
        for line in lines:
            if any(name in line for name in ids):
                yield json.loads(line)


def _field_by_field(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{name}: {_clean(text)}"


def _indented(text: str) -> Iterator[str]:
    yield from (f"  {line}" for line in _text_lines(text))


def _text_lines(text: str) -> Iterator[str]:
    yield from (_clean(line) for line in text.split("\n"))


def _clean(text: str) -> str:
    """A model's text on one line, without what a terminal would obey."""
    shown = text.replace("\n", "↵").replace("\t", " ")
    return "".join(letter if letter.isprintable() else "�" for letter in shown)
