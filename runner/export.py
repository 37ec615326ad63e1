"""Plain files made of an archived run, for programs that know nothing of kpod: what the student read, what it said.

    cot_dataset.jsonl   {"question": …, "cot": …}
    predictions.jsonl   {"question": …, "generated_text": …, "prediction": …, "gold_answer": …}

Read from the archive alone, joined by id; `prediction` is null where no answer was found, `gold_answer` where there is none.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.disk import disk_problem
from kpod.runner.errors import KpodError, nearest
from kpod.runner.record import Prediction, Question, Rationale

Form = Literal["cot", "predictions"]
FILE_NAMES: dict[Form, str] = {"cot": "cot_dataset.jsonl", "predictions": "predictions.jsonl"}


class ExportError(KpodError):
    """There is nothing of that form in the run, more than one, or the file cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Args:
        run: name of the archive.
        unit: whose output it is.
        file: where it lies.
        num_rows: how many lines it has.
    """

    run: str
    unit: str
    file: Path
    num_rows: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "run": self.run,
            "unit": self.unit,
            "file": str(self.file),
            "num_rows": self.num_rows,
        }


def export(
    archive: Archive, form: Form, *, to: Path, arm: str | None, stage: str | None, overwrites: bool
) -> Exported:
    """Write one form of a run into a file.

    Args:
        archive: of a complete run.
        form: cot: questions with the rationales a student read; predictions: what a model said to the test's questions.
        to: the file.
        arm: the student, or the model that was asked; None: the one there is, or the last of `compare.primary`.
        stage: the stage whose rationales or predictions are meant; None: the one there is.
        overwrites: whether a file that is there may go.

    Raises:
        ExportError: nothing fits, several do, an id has no question, or the file is there.
    """
    if to.exists() and (to.is_dir() or not overwrites):
        raise ExportError(_in_the_way(to))
    if form == "cot":
        unit, output = _rationales_of(archive, arm=arm, stage=stage)
        rows = _cot_rows(archive, unit, output)
    else:
        unit = _predicting(archive, arm=arm, stage=stage)
        rows = _prediction_rows(archive, unit)
    return Exported(run=archive.name, unit=unit.name, file=to, num_rows=_write(to, rows))


def _in_the_way(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder\nname a file with --to FILE"
    return f"{path} is there already\nname another file with --to FILE, or replace it with --force"


def _cot_rows(archive: Archive, unit: ArchivedUnit, output: str) -> Iterator[dict[str, Any]]:
    questions = questions_of(archive, unit)
    for rationale in archive.read(unit, output, Rationale):
        question = joined(questions, rationale.question_id, f"rationale {rationale.id}", unit)
        yield {"question": question.text, "cot": rationale.text}


def _prediction_rows(archive: Archive, unit: ArchivedUnit) -> Iterator[dict[str, Any]]:
    questions = questions_of(archive, unit)
    for said in archive.read(unit, "predictions", Prediction):
        question = joined(questions, said.question_id, "a prediction", unit)
        yield {
            "question": question.text,
            "generated_text": said.text,
            "prediction": said.answer,
            "gold_answer": question.answer,
        }


def questions_of(archive: Archive, unit: ArchivedUnit) -> dict[str, Question]:
    """The questions that a unit was given, by id."""
    found: dict[str, Question] = {}
    for wire in unit.wires.get("questions", ()):
        source, output = behind(archive, wire)
        found |= {row.id: row for row in archive.read(source, output, Question)}
    return found


def joined(
    questions: dict[str, Question], question_id: str, what: str, unit: ArchivedUnit
) -> Question:
    """The question that a row of a unit belongs to; `what` names the row in the message."""
    question = questions.get(question_id)
    if question is None:
        raise ExportError(
            f"{unit.name}: {what} belongs to question {question_id}, which is not among its {len(questions):,} questions\n"
            "the archive is damaged; run the same command again to put it back"
        )
    return question


def behind(archive: Archive, wire: str) -> tuple[ArchivedUnit, str]:
    """The unit and the output that a wire comes from."""
    stage, _, output = wire.partition(".")
    return archive.units[stage], output


def _rationales_of(
    archive: Archive, *, arm: str | None, stage: str | None
) -> tuple[ArchivedUnit, str]:
    """The stage that is named, what the arm read, what all students read, or what the only filter or teacher wrote."""
    if stage is not None:
        unit = _named(archive, stage, archive.units)
        return unit, _rationale_output(archive, unit)
    students = {
        name: unit for name, unit in archive.units.items() if unit.uses.startswith("student.")
    }
    if arm is not None:
        students = {arm: _named(archive, arm, students)}
    wires = dict.fromkeys(wire for unit in students.values() for wire in unit.wires["rationales"])
    if len(wires) > 1 and primary_arm(archive) in students:
        wires = dict.fromkeys(students[primary_arm(archive)].wires["rationales"])
    found = [behind(archive, wire) for wire in wires] or _written(archive)
    if len(found) == 1:
        return found[0]
    stages = [unit.name for unit, _ in found]
    raise ExportError(
        f"{archive.name} has {len(stages) or 'no'} stages with rationales that could be meant\n"
        + (
            f"name one with --stage: {', '.join(stages)}"
            if stages
            else "export a run with a teacher"
        )
    )


def _written(archive: Archive) -> list[tuple[ArchivedUnit, str]]:
    """Where no student was trained: the rationales of every filter that no other refines; without one, of every teacher."""
    for kind in ("filter.", "teacher."):
        units = [unit for unit in archive.units.values() if unit.uses.startswith(kind)]
        read = {
            wire.partition(".")[0] for unit in units for wire in unit.wires.get("rationales", ())
        }
        last = [unit for unit in units if unit.name not in read]
        if last:
            return [(unit, _rationale_output(archive, unit)) for unit in last]
    return []


def _rationale_output(archive: Archive, unit: ArchivedUnit) -> str:
    """The output of a unit that holds rationales."""
    for name, stored in unit.manifest.outputs.items():
        if stored.num_records and _holds_rationales(archive, unit, name):
            return name
    raise ExportError(f"{unit.name} ({unit.uses}) has no rationales\nname a teacher or a filter")


def _holds_rationales(archive: Archive, unit: ArchivedUnit, output: str) -> bool:
    """Whether its first row is one; a record of another type has other fields."""
    try:
        next(archive.read(unit, output, Rationale))
    except TypeError:
        return False
    return True


def _predicting(archive: Archive, *, arm: str | None, stage: str | None) -> ArchivedUnit:
    """The evaluation of one model."""
    found = [unit for unit in archive.units.values() if "predictions" in unit.manifest.outputs]
    if stage is not None:
        named = {unit.stage: unit for unit in found}
        found = [unit for unit in found if unit.stage == _named(archive, stage, named).stage]
    arms = {unit.element or unit.stage: unit for unit in found}
    if arm is None and len(arms) > 1 and primary_arm(archive) in arms:
        arm = primary_arm(archive)
    if arm is not None:
        found = [unit for unit in found if (unit.element or unit.stage) == arm]
        if not found:
            raise ExportError(unknown_name(archive, arm, arms))
    if len(found) == 1:
        return found[0]
    raise ExportError(_several(archive, found))


def _several(archive: Archive, found: Sequence[ArchivedUnit]) -> str:
    if not found:
        return f"{archive.name} has no predictions\nexport a run with an evaluation"
    arms = list(dict.fromkeys(unit.element or unit.stage for unit in found))
    stages = list(dict.fromkeys(unit.stage for unit in found))
    told = f"{archive.name} has the predictions of {', '.join(unit.name for unit in found)}\n"
    if len(arms) > 1:
        return told + f"name one as RUN:ARM: {', '.join(arms)}"
    return told + f"name one with --stage: {', '.join(stages)}"


def primary_arm(archive: Archive) -> str:
    """The arm that the recipe is about: the last of `compare.primary`; "" where it names none."""
    names = archive.facts["primary"]
    return str(names[-1]) if names else ""


def _named(archive: Archive, name: str, among: dict[str, ArchivedUnit]) -> ArchivedUnit:
    if name not in among:
        raise ExportError(unknown_name(archive, name, among))
    return among[name]


def unknown_name(archive: Archive, name: str, among: Iterable[str]) -> str:
    """The message about a name that is not among these."""
    names = list(among)
    return (
        f"{archive.name} has no '{name}' of that form\nallowed: {', '.join(names) or 'none'}\n"
        f"{nearest(name, names)}"
    ).rstrip()


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """The file in one step: whole, or not there."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    num_rows = 0
    try:
        with draft.open("wb") as file:
            for row in rows:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                num_rows += 1
        draft.replace(path)
    except OSError as error:
        raise disk_problem(error) or ExportError(
            f"cannot write {path}: {os.strerror(error.errno or 0).lower()}\nname another file with --to FILE"
        ) from error
    finally:
        # Where it was never made, a read-only disk says that it is read-only, not that nothing is there.
        with suppress(OSError):
            draft.unlink()
    return num_rows
