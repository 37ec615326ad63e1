"""What an entry of the store holds and how it was made: the manifest, written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kpod.runner.canonical import digest_of, pretty_json
from kpod.runner.memo import files_below, hash_file


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of an output: path relative to the entry, size in bytes, sha256."""

    path: str
    size_b: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """One output of an entry.

    Args:
        digest: of its content.
        files: what it consists of.
        num_records: lines, or None for a folder.
        pointer: where a Model's weights lie that are not copied, or None.
        pointed_digest: content digest of what lay there.
    """

    digest: str
    files: tuple[StoredFile, ...]
    num_records: int | None = None
    pointer: str | None = None
    pointed_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an entry holds and how it was made; written last.

    Args:
        key: sha256 of the pre-image.
        preimage: everything the key was made from.
        outputs: by name.
        refers: digests of outputs that these need (an adapter its base).
        notes: facts that the stage told beside its outputs.
        seconds, cpu_seconds: what making it took.
        made_at: UTC, ISO 8601.
        made_by: name of the run.
    """

    key: str
    preimage: dict[str, Any]
    outputs: dict[str, StoredOutput]
    refers: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    made_at: str = ""
    made_by: str = ""

    @property
    def summary(self) -> str:
        """One line about the result: what the stage said of itself, else what it holds."""
        said: Any = self.notes.get("summary")
        if said:
            return str(said)
        order = ["train", "validation", "test"]
        names = sorted(
            self.outputs,
            key=lambda name: (name not in order, order.index(name) if name in order else 0, name),
        )
        stored = ((name, self.outputs[name].num_records) for name in names)
        return ", ".join(f"{number:,} {name}" for name, number in stored if number is not None)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse `to_json`; raises ValueError, KeyError or TypeError on anything else."""
        row = json.loads(text)
        outputs = outputs_of_rows(row["outputs"])
        return cls(**{**row, "outputs": outputs, "refers": tuple(row["refers"])})

    def to_json(self) -> str:
        """As text."""
        return pretty_json(asdict(self))


def outputs_of_rows(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, StoredOutput]:
    """Outputs by name, as `asdict` wrote them; raises KeyError or TypeError on anything else."""
    return {
        name: StoredOutput(**{**row, "files": tuple(StoredFile(**file) for file in row["files"])})
        for name, row in rows.items()
    }


def stored_output(
    draft: Path,
    name: str,
    *,
    is_folder: bool,
    num_records: int,
    pointer: str | None,
    pointed_digest: str | None = None,
) -> StoredOutput:
    """Describe an output that a stage has written into its draft."""
    top = draft / name if is_folder else draft / f"{name}.jsonl"
    files = tuple(
        StoredFile(
            path=path.relative_to(draft).as_posix(),
            size_b=path.stat().st_size,
            sha256=hash_file(path),
        )
        for path in (files_below(top) if is_folder else [top])
    )
    prefix = len(name) + 1
    by_name = {file.path[prefix:]: file.sha256 for file in files}
    return StoredOutput(
        digest=digest_of(by_name) if is_folder else files[0].sha256,
        files=files,
        num_records=None if is_folder else num_records,
        pointer=pointer,
        pointed_digest=pointed_digest,
    )
