"""Letting an earlier result stand although code or a library changed: a part of it is made again and compared.

What was made again is thrown away; under the new key stands the earlier result, byte for byte, so that nothing after it runs.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kpod.runner.copies import link_or_copy
from kpod.runner.disk import DISK
from kpod.runner.errors import KpodError, StageCrashed, StageFailed
from kpod.runner.events import Events, Listener, utc_now
from kpod.runner.execute import Execution
from kpod.runner.interrupt import StopRequest
from kpod.runner.keys import changes
from kpod.runner.launch import execute_stage
from kpod.runner.plan import Assessment
from kpod.runner.preimages import read_preimage, read_recent, write_preimage
from kpod.runner.session import Session
from kpod.runner.store import Entry, Store
from kpod.runner.subset import contents_of, drawn, names_questions, question_ids, write_rows
from kpod.runner.verifying import compared

# What may have changed: whether the result is the same is what is found out. All else was changed on purpose.
_CODE = ("version", "libraries", "key_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What became of one unit.

    Args:
        unit: its name.
        changed: what had changed, in words.
        part: what was made again: "20 of 7,473 questions", or "all of it".
        verdict: as of `rerun --verify`; "stored" where nothing had to be accepted.
        first: where the results differ; "" where they do not.
    """

    unit: str
    changed: str
    part: str
    verdict: str
    first: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether a result stands under the new key now."""
        return self.verdict != "diverged"


def accept(
    session: Session,
    stage_id: str,
    *,
    because: str,
    sample: int,
    listeners: Sequence[Listener] = (),
) -> list[Acceptance]:
    """Make a part of a stage's earlier results again, and let those stand that come out the same.

    Args:
        session: over the recipe as it is now.
        stage_id: the stage whose code or libraries changed.
        because: why, in the user's words; kept with the result.
        sample: questions that are looked at, of stages that work question by question; other stages are made again whole.
        listeners: told of progress.

    Raises:
        KpodError: something else changed too, or there is no earlier result to stand.
    """
    stop = StopRequest()
    rehearsal = _Rehearsal(session, sample, Events(None, list(listeners)), stop)
    found = [one for one in session.plan() if one.unit.stage.id == stage_id]
    with stop.listening():
        return [_accept(rehearsal, one, because) for one in found]


def _accept(rehearsal: _Rehearsal, wanted: Assessment, because: str) -> Acceptance:
    name, store = wanted.unit.name, rehearsal.session.store
    if wanted.entry is not None:
        return Acceptance(unit=name, changed="", part="", verdict="stored")
    old = _earlier(rehearsal.session, wanted)
    assert wanted.image is not None
    changed = "; ".join(changes(old.manifest.preimage, wanted.image))
    (store.root / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="accept-", dir=store.root / "tmp") as folder:
        part, verdict, first = rehearsal.compare(wanted, old, Path(folder))
    if verdict != "diverged":
        kept = {"from": old.manifest.key, "because": because, "changed": changed, "made_again": part, "verdict": verdict, "at": utc_now()}  # fmt: skip
        _publish(store, old, wanted, kept)
    return Acceptance(unit=name, changed=changed, part=part, verdict=verdict, first=first)


def _earlier(session: Session, wanted: Assessment) -> Entry:
    """The result that may stand: that of the last run, made from the same but for code."""
    name, store = wanted.unit.name, session.store
    if wanted.image is None:
        raise KpodError(
            f"{name} {wanted.reason}, whose result is not known\naccept or run that first"
        )
    if wanted.unit.stage.stage.determinism == "external":
        raise KpodError(
            f"{name} asks an endpoint, whose answers differ from time to time and cost money\n"
            "run the recipe: answers that were paid for are found again"
        )
    before = read_recent(store, session.recipe.name).get(name)
    image = read_preimage(store, before) if before else None
    entry = store.get(before) if before else None
    if image is None or entry is None:
        raise KpodError(
            f"{name} has no earlier result in {store.root} that could stand\nrun the recipe"
        )
    others = changes({**image, **{part: wanted.image[part] for part in _CODE}}, wanted.image)
    if others:
        raise KpodError(
            f"{name}: {'; '.join(others)}\nonly results whose code or libraries changed can be accepted: run the recipe"
        )
    return entry


class _OwnTexts(Store):
    """A store of its own for texts and checkpoints: nothing is found again, but what a stage reads is the other one's."""

    def __init__(self, root: Path, real: Store) -> None:
        super().__init__(root)
        self.memo = real.memo
        self._real = real

    def get(self, key: str) -> Entry | None:
        return self._real.get(key)

    def find_output(self, digest: str) -> tuple[Entry, str] | None:
        return self._real.find_output(digest)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """How stages are run for nothing but to be looked at."""

    session: Session
    sample: int
    events: Events
    stop: StopRequest

    def compare(self, wanted: Assessment, old: Entry, folder: Path) -> tuple[str, str, str]:
        """Make a part of a result again: which part, the verdict, and where it differs."""
        stage, contents = wanted.unit.stage.stage, wanted.contents or {}
        if not stage.by_question:
            made = self._make(wanted, old, folder)
            return "all of it", *_compared(old, made, dict.fromkeys(old.manifest.outputs))
        ids = question_ids(stage.inputs(), contents)
        chosen = drawn(ids, self.sample)
        part = f"{len(chosen):,} of {len(ids):,} questions"
        inputs = contents_of(stage.inputs(), contents, chosen, folder)
        made = self._make(replace(wanted, contents=inputs), old, folder)
        befores = {
            name: folder / f"old-{name}.jsonl"
            for name in old.manifest.outputs
            if names_questions(old.path(name))
        }
        for name, path in befores.items():
            write_rows(old.path(name), chosen, path, key="question_id")
        others = ", ".join(sorted(old.manifest.outputs.keys() - befores.keys()))
        part += f" (what names no question was not compared: {others})" if others else ""
        return part, *_compared(old, made, befores)

    def _make(self, wanted: Assessment, old: Entry, folder: Path) -> Entry:
        unit = wanted.unit
        planner = copy.copy(self.session.planner)
        planner.store = _OwnTexts(folder / "store", self.session.store)
        draft = folder / "draft"
        draft.mkdir()
        execution = Execution(planner, self.events, self.stop, "accept", budget=self.session.budget)
        try:
            outputs = execute_stage(execution.context(wanted, draft))
        except KpodError as error:
            raise StageFailed(unit.name, unit.stage.uses, error) from error
        except Exception as error:
            raise StageCrashed(unit.name, unit.stage.uses, error) from error
        finally:
            planner.store.texts.close()
        return Entry(draft, replace(old.manifest, outputs=outputs))


def _compared(old: Entry, made: Entry, befores: Mapping[str, Path | None]) -> tuple[str, str]:
    """The worst verdict over these outputs, and where they differ; None: the whole output."""
    worst = "bit-identical"
    for name, before in befores.items():
        is_folder = old.manifest.outputs[name].num_records is None
        verdict, _, first = compared(before or old.path(name), made.path(name), is_folder=is_folder)
        if verdict == "diverged":
            return verdict, f"{name}: {first}"
        worst = verdict if verdict != "bit-identical" else worst
    return worst, ""


def _publish(store: Store, old: Entry, wanted: Assessment, kept: dict[str, Any]) -> None:
    """The earlier result under the new key; its notes tell since when and why."""
    assert wanted.key is not None
    assert wanted.image is not None
    write_preimage(store, wanted.key, wanted.image)
    notes = {**old.manifest.notes, "accepted": kept}
    manifest = replace(old.manifest, key=wanted.key, preimage=dict(wanted.image), notes=notes)
    with store.drafting(wanted.key) as draft:
        for output in old.manifest.outputs.values():
            for file in output.files:
                link_or_copy(old.folder / file.path, draft / file.path, disk=DISK)
        store.publish(draft, manifest)
