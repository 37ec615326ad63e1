"""Test sets without a question: told once the set is known, before a teacher is asked or a student is trained for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpod.runner.contamination import question_readers, question_wires
from kpod.runner.errors import StageError

if TYPE_CHECKING:
    from kpod.runner.plan import Planner
    from kpod.runner.wiring import Wire


def refuse_empty_tests(planner: Planner) -> None:
    """Refuse a set that is read as test questions and holds none.

    Raises:
        StageError: there is nothing to evaluate on, whatever comes out of the stages before.
    """
    for wire in question_wires(planner, "test"):
        if planner.is_known(wire) and _is_empty(planner, wire):
            stage = planner.recipe.stages[wire.stage]
            readers = question_readers(planner, wire, "test")
            raise StageError(
                f"{wire} ({stage.uses}, read by {readers}) holds no question to evaluate on\n"
                "allowed: at least one\n"
                f"give the stage {wire.stage} a test set (`kpod stages {stage.uses}` says how), or let {readers} read others:"
                " in: {questions: ID.OUTPUT}"
            )


def _is_empty(planner: Planner, wire: Wire) -> bool:
    contents = planner.known[wire].values()
    return all(found.entry.manifest.outputs[found.output].num_records == 0 for found in contents)
