"""The door of kpod: all that a stage, a notebook or a plug-in imports.

Names are loaded on first use, so that `kpod --version` and a run with nothing to do stay instant.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.runner.batch import Batchable, BatchRequest
    from kpod.runner.budget import Budget
    from kpod.runner.comparing.diff import Diff, diff
    from kpod.runner.contamination import match_questions
    from kpod.runner.context import Context, Writer
    from kpod.runner.errors import (
        BudgetReached,
        Interrupted,
        KpodError,
        MissingExtra,
        Position,
        Problem,
        RecipeError,
        SettingError,
        StageError,
    )
    from kpod.runner.fields import (
        Added,
        Doc,
        Ge,
        Gt,
        Le,
        LocalPath,
        Lt,
        MinItems,
        Pattern,
        Volatile,
    )
    from kpod.runner.forecast import Forecast, Forecasting
    from kpod.runner.inspection import Inspectable, InspectedExample, InspectedToken
    from kpod.runner.launch_zero import ZeroSettings, zero_of_environment
    from kpod.runner.ledger import Ledger, LedgerTotals, Price
    from kpod.runner.notebook import load, open_run
    from kpod.runner.record import (
        Assignment,
        Breakpoint,
        Curriculum,
        Difficulty,
        Finish,
        Kind,
        Metric,
        Model,
        Prediction,
        Question,
        Rationale,
        Record,
        TokenWeights,
        Usage,
        content_id,
    )
    from kpod.runner.seeds import Method, Series, compare_all, series_of
    from kpod.runner.session import Session
    from kpod.runner.significance import SEEDS_NEEDED, holm, mcnemar
    from kpod.runner.source import HubRepository, LocalFile, PackageFile, Source
    from kpod.runner.stage import Input, Output, Stage, View
    from kpod.runner.visible import visible_text

_HOMES = {
    "kpod.runner.archive": ("Archive",),
    "kpod.runner.batch": ("BatchRequest", "Batchable"),
    "kpod.runner.budget": ("Budget",),
    "kpod.runner.contamination": ("match_questions",),
    "kpod.runner.comparing.diff": ("Diff", "diff"),
    "kpod.runner.context": ("Context", "Writer"),
    "kpod.runner.errors": (
        "BudgetReached", "Interrupted", "KpodError", "MissingExtra", "Position", "Problem", "RecipeError",
        "SettingError", "StageError",
    ),
    "kpod.runner.fields": ("Added", "Doc", "Ge", "Gt", "Le", "LocalPath", "Lt", "MinItems", "Pattern", "Volatile"),
    "kpod.runner.forecast": ("Forecast", "Forecasting"),
    "kpod.runner.inspection": ("Inspectable", "InspectedExample", "InspectedToken"),
    "kpod.runner.launch_zero": ("ZeroSettings", "zero_of_environment"),
    "kpod.runner.ledger": ("Ledger", "LedgerTotals", "Price"),
    "kpod.runner.notebook": ("load", "open_run"),
    "kpod.runner.record": (
        "Assignment", "Breakpoint", "Curriculum", "Difficulty", "Finish", "Kind", "Metric", "Model", "Prediction",
        "Question", "Rationale", "Record", "TokenWeights", "Usage", "content_id",
    ),
    "kpod.runner.seeds": ("Method", "Series", "compare_all", "series_of"),
    "kpod.runner.session": ("Session",),
    "kpod.runner.significance": ("SEEDS_NEEDED", "holm", "mcnemar"),
    "kpod.runner.source": ("HubRepository", "LocalFile", "PackageFile", "Source"),
    "kpod.runner.stage": ("Input", "Output", "Stage", "View"),
    "kpod.runner.visible": ("visible_text",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Added",
    "Archive",
    "Assignment",
    "Batchable",
    "BatchRequest",
    "Breakpoint",
    "Budget",
    "BudgetReached",
    "compare_all",
    "content_id",
    "Context",
    "Curriculum",
    "diff",
    "Diff",
    "Difficulty",
    "Doc",
    "Finish",
    "Forecast",
    "Forecasting",
    "Ge",
    "Gt",
    "holm",
    "HubRepository",
    "Input",
    "Inspectable",
    "InspectedExample",
    "InspectedToken",
    "Interrupted",
    "Kind",
    "KpodError",
    "Le",
    "Ledger",
    "LedgerTotals",
    "load",
    "LocalFile",
    "LocalPath",
    "Lt",
    "match_questions",
    "mcnemar",
    "Method",
    "Metric",
    "MinItems",
    "MissingExtra",
    "Model",
    "open_run",
    "Output",
    "PackageFile",
    "Pattern",
    "Position",
    "Prediction",
    "Price",
    "Problem",
    "Question",
    "Rationale",
    "RecipeError",
    "Record",
    "SEEDS_NEEDED",
    "Series",
    "series_of",
    "Session",
    "SettingError",
    "Source",
    "Stage",
    "StageError",
    "TokenWeights",
    "Usage",
    "View",
    "visible_text",
    "Volatile",
    "Writer",
    "zero_of_environment",
    "ZeroSettings",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
