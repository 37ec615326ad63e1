"""What a finished run leaves: links to its outputs, the resolved recipe, and run.json, written last."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kpod.runner import environment
from kpod.runner.archive_writer import ArchiveWriter
from kpod.runner.config import config_to_json
from kpod.runner.events import utc_now
from kpod.runner.execute import Execution, Outcome
from kpod.runner.source import HubRepository, PackageFile
from kpod.runner.spending import spending_of


def archive_run(
    writer: ArchiveWriter, execution: Execution, *, seconds: float, rerun_of: str | None
) -> None:
    """Write down all that a run came to.

    Args:
        writer: of the run's folder.
        execution: of all units, done.
        seconds: that the run took so far.
        rerun_of: name of the run that was run again.
    """
    planner = execution.planner
    recipe, spending = planner.recipe, spending_of(execution)
    for outcome in execution.outcomes.values():
        unit = outcome.assessment.unit
        writer.add_unit(unit.stage.id, unit.element.stage if unit.element else None, outcome.entry)
    resolved = recipe.resolved()
    _write_agreed(resolved, execution)
    writer.write_resolved(resolved)
    writer.finish(
        {
            "name": recipe.name,
            "recipe": str(recipe.path.absolute()),
            "seed": recipe.seed,
            "primary": list(recipe.primary),
            "started_at": writer.started_at,
            "finished_at": utc_now(),
            "seconds": round(seconds, 3),
            "store": str(execution.store.root),
            "rerun_of": rerun_of,
            "spent": None if spending is None else spending.to_json(),
            "units": [_unit_row(outcome) for outcome in execution.outcomes.values()],
            "views": {view.id: view.uses for view in recipe.views.values()},
            "sources": _archive_sources(writer, execution),
            "capability": planner.capability.to_json(),
            "machine": environment.machine_facts(),
            "packages": environment.package_versions(execution.store.memo),
            "git": environment.git_state(
                recipe.path.absolute().parent,
                with_status=any(outcome.status == "run" for outcome in execution.outcomes.values()),
            ),
        }
    )


def _archive_sources(writer: ArchiveWriter, execution: Execution) -> list[dict[str, Any]]:
    """What was read from outside: its content, and its copy in the archive."""
    rows: list[dict[str, Any]] = []
    for outcome in execution.outcomes.values():
        unit = outcome.assessment.unit
        named = unit.stage.stage.sources(unit.stage.config)
        for setting, found in (outcome.assessment.sources or {}).items():
            place = None
            if found.path is not None and not isinstance(
                named[setting], PackageFile | HubRepository
            ):
                digest = found.fact["sha256"]
                place = writer.add_input(
                    digest, found.path, execution.store.root / "sources" / digest[:2] / digest
                )
            rows.append(
                {
                    "unit": unit.name,
                    "setting": setting,
                    "original": found.original,
                    "fact": found.fact,
                    "archived": place,
                }
            )
    return rows


def _unit_row(outcome: Outcome) -> dict[str, Any]:
    assessment = outcome.assessment
    unit = assessment.unit
    return {
        "name": unit.name,
        "stage": unit.stage.id,
        "element": unit.element.stage if unit.element else None,
        "uses": unit.stage.uses,
        "status": outcome.status,
        "reason": assessment.reason,
        "seconds": round(outcome.entry.manifest.seconds, 3) if outcome.status == "run" else 0.0,
        "config": config_to_json(assessment.config),
        "wires": {name: [str(wire) for wire in wires] for name, wires in unit.wires.items()},
        "manifest": asdict(outcome.entry.manifest),
    }


def _write_agreed(resolved: dict[str, Any], execution: Execution) -> None:
    """Write the values that `auto` settings were resolved to, where all units of a stage agree on them."""
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for outcome in execution.outcomes.values():
        by_stage.setdefault(outcome.assessment.unit.stage.id, []).append(
            config_to_json(outcome.assessment.config)
        )
    for stage_id, configs in by_stage.items():
        if all(config == configs[0] for config in configs):
            resolved["stages"][stage_id]["with"] = configs[0]
