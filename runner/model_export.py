"""A student of an archived run as a folder for plain transformers and peft, with a card, checked to answer as evaluated.

The weights are torch's business: `kpod.stages._lm.exporting` writes and asks, this finds what it needs in the archive, and
puts the folder in its place in one step.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive
from kpod.runner.archived_student import ArchivedStudent, find_student
from kpod.runner.disk import disk_problem
from kpod.runner.export import ExportError, behind, joined, questions_of
from kpod.runner.export_check import Check, Dtype, Export, ModelForm
from kpod.runner.model_card import MARK, Exhibit, model_card
from kpod.runner.record import Prediction, Question

MODEL_FORMS: tuple[ModelForm, ...] = ("adapter", "merged")
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16")
NUM_CHECKED = 8
"""Prompts that an export is asked; the number that issue 5/5 names."""

_EXPORTING = "kpod.stages._lm.exporting"
_EXPORTED = "kpod.stages._lm.exported"
# Where nothing was evaluated, the card's example may grow as long as an evaluation's default.
_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """What was written.

    Args:
        run, arm: whose student.
        folder: where it lies.
        form: adapter or merged.
        dtype: what its weights are stored in.
        check: what came of the check.
    """

    run: str
    arm: str
    folder: Path
    form: ModelForm
    dtype: str
    check: Check

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "run": self.run, "arm": self.arm, "folder": str(self.folder), "form": self.form, "dtype": self.dtype,
            "num_checked": self.check.asked, "num_equal": self.check.equal, "check": self.check.said,
        }  # fmt: skip


def export_model(
    archive: Archive,
    form: ModelForm,
    *,
    to: Path | None,
    arm: str | None,
    dtype: Dtype | None = None,
    stage: str | None = None,
    overwrites: bool = False,
    checks: bool = True,
) -> ExportedModel:
    """Write a student into a folder.

    Args:
        archive: of a complete run.
        form: adapter: for peft, its base named or beside it; merged: a whole model.
        to: the folder; None: `<arm>-<form>` in the working folder.
        arm: the student; None: the only one, or the last of `compare.primary`.
        dtype: of a merged student's weights; None: what it computed in, or is stored in where it was trained whole.
        stage: the evaluation that it is checked against; None: the first that scored it.
        overwrites: whether an export that is there may go.
        checks: whether it is loaded and asked.

    Raises:
        KpodError: the run is not complete, there is no such student, it has no adapter, its base is gone, the folder is
            there, or the export does not answer as evaluated although it computes in the same type.
    """
    student = find_student(archive, arm, stage)
    if form == "adapter":
        _check_adapter(student, dtype)
    place = (to or Path(f"{student.unit.name}-{form}")).absolute()
    _check_place(place, overwrites=overwrites)
    stored: Dtype = "fp32" if form == "adapter" else dtype or _computed_in(student)
    draft = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
        check = _fill(archive, student, draft, form=form, stored=stored, place=place, checks=checks)
        _publish(draft, place)
    except OSError as error:
        raise disk_problem(error) or ExportError(
            f"cannot write {place}: {os.strerror(error.errno or 0).lower()}\nname another folder with --to DIR"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ExportedModel(
        run=archive.name, arm=student.unit.name, folder=to or Path(place.name), form=form, dtype=stored, check=check,
    )  # fmt: skip


def _check_adapter(student: ArchivedStudent, dtype: Dtype | None) -> None:
    name = student.unit.name
    if student.base is None:
        raise ExportError(
            f"{name} was trained whole (method: full), so there is no adapter\nexport it with --as merged"
        )
    if dtype is not None:
        raise ExportError(
            f"--dtype {dtype} has no effect on an adapter, which is kept as it was trained\n"
            "leave it out, or export it with --as merged"
        )


def _check_place(place: Path, *, overwrites: bool) -> None:
    """The folder is free, or an export that may be replaced."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrites:
        raise ExportError(
            f"{place} is there already\nname another folder with --to DIR, or replace it with --force"
        )
    card = place / "README.md"
    if not card.is_file() or MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise ExportError(
            f"{place} is no export of kpod, so --force does not replace it\nname another folder with --to DIR"
        )


