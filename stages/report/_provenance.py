"""Where the run comes from: recipe, machine, packages, git; enough to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

# Distributions that can change a figure or a format; run.json lists all.
_PACKAGES = (
    "kpod", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "sentencepiece", "bitsandbytes",
    "datasets", "scikit-learn", "numpy", "gguf",
)  # fmt: skip


class Origin(NamedTuple):
    """Where a value of the recipe was written."""

    name: str
    value: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Facts about the run itself.

    Args:
        run: name of the archive.
        recipe_path: the file it was run from.
        rerun_of: name of the run that this one repeats, or None.
        started_at, finished_at: UTC, ISO 8601.
        packages: versions of those that matter.
        commit: of the git repository that holds the recipe, or None; `is_dirty`: files there differed from it.
        resolved: the recipe with every default and wire written out, as YAML.
        origins: where its values were written; what is not listed is a default.
    """

    run: str
    recipe: str
    description: str
    recipe_path: str
    rerun_of: str | None
    seed: int
    started_at: str
    finished_at: str
    machine: dict[str, str]
    packages: dict[str, str]
    commit: str | None
    is_dirty: bool
    resolved: str
    origins: tuple[Origin, ...]


def read_provenance(archive: Archive) -> Provenance:
    """The facts of run.json, and the recipe."""
    facts = archive.facts
    git: Mapping[str, Any] = facts["git"] or {}
    packages: Mapping[str, str] = facts["packages"]
    wanted = {*_PACKAGES, *_libraries(archive)}
    return Provenance(
        run=archive.name,
        recipe=facts["name"],
        description=str(archive.resolved.get("description") or ""),
        recipe_path=facts["recipe"],
        rerun_of=facts["rerun_of"],
        seed=facts["seed"],
        started_at=facts["started_at"],
        finished_at=facts["finished_at"],
        machine=_machine(facts),
        packages={name: packages[name] for name in sorted(wanted) if name in packages},
        commit=git.get("commit"),
        is_dirty=bool(git.get("is_dirty")),
        resolved=(archive.folder / "resolved.yaml").read_text(encoding="utf-8"),
        origins=tuple(
            Origin(name, _value(archive.resolved, name.split(".")), where)
            for name, where in archive.origins.items()
        ),
    )


def _libraries(archive: Archive) -> set[str]:
    """Distributions that stages of this run declared to bear on their results."""
    images = (unit.manifest.preimage for unit in archive.units.values())
    return {name for image in images for name in image.get("libraries", {})}


def _machine(facts: Mapping[str, Any]) -> dict[str, str]:
    capability, machine = facts["capability"], facts["machine"]
    return {
        "device": capability["device"],
        "processor": machine["processor"],
        "processors": str(capability["num_cpus"]),
        "memory": f"{capability['memory_b'] / 1e9:.1f} GB",
        "bf16 in hardware": "yes" if capability["has_fast_bf16"] else "no",
        "python": machine["python"],
        "platform": machine["platform"],
    }


def _value(recipe: Any, parts: Sequence[str]) -> str:
    """The value that a dotted name stands for, in short; "" where the resolved recipe writes it otherwise."""
    found = recipe
    for part in parts:
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return ""
    text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
    return text if len(text) <= 80 else f"{text[:79]}…"
