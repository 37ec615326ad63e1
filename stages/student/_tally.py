"""What a training has done so far, kept with its checkpoint and told in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How good the student was at one moment of its training.

    Args:
        epoch: from 1; the one that its last step belongs to.
        step: optimizer steps done.
        value: accuracy in [0, 1], or nats a target token, as `validate.metric` says.
    """

    epoch: int
    step: int
    value: float


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts over all attempts of one training.

    Args:
        step: optimizer steps done.
        epoch_nats: weighted nats of every epoch begun, summed over its targets.
        epoch_shares: what these sums are divided by, as `normalise` says: targets, sequences or weights.
        epoch_targets: target tokens of every epoch begun.
        processed_tokens: context and target tokens read, without padding.
        padded_tokens: tokens computed, with padding.
        seconds: time spent in steps.
        judgements: in their order; none where nothing is validated.
        best_step: the steps behind the best of them, the first of equals.
        refused: why an earlier checkpoint could not be read, so that training began anew; "" where none was.
    """

    step: int = 0
    epoch_nats: list[float] = field(default_factory=list)
    epoch_shares: list[float] = field(default_factory=list)
    epoch_targets: list[int] = field(default_factory=list)
    processed_tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0
    judgements: list[Judgement] = field(default_factory=list)
    best_step: int | None = None
    refused: str = ""

    @property
    def losses(self) -> list[float]:
        """Mean loss of every epoch begun."""
        return [nats / n for nats, n in zip(self.epoch_nats, self.epoch_shares, strict=True)]

    @property
    def kept_step(self) -> int:
        """The steps behind the student that is kept: the best one, or the last."""
        return self.step if self.best_step is None else self.best_step

    @property
    def best(self) -> Judgement | None:
        """The judgement of the student that is kept."""
        return next((one for one in self.judgements if one.step == self.best_step), None)

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Tally:
        """What `to_json` wrote.

        Raises:
            TypeError: a field is unknown.
        """
        judgements = [Judgement(**one) for one in row.get("judgements", ())]
        return cls(**{**row, "judgements": judgements})
