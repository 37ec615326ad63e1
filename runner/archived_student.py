"""A trained student in an archive: its model.json, its base by content, and who scored it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.export import ExportError, primary_arm, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedStudent:
    """A student in its archive, and what stands around it.

    Args:
        unit, output: who made it.
        spec: its model.json.
        base: the unit and the output of the base of its adapter; None where it was trained whole.
        hub: id and commit of that base on the hub, or None.
        evaluation: the unit that scored it, or None.
    """

    unit: ArchivedUnit
    output: str
    spec: dict[str, Any]
    base: tuple[ArchivedUnit, str] | None
    hub: tuple[str, str] | None
    evaluation: ArchivedUnit | None

    def is_evaluated_in_half(self, form: str) -> bool:
        """Whether the evaluation computed in bf16 on the very weights of this form, so that fp32 may say other words.

        Args:
            form: adapter, or merged: an adapter and its base made one are other weights.
        """
        config = self.evaluation.config if self.evaluation else {}
        is_half = (config.get("precision"), config.get("quantisation", "none")) == ("bf16", "none")
        return is_half and (form == "adapter" or self.base is None)


def find_student(archive: Archive, arm: str | None, stage: str | None) -> ArchivedStudent:
    """The student that a person means.

    Args:
        archive: of a complete run.
        arm: its stage; None: the only one, or the last of `compare.primary`.
        stage: the evaluation that is meant; None: the first that scored it.

    Raises:
        ExportError: there is none, several could be meant, or its model.json or its base is not in the archive.
    """
    students = {
        name: unit for name, unit in archive.units.items() if unit.uses.startswith("student.")
    }
    unit = students[_arm(archive, arm, students)]
    output = next(name for name, one in unit.manifest.outputs.items() if one.num_records is None)
    spec = _spec(archive, unit, output)
    base = None if spec["base"] is None else _base(archive, unit, str(spec["base"]))
    return ArchivedStudent(
        unit=unit, output=output, spec=spec, base=base,
        hub=None if base is None else _hub(archive, base[0]),
        evaluation=_evaluation(archive, f"{unit.name}.{output}", stage),
    )  # fmt: skip


def _arm(archive: Archive, arm: str | None, students: dict[str, ArchivedUnit]) -> str:
    """The stage of the student that is meant."""
    allowed = ", ".join(students)
    if arm is None:
        named = [name for name in (primary_arm(archive), *students) if name in students]
        if len(students) > 1 and named[0] != primary_arm(archive):
            raise ExportError(
                f"{archive.name} has {len(students)} students\nname one as RUN:ARM: {allowed}"
            )
        if not named:
            raise ExportError(f"{archive.name} has no student\nexport a run that trains one")
        return named[0]
    if arm in students:
        return arm
    if arm in archive.units:
        uses = archive.units[arm].uses
        raise ExportError(
            f"{archive.name}: '{arm}' ({uses}) is no student\nallowed: {allowed or 'none'}"
        )
    raise ExportError(unknown_name(archive, arm, students))


def _spec(archive: Archive, unit: ArchivedUnit, output: str) -> dict[str, Any]:
    path = archive.output_path(unit, output) / "model.json"
    if not path.is_file():
        raise ExportError(
            f"{path} is gone from the archive\nrun the same command again to put it back"
        )
    spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return spec


def _base(archive: Archive, student: ArchivedUnit, digest: str) -> tuple[ArchivedUnit, str]:
    """The unit that made the model with this content, and which of its outputs that is."""
    for unit in archive.units.values():
        for name, output in unit.manifest.outputs.items():
            if output.digest == digest:
                return unit, name
    raise ExportError(
        f"{student.name} is an adapter of the model {digest[:12]}, which is not in {archive.name}\n"
        "run the recipe that made it again; its archive then holds the base"
    )


def _hub(archive: Archive, base: ArchivedUnit) -> tuple[str, str] | None:
    """Id and commit of a base that came from the hub."""
    for row in archive.facts["sources"]:
        if row["unit"] == base.name and "hub" in row["fact"]:
            return str(row["fact"]["hub"]), str(row["fact"]["commit"])
    return None


def _evaluation(archive: Archive, wire: str, stage: str | None) -> ArchivedUnit | None:
    found = {
        unit.stage: unit
        for unit in reversed(archive.units.values())
        if "predictions" in unit.manifest.outputs and wire in unit.wires.get("models", ())
    }
    if stage is not None and stage not in found:
        raise ExportError(unknown_name(archive, stage, found))
    return found[stage] if stage is not None else next(reversed(found.values()), None)
