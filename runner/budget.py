"""What a command may spend: a stage that pays reserves the most that a request can cost before it sends it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kpod.runner.errors import BudgetReached

# Money is counted in whole billionths of a dollar: sums are exact, whatever their order.
_NANO = 1e9


@dataclass(slots=True)
class Budget:
    """One for each command; all its stages share it.

    Args:
        limit_usd: the most that may be spent, > 0; None: no limit.
    """

    limit_usd: float | None = None
    _spent: int = 0
    _reserved: int = 0

    @property
    def spent_usd(self) -> float:
        """What was settled so far."""
        return self._spent / _NANO

    @property
    def left_usd(self) -> float | None:
        """What may still be reserved; None without a limit."""
        if self.limit_usd is None:
            return None
        return max(0, _nano(self.limit_usd) - self._spent - self._reserved) / _NANO

    def reserve(self, usd: float) -> bool:
        """Set an upper bound aside; False, and nothing is set aside, where it could pass the limit.

        Args:
            usd: the most that the request can cost, >= 0.
        """
        after = self._reserved + _nano(usd)
        if self.limit_usd is not None and self._spent + after > _nano(self.limit_usd):
            return False
        self._reserved = after
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Replace a reservation by what was spent.

        Args:
            reserved_usd: as it was reserved.
            spent_usd: what the answer cost; the reservation itself where that is not known (a request that was sent, and its
                answer lost), so that the limit holds whatever the endpoint charges.
        """
        self._reserved -= _nano(reserved_usd)
        assert self._reserved >= 0, "settled more than was reserved"
        self._spent += _nano(spent_usd)

    def reached(self, *, done: int, total: int, unit: str = "texts") -> BudgetReached:
        """The error for a stage that can send nothing more."""
        return BudgetReached(
            f"the budget of {money(self.limit_usd or 0.0)} is reached: {self.spent_usd:,.4f} USD spent by this command,"
            f" and the next request could cost more than is left; {done:,} of {total:,} {unit} are there\n"
            "what is answered is stored; the same command continues, with a budget of its own"
        )


def money(usd: float) -> str:
    """An amount as a person gives it: two decimals, and more where there are more, up to four."""
    whole, _, parts = f"{usd:,.4f}".partition(".")
    return f"{whole}.{parts[:2]}{parts[2:].rstrip('0')} USD"


def _nano(usd: float) -> int:
    assert usd >= 0, f"{usd} USD"
    return math.ceil(usd * _NANO - 1e-3)
