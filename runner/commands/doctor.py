"""`kpod doctor`: is everything here that kpod needs?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from kpod.runner.capability import read_capability
from kpod.runner.commands._options import add_folders
from kpod.runner.console import say
from kpod.runner.errors import ExitCode

# Everything that a stage imports; the runner's own needs are in it.
_LIBRARIES = (
    "torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "scikit-learn", "pyyaml", "jsonschema",
    "openai", "orjson", "rich", "filelock", "jinja2", "safetensors",
)  # fmt: skip

Finding = tuple[bool, str]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it: a line a finding; exit 3 where something is missing."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _machine,
        lambda: _folders(arguments.runs),
        _schemas,
    ]
    findings = [finding for check in checks for finding in check()]
    for is_good, text in findings:
        say(f"{'ok     ' if is_good else 'PROBLEM'}  {text}")
    num_problems = sum(not is_good for is_good, _ in findings)
    noun = "problem" if num_problems == 1 else "problems"
    say(f"{num_problems} {noun}" if num_problems else "everything is in place")
    return ExitCode.STAGE_FAILED if num_problems else ExitCode.DONE


def _python() -> Iterator[Finding]:
    yield sys.version_info >= (3, 11), f"Python {platform.python_version()} (3.11 or newer)"


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    for name in _LIBRARIES:
        try:
            yield True, f"{name} {version(name)}"
        except PackageNotFoundError:
            yield False, f"{name} is not installed; run: pip install {name}"


def _machine() -> Iterator[Finding]:
    capability = read_capability()
    bf16 = (
        "bf16 in hardware"
        if capability.has_fast_bf16
        else "no bf16 in hardware: `auto` precision is fp32"
    )
    yield (
        True,
        f"{capability.device}, {capability.num_cpus} CPUs, {capability.memory_b / 1e9:.0f} GB memory, {bf16}",
    )
    if capability.device == "cuda":
        import torch

        is_usable = bool(torch.cuda.is_available())
        yield (
            is_usable,
            "torch sees the CUDA device"
            if is_usable
            else "a CUDA driver is here, but this torch cannot use it",
        )
    is_offline = os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}
    yield (
        True,
        "the model hub is not asked (HF_HUB_OFFLINE)"
        if is_offline
        else "the model hub is asked for names without a revision",
    )


def _folders(runs: Path) -> Iterator[Finding]:
    """Whether archives can be written and linked where they will be."""
    parent = next(
        folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists()
    )
    free_b = shutil.disk_usage(parent).free
    yield free_b > 2e9, f"{free_b / 1e9:.0f} GB free for {runs}"
    try:
        with TemporaryDirectory(dir=parent, prefix=".kpod-doctor-") as folder:
            (Path(folder) / "a").touch()
            os.link(Path(folder) / "a", Path(folder) / "b")
        yield True, f"{parent} can be written, and hard links work"
    except OSError as error:
        yield (
            False,
            f"{parent}: {error.strerror}; archives there would be copies, or cannot be written",
        )


def _schemas() -> Iterator[Finding]:
    from kpod.runner.recipe_schema import schema_folder
    from kpod.runner.registry import STAGES

    missing = [uses for uses in STAGES if not (schema_folder() / f"{uses}.schema.json").exists()]
    yield (
        not missing,
        f"{len(STAGES)} stages with their schemas"
        if not missing
        else f"no schema for {', '.join(missing)}; run: kpod schema --write",
    )
