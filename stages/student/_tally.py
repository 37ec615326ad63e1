"""What a training has done so far, kept with its checkpoint and told in the report."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """

    step: int = 0
    epoch_nats: list[float] = field(default_factory=list)
    epoch_shares: list[float] = field(default_factory=list)
    epoch_targets: list[int] = field(default_factory=list)
    processed_tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0

    @property
    def losses(self) -> list[float]:
        """Mean loss of every epoch begun."""
        return [nats / n for nats, n in zip(self.epoch_nats, self.epoch_shares, strict=True)]
