"""Errors for people: where, what we got, what is allowed, what to do; all that are known at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells the shell (DESIGN 6)."""

    DONE = 0
    INVALID = 2
    STAGE_FAILED = 3
    BUDGET_REACHED = 4
    INTERRUPTED = 5
    HAS_WORK = 10


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, counted from 1, or the command line where `file` says so."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Args:
        message: what was found and what is wrong with it; lower case, no "please".
        where: the place it stands in, if it stands anywhere.
        path: the dotted name of the value (`stages.student.with.rank`), or "".
        allowed: what would have been right, as a list or a range, or "".
        hint: what to do, or "".
    """

    message: str
    where: Position | None = None
    path: str = ""
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        head = "  ".join(part for part in (str(self.where or ""), self.path) if part)
        lines = [head] if head else []
        indent = "  " if head else ""
        lines.append(indent + self.message)
        if self.allowed:
            lines.append(f"{indent}allowed: {self.allowed}")
        if self.hint:
            lines.append(indent + self.hint)
        return "\n".join(lines)


class KpodError(Exception):
    """A mistake that a person can mend. Printed without a traceback.

    `exit_code` is what `kpod` returns to the shell.
    """

    exit_code = ExitCode.INVALID


class RecipeError(KpodError):
    """Everything that is wrong with a recipe, found before anything ran."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        # Stages that are `like` another one share its mistakes: each place is told once.
        self.problems = tuple(
            {
                (problem.where, problem.message): problem for problem in reversed(list(problems))
            }.values()
        )[::-1]
        count = len(self.problems)
        assert count, "a RecipeError names at least one problem"
        tail = f"{count} error{'s' if count > 1 else ''}; nothing was run"
        super().__init__("\n".join([*(str(problem) for problem in self.problems), tail]))


class SettingError(KpodError):
    """Raised by a Config's `__post_init__`: settings that are each allowed, but not together.

    Args:
        field: the name of the setting to point at.
        message: what is wrong.
        hint: what to do.
    """

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}" + (f"; {hint}" if hint else ""))
        self.field = field
        self.message = message
        self.hint = hint


class StageError(KpodError):
    """A stage cannot go on: bad rows, missing gold, nothing left. Message by id, where there is one."""

    exit_code = ExitCode.STAGE_FAILED


class StageFailed(StageError):
    """What a stage could not go on with, and which stage it was."""

    def __init__(self, unit: str, uses: str, error: KpodError) -> None:
        said = str(error).removeprefix(f"{uses}: ").replace("\n", "\n  ")
        super().__init__(f"stage {unit} ({uses})\n  {said}")


class StageCrashed(StageError):
    """A stage raised what it should not have: its author's mistake, or a library's. The cause hangs on it."""

    def __init__(self, unit: str, uses: str, error: Exception) -> None:
        super().__init__(
            f"stage {unit} ({uses}) failed: {type(error).__name__}: {error}\n"
            "what came before it is kept; the same command continues there"
        )


class MissingExtra(StageError):
    """A library that this setting needs is not installed."""

    def __init__(self, library: str, *, extra: str | None = None, needed_by: str) -> None:
        wanted = library if extra is None else f'"kpod[{extra}]"'
        super().__init__(
            f"{needed_by} needs the library {library}, which is not installed\n"
            f"install it with: pip install {wanted}"
        )


class Interrupted(KpodError):
    """The run was asked to stop and has saved what it had; the same command continues it."""

    exit_code = ExitCode.INTERRUPTED


class BudgetReached(KpodError):
    """The command may spend no more. What is answered is stored; the same command continues."""

    exit_code = ExitCode.BUDGET_REACHED


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The hint `did you mean 'x'?` for the closest allowed word, or ""."""
    import difflib

    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"did you mean '{found[0]}'?" if found else ""
