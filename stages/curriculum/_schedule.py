"""The stages of a progressive schedule: a ceiling of difficulty that rises, and which rationales fill it (KPOD 3.4, eq. 9-13).

The difficulty of what rationale i must generate is h_i(c) = sum of the nats of its steps after the first c (eq. 9). At stage t a set
of rationales moves by steps_per_stage steps (eq. 11) so that the sum of all h_i stays under D(t) (eq. 10); what a stage leaves
unspent stays for the next, because the budget is measured against what was reached (KPOD 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kpod.runner import StageError
from kpod.stages.curriculum._selection import set_value
from kpod.stages.curriculum._settings import Config
from kpod.stages.curriculum._units import Unit

Choose = Callable[[Sequence[float], Sequence[int], float], Sequence[int]]
"""Costs, clusters and budget to the indices of a set that fits."""

# Sums of floats: a set that overspends by a billionth of the whole difficulty fits.
_TOLERANCE = 1e-9


def ceiling(stage: float, *, num_stages: int, total: float, initial: float, growth: float) -> float:
    """D(t) = C_0 + (B - C_0) * (t / T) ** (p + 1): the nats that may be generated at a stage.

    Args:
        stage: t, in [0, num_stages].
        num_stages: T.
        total: B, nats of all steps of all rationales.
        initial: C_0, nats.
        growth: p, > 0.

    Source: KPOD eq. 10 with D(T) = B put in.
    """
    # Written so that both ends are exact: 0 gives C_0, T gives B.
    passed = float((stage / num_stages) ** (growth + 1))
    return initial * (1 - passed) + total * passed


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where all rationales stand after the selection of a stage.

    Args:
        given: number of input steps of each.
        ceiling: D(t), nats.
        realised: nats of the steps that are generated, at most the ceiling.
        moved: indices of the rationales that generate more than at the stage before.
        value: F of the set that moved (eq. 12), in nats; at stage 0, which is no selection of the paper's, None.
    """

    given: list[int]
    ceiling: float
    realised: float
    moved: list[int]
    value: float | None


class Schedule:
    """The difficulties of all rationales, and how a state follows from the one before.

    Args:
        units: at least one.
        config: the settings, epochs filled in.
        choose: picks a set under a budget.
        tick: told the number of stages done, as often as one has time to listen.
    """

    def __init__(
        self, units: Sequence[Unit], config: Config, *, choose: Choose, tick: Callable[[int], None]
    ) -> None:
        self._units = units
        self._config = config
        self._choose = choose
        self._tick = tick
        self._tails = [_tails(unit.nats) for unit in units]
        self._total = math.fsum(tails[0] for tails in self._tails)

    def states(self) -> list[State]:
        """The states of stages 0 to T; that of stage t is played at epoch t.

        Raises:
            StageError: not one step can move before the last stage.
        """
        found = [self._start()]
        for stage in range(1, self._config.num_stages + 1):
            self._tick(stage - 1)
            found.append(self._next(found[-1].given, self._ceiling(stage)))
        self._tick(self._config.num_stages)
        self._check_moves(found)
        return found

    def _ceiling(self, stage: int) -> float:
        return ceiling(
            stage,
            num_stages=self._config.num_stages,
            total=self._total,
            initial=self._config.initial_frac * self._total,
            growth=self._config.growth,
        )

    def _realised(self, given: Sequence[int]) -> float:
        return math.fsum(tails[count] for tails, count in zip(self._tails, given, strict=True))

    def _start(self) -> State:
        """Stage 0, c_i(0): the paper gives C_0 and leaves open who generates what (see the setting `start`)."""
        limit = self._ceiling(0)
        all_given = [unit.num_steps for unit in self._units]
        if self._config.start == "per_question":
            given = [_own_share(tails, self._config.initial_frac) for tails in self._tails]
        else:
            given, has_moved = all_given, True
            while has_moved:
                self._tick(0)
                state = self._next(given, limit)
                given, has_moved = state.given, bool(state.moved)
        moved = [index for index, count in enumerate(given) if count < all_given[index]]
        return State(
            given=given, ceiling=limit, realised=self._realised(given), moved=moved, value=None
        )

    def _next(self, given: Sequence[int], limit: float) -> State:
        """One selection: those that are chosen are given steps_per_stage steps less, but not less than none."""
        stride = self._config.steps_per_stage
        waiting = [index for index, count in enumerate(given) if count > 0]
        costs = [_cost(self._units[index].nats, given[index], stride) for index in waiting]
        clusters = [self._units[index].cluster for index in waiting]
        budget = limit - self._realised(given)
        chosen = self._choose(costs, clusters, max(0.0, budget + _TOLERANCE * self._total))
        value = set_value(chosen, costs, clusters, budget=budget, beta=self._config.diversity)
        moved = [waiting[place] for place in chosen]
        after = list(given)
        for index in moved:
            after[index] = max(0, after[index] - stride)
        return State(
            given=after, ceiling=limit, realised=self._realised(after), moved=moved, value=value
        )

    def _check_moves(self, states: Sequence[State]) -> None:
        num_stages = self._config.num_stages
        if num_stages == 1 or any(state.moved for state in states[:-1]):
            return
        smallest = min(
            _cost(unit.nats, unit.num_steps, self._config.steps_per_stage) for unit in self._units
        )
        raise StageError(
            f"no step can move before the last of {num_stages} stages: the cheapest costs {smallest:.4g} nats, and at stage"
            f" {num_stages - 1} only {states[-2].ceiling:.4g} of {self._total:.4g} nats may be generated\n"
            f"raise initial_frac (now {self._config.initial_frac:g}) or lower growth (now {self._config.growth:g})"
        )


def _tails(nats: Sequence[float]) -> list[float]:
    """h(c) for c = 0 … n: the nats of the steps after the first c (KPOD eq. 9)."""
    tails = [0.0]
    for step in reversed(nats):
        tails.append(tails[-1] + step)
    return tails[::-1]


def _cost(nats: Sequence[float], given: int, stride: int) -> float:
    """delta: the nats of the steps just before the cut."""
    return nats[given - 1] if stride == 1 else sum(nats[max(0, given - stride) : given])


def _own_share(tails: Sequence[float], frac: float) -> int:
    """The fewest input steps that leave at most this share of a rationale's own difficulty to generate."""
    limit = (frac + _TOLERANCE) * tails[0]
    return next(count for count, tail in enumerate(tails) if tail <= limit)
