"""The commands `kpod` and `kpod-run`: finds the subcommand, runs it, turns errors for people into lines and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

VERSION = "0.1.0"

COMMANDS = {
    "run": "run a recipe (also: kpod-run RECIPE)",
    "validate": "check recipes against their schemas; runs nothing",
    "plan": "say what would run, and why",
    "explain": "say what a stage's result is made from, and what changed since the last run",
    "stages": "list the stages, or the settings of one",
    "schema": "write or check the JSON Schemas",
    "runs": "list the runs",
    "show": "show a run, a value of its recipe with its origin, or the journey of one question",
    "report": "render a run's report again",
    "diff": "compare two runs: values, environment, outputs, scores",
    "rerun": "run an archived run again",
    "accept": "let a stage's result stand although its code or a library changed, if a part made again is the same",
    "resume": "go on with a run that did not come to its end",
    "sweep": "run a recipe under several settings and seeds",
    "inspect-batch": "show the tokens, labels and weights that a student trains on",
    "archive": "write a run into one file, take one in, or check that a run is what it was",
    "export": "write a run's student, rationales or predictions as plain files",
    "batch": "write a stage's requests as batch files, and take their answers in",
    "cache": "list, verify or clean up the store",
    "doctor": "check this machine and installation",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `kpod`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["--version"], ["-V"]):
        print(f"kpod {VERSION}")
        return 0
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0 if words else 2
    return _dispatch(words[0], words[1:])


def main_run(arguments: Sequence[str] | None = None) -> int:
    """The command `kpod-run RECIPE`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["--version"], ["-V"]):
        return main(["--version"])
    return _dispatch("run", words)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: kpod COMMAND …        kpod COMMAND --help says more", "", *lines])


def _dispatch(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        from kpod.runner.errors import nearest
        from kpod.runner.visible import visible_text

        said = f"kpod has no command '{name}'\nallowed: {', '.join(COMMANDS)}\n{nearest(name, COMMANDS)}"
        print(visible_text(said.rstrip()), file=sys.stderr)
        return 2
    if "WORLD_SIZE" in os.environ:
        from kpod.runner.launch import is_launched, take_part

        if is_launched():
            return take_part(name, lambda: _run_command(name, words))
    return _run_command(name, words)


def _run_command(name: str, words: list[str]) -> int:
    from importlib import import_module

    from kpod.runner.commands._options import CommandParser
    from kpod.runner.errors import ExitCode, KpodError, StageCrashed

    command = import_module(f"kpod.runner.commands.{name.replace('-', '_')}")
    parser = CommandParser(prog=f"kpod {name}", description=COMMANDS[name], allow_abbrev=False)
    command.add_arguments(parser)
    try:
        return int(command.run(parser.parse_args(words)))
    except KpodError as error:
        if isinstance(error, StageCrashed):
            _print_cause(error)
        from kpod.runner.visible import visible_text

        print(visible_text(str(error)), file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print(
            "stopped at once; the same command continues from the last checkpoint", file=sys.stderr
        )
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:  # whoever read our lines has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERRUPTED if name in {"run", "rerun", "sweep"} else ExitCode.DONE)


def _print_cause(error: Exception) -> None:
    """The traceback of a mistake that is not the person's."""
    import traceback

    if error.__cause__ is not None:
        from kpod.runner.visible import visible_text

        lines = traceback.format_exception(error.__cause__)
        print(visible_text("".join(lines)), file=sys.stderr, end="")
