"""`kpod archive export|import|verify`: a run as one file, back again, and whether it is what it was."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kpod.runner.archive import find_run
from kpod.runner.bundle import SUFFIX, export_run, import_run
from kpod.runner.commands._options import add_folders
from kpod.runner.console import complain, say
from kpod.runner.errors import ExitCode
from kpod.runner.seal import damage


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("action", choices=["export", "import", "verify"])
    parser.add_argument("name", metavar="RUN|FILE", help="export, verify: a run; import: a file")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help=f"export: the file to write (default: RUN{SUFFIX})"
    )
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it."""
    if arguments.action == "import":
        archive = import_run(Path(arguments.name), arguments.runs)
        say(f"imported {archive.folder}; `kpod rerun {archive.name}` needs nothing else")
        return ExitCode.DONE
    archive = find_run(arguments.name, arguments.runs)
    if arguments.action == "export":
        to = arguments.to or Path(f"{archive.name}{SUFFIX}")
        say(f"{to}  {export_run(archive, to):,} bytes")
        return ExitCode.DONE
    found = list(damage(archive))
    for line in found:
        complain(line)
    sealed = "sealed" if "seal" in archive.facts else "made before runs were sealed"
    say(f"{archive.name}: {f'{len(found)} damaged' if found else f'whole, {sealed}'}")
    return ExitCode.STAGE_FAILED if found else ExitCode.DONE
