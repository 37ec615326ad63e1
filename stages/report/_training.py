"""How the students were trained: loss by epoch, what it was over, tokens and time, each beside the first arm's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kpod.runner import Rationale
from kpod.stages.report._notes import Note, flat_notes, number
from kpod.stages.report._wired import sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit

# Notes that have a column of their own.
_SHOWN = (
    "losses", "target_tokens", "target_tokens_by_epoch", "processed_tokens", "padded_tokens", "seconds", "tokens_per_s",
    "steps", "examples", "target_token_budget",
)  # fmt: skip
# What an epoch's loss is divided by: the students' setting `normalise`.
_SHARES = {"targets": "target token", "sequences": "sequence", "weights": "unit of weight"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """A training's figures as multiples of another's; None where one of the two is not known, or 0."""

    steps: float | None
    target_tokens: float | None
    processed_tokens: float | None
    training_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """One training.

    Args:
        status: hit (trained by an earlier run), shared or run.
        seconds, cpu_seconds: of the whole stage, when it was executed.
        training_s: of that, in optimizer steps.
        losses: mean nats of each epoch, per `loss_per`; None where one is not finite; empty where none were noted.
        loss_per: what the losses are means over: a target token, a sequence, or a unit of weight.
        epoch_targets: target tokens of each epoch; empty where none were noted.
        partial_epochs: of each epoch, whether it has fewer target tokens than the fullest of this training.
        num_rationales: wired in; None where none are.
        num_examples: sequences trained on.
        target_tokens, processed_tokens, padded_tokens: over all epochs; prompts count from the second on, padding in the third.
        target_token_budget: that ended the training in place of a number of epochs.
        tokens_per_s: processed.
        weights, curriculum, budget: ids of the stages that weigh its tokens, cut its rationales, and set its budget; "" for none.
        ratios: against the first arm that the page compares with; None for that arm itself.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    status: str
    seconds: float
    cpu_seconds: float
    training_s: float | None
    losses: tuple[float | None, ...]
    loss_per: str
    epoch_targets: tuple[float | None, ...]
    partial_epochs: tuple[bool, ...]
    num_rationales: int | None
    num_examples: float | None
    steps: float | None
    target_tokens: float | None
    processed_tokens: float | None
    padded_tokens: float | None
    target_token_budget: float | None
    tokens_per_s: float | None
    weights: str
    curriculum: str
    budget: str
    notes: tuple[Note, ...]
    ratios: Ratios | None = None


def read_students(archive: Archive) -> tuple[Student, ...]:
    """Every unit that trained, in the order of the run; compared with the recipe's baseline, or else with the first."""
    students = [
        _student(archive, unit)
        for unit in archive.units.values()
        if unit.uses.startswith("student.")
    ]
    base = baseline_of(students, archive.facts["primary"])
    return tuple(
        student if student is base or base is None else replace(student, ratios=ratios_of(student, base))
        for student in students
    )  # fmt: skip


class Trained(Protocol):
    """What one arm's training took, in one run or in the mean of several."""

    @property
    def name(self) -> str:
        """Id of the stage."""

    @property
    def steps(self) -> float | None:
        """Optimizer steps."""

    @property
    def target_tokens(self) -> float | None:
        """Tokens that count in the loss."""

    @property
    def processed_tokens(self) -> float | None:
        """Tokens read."""

    @property
    def training_s(self) -> float | None:
        """Seconds in optimizer steps."""


TrainedT = TypeVar("TrainedT", bound=Trained)


def baseline_of(trained: Sequence[TrainedT], primary: Sequence[str]) -> TrainedT | None:
    """What the others are compared with: the first of the recipe's comparison, or else the first of all."""
    named = {each.name: each for each in trained}
    return next((named[name] for name in primary if name in named), next(iter(trained), None))


def ratios_of(mine: Trained, base: Trained) -> Ratios:
    """One training's figures as multiples of another's."""

    def of(value: float | None, whole: float | None) -> float | None:
        return value / whole if value is not None and whole else None

    return Ratios(
        steps=of(mine.steps, base.steps),
        target_tokens=of(mine.target_tokens, base.target_tokens),
        processed_tokens=of(mine.processed_tokens, base.processed_tokens),
        training_s=of(mine.training_s, base.training_s),
    )


def _student(archive: Archive, unit: ArchivedUnit) -> Student:
    notes = unit.manifest.notes
    rationales = sources_of(archive, unit, Rationale)
    counts = [made.manifest.outputs[output].num_records or 0 for made, output in rationales]
    targets = _numbers(notes.get("target_tokens_by_epoch"), "target_tokens")
    fullest = max((size for size in targets if size is not None), default=0)
    return Student(
        name=unit.name,
        uses=unit.uses,
        status=unit.status,
        seconds=unit.manifest.seconds,
        cpu_seconds=unit.manifest.cpu_seconds,
        training_s=number(notes, "seconds"),
        losses=_numbers(notes.get("losses"), "loss"),
        loss_per=_SHARES.get(str(unit.config.get("normalise")), "target token"),
        epoch_targets=targets,
        partial_epochs=tuple(size is not None and size < fullest for size in targets),
        num_rationales=sum(counts) if counts else None,
        num_examples=number(notes, "examples"),
        steps=number(notes, "steps"),
        target_tokens=number(notes, "target_tokens"),
        processed_tokens=number(notes, "processed_tokens"),
        padded_tokens=number(notes, "padded_tokens"),
        target_token_budget=number(notes, "target_token_budget"),
        tokens_per_s=number(notes, "tokens_per_s"),
        weights=_wired(unit, "weights"),
        curriculum=_wired(unit, "curriculum"),
        budget=_wired(unit, "budget"),
        notes=flat_notes(notes, without=_SHOWN),
    )


def _wired(unit: ArchivedUnit, name: str) -> str:
    """Id of the stage on an input; "" where nothing is wired to it."""
    return next((wire.partition(".")[0] for wire in unit.wires.get(name, ())), "")


def _numbers(noted: Any, name: str) -> tuple[float | None, ...]:
    """Figures by epoch from a list of numbers, or of objects with one of that name."""
    if not isinstance(noted, list | tuple):
        return ()
    return tuple(
        number(item if isinstance(item, Mapping) else {name: item}, name) for item in noted
    )
