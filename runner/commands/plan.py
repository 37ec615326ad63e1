"""`kpod plan RECIPE`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from kpod.runner.assembly import find_recipe
from kpod.runner.budget import money
from kpod.runner.commands._options import (
    add_choice_of_stages,
    add_recipe,
    add_spending,
    run_options,
)
from kpod.runner.console import say, table
from kpod.runner.errors import ExitCode
from kpod.runner.forecast import Forecast, Forecasting
from kpod.runner.plan import Assessment
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    add_choice_of_stages(parser)
    add_spending(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(arguments: Namespace) -> int:
    """Do it: exit 10 where there is work, 0 where there is none."""
    return print_plan(
        Session(find_recipe(arguments.recipe), run_options(arguments)), is_json=arguments.json
    )


def print_plan(session: Session, *, is_json: bool) -> int:
    """Print what would run and why, and what it would ask for; the exit code says whether there is work."""
    planned = session.planner.plan(forced=session.forced)
    forecasts = session.forecasts(planned)
    num_hits = sum(item.status == "hit" for item in planned)
    if is_json:
        rows = [
            {
                "unit": p.unit.name,
                "uses": p.unit.stage.uses,
                "status": p.status,
                "reason": p.reason,
                "key": p.key,
                "forecast": asdict(forecasts[p.unit.name]) if p.unit.name in forecasts else None,
            }
            for p in planned
        ]
        say(json.dumps(rows, indent=1))
    else:
        say(
            table(
                ("stage", "uses", "", "why"),
                [(p.unit.name, p.unit.stage.uses, p.status, p.reason) for p in planned],
            )
        )
        say(f"{num_hits} of {len(planned)} from the store, {len(planned) - num_hits} to run")
        for line in forecast_lines(
            forecasts, _untold(planned), budget_usd=session.budget.limit_usd
        ):
            say(line)
    return ExitCode.DONE if num_hits == len(planned) else ExitCode.HAS_WORK


def _untold(planned: Sequence[Assessment]) -> dict[str, list[str]]:
    """Units that could tell what they would ask for, once the stages that are named beside them are made."""
    made = {p.unit.stage.id for p in planned if p.status == "hit"}
    return {
        p.unit.name: sorted({w.stage for wires in p.unit.wires.values() for w in wires} - made)
        for p in planned
        if p.status == "run?" and isinstance(p.unit.stage.stage(), Forecasting)
    }


def forecast_lines(
    forecasts: Mapping[str, Forecast],
    untold: Mapping[str, Sequence[str]],
    *,
    budget_usd: float | None,
) -> list[str]:
    """What would be asked for and paid, for people: a line a unit, then the sum."""
    lines = [f"{name}: {_sentence(forecast)}" for name, forecast in forecasts.items()]
    for name, missing in untold.items():
        how = " and ".join(f"`kpod run RECIPE --until {stage}`" for stage in missing)
        makes = "makes it" if len(missing) == 1 else "make them"
        lines.append(f"no forecast yet for {name}, which reads {', '.join(missing)}: {how} {makes}")
    priced = [forecast.usd for forecast in forecasts.values() if forecast.usd is not None]
    if priced:
        more = ""
        if budget_usd is not None and sum(priced) > budget_usd:
            more = f", more than the budget of {money(budget_usd)}"
        without = f", without {', '.join(untold)}" if untold else ""
        lines.append(f"forecast: {sum(priced):,.4f} USD{without}{more}")
    return ["", *lines] if lines else []


def _sentence(forecast: Forecast) -> str:
    stored = f", {forecast.num_stored:,} of them stored" if forecast.num_stored else ""
    parts = [f"{forecast.num_texts:,} texts{stored}"]
    if forecast.prompt_tokens is not None and forecast.completion_tokens is not None:
        parts.append(f"{forecast.prompt_tokens:,} tokens in, {forecast.completion_tokens:,} out")
    if forecast.usd is not None:
        parts.append(f"{forecast.usd:,.4f} USD")
    return f"{'; '.join(parts)} ({forecast.basis})"