def _computed_in(student: ArchivedStudent) -> Dtype:
    """What a student is stored in where nobody says otherwise."""
    if student.base is None:
        return "bf16" if student.spec["precision"] == "bf16" else "fp32"
    config = student.unit.config
    named = (config.get("precision"), config.get("compute"))
    return next((dtype for name in named for dtype in DTYPES if dtype == name), "fp32")


def _fill(
    archive: Archive, student: ArchivedStudent, draft: Path, *, form: ModelForm, stored: Dtype, place: Path, checks: bool
) -> Check:  # fmt: skip
    """Write weights, tokenizer and card into the draft, and ask it."""
    exporting: Any = import_module(_EXPORTING)
    exported: Any = import_module(_EXPORTED)
    parts = _parts(exporting, archive, student)
    if form == "adapter":
        name, commit = student.hub or (str(place / exporting.BASE_FOLDER), None)
        exporting.write_adapter(parts, draft, base_name=name, revision=commit)
    else:
        exporting.write_merged(parts, draft, dtype=stored)
    questions, texts = _asked(archive, student)
    check = Check(said=_unchecked(student, checks=checks))
    if checks and student.evaluation is not None:
        export = Export(
            student, parts, draft, form=form, stored=stored, questions=questions, texts=texts
        )
        check = export.check(exported)
    card = model_card(
        archive, student.unit, student.evaluation,
        _exhibit(exported, parts, student, draft, questions[0], form=form, stored=stored, check=check),
    )  # fmt: skip
    (draft / "README.md").write_text(card, encoding="utf-8", newline="\n")
    return check


def _parts(exporting: Any, archive: Archive, student: ArchivedStudent) -> Any:
    folder = archive.output_path(student.unit, student.output)
    if student.base is None:
        return exporting.Parts(student=folder)
    unit, output = student.base
    base = archive.output_path(unit, output)
    pointer = unit.manifest.outputs[output].pointer
    return exporting.Parts(
        student=folder, base=base, base_files=base if pointer is None else Path(pointer), base_stage=unit.stage,
    )  # fmt: skip


def _asked(archive: Archive, student: ArchivedStudent) -> tuple[list[Question], list[str]]:
    """The first questions that the student was evaluated on, with what it said; without evaluation, one it learned from."""
    if student.evaluation is None:
        source, output = behind(archive, student.unit.wires["questions"][0])
        return [next(archive.read(source, output, Question))], []
    questions = questions_of(archive, student.evaluation)
    rows = archive.read(student.evaluation, "predictions", Prediction)
    first = list(islice((row for row in rows if row.sample == 0), NUM_CHECKED))
    found = [joined(questions, r.question_id, "a prediction", student.evaluation) for r in first]
    return found, [row.text for row in first]


def _unchecked(student: ArchivedStudent, *, checks: bool) -> str:
    if student.evaluation is None:
        return "not asked, as the run evaluated nothing of this student"
    return "" if checks else "not asked (--no-check)"


def _exhibit(
    exported: Any, parts: Any, student: ArchivedStudent, draft: Path, example: Question, *,
    form: ModelForm, stored: str, check: Check,
) -> Exhibit:  # fmt: skip
    config = {} if student.evaluation is None else student.evaluation.config
    hub_id, commit = student.hub or (None, None)
    return Exhibit(
        form=form,
        dtype=stored,
        architecture=student.spec["architecture"],
        is_seq2seq=exported.family(parts.spec) == "seq2seq",
        prompt=student.spec["prompt"],
        base_id=hub_id,
        base_revision=commit,
        adds_special_tokens=exported.adds_special_tokens(parts, draft, example),
        example=exported.asked_as(example),
        max_new_tokens=int(config.get("max_new_tokens", _NEW_TOKENS)),
        check=check.said,
    )


def _publish(draft: Path, place: Path) -> None:
    """The draft takes its place; an export that was there goes once the new one is."""
    old = place.with_name(f"{draft.name}.old")
    if place.exists():
        place.rename(old)
    draft.rename(place)
    shutil.rmtree(old, ignore_errors=True)
