"""A team of several processes: each computes its share of every optimizer step, and one all-reduce adds up the gradients.

The global batch, its order and its denominators are those of one process: every rank knows the whole step (DESIGN 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kpod.stages._lm.hardware import Hardware, pick_device
from kpod.stages._lm.processes import join
from kpod.stages.student._sharding import Sharding, sharding_asked, zero_asked
from kpod.stages.student._team import Alone, Sides, Team

if TYPE_CHECKING:
    import torch

    from kpod.runner import ZeroSettings


class Processes:
    """Launched processes that share every step, over torch.distributed.

    Where a step has at least as many micro-batches as there are processes, these are the micro-batches of one process,
    with the same dropout masks. Where it has fewer they are cut, so that nobody idles: the gradient is the same up to
    float noise, but dropout then draws other masks, since they belong to a micro-batch.

    Args:
        rank: which process this is, from 0.
        size: how many there are; the process group exists.
        device: of the gradients.
    """

    def __init__(self, *, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self._size = size
        self._device = device

    @property
    def size(self) -> int:
        """How many there are."""
        return self._size

    @property
    def is_first(self) -> bool:
        """Whether this one saves, reports and publishes."""
        return self.rank == 0

    def share(
        self, groups: Sequence[list[int]], sides: Sequence[Sides]
    ) -> Iterator[tuple[int, list[int]]]:
        """The micro-batches of a step that this process computes, each with its number in the step."""
        yield from self._dealt(groups, sides)[self.rank]

    def _dealt(
        self, groups: Sequence[list[int]], sides: Sequence[Sides]
    ) -> list[list[tuple[int, list[int]]]]:
        """What every process computes."""
        cut = enough_groups(groups, sides, num=self._size)
        owners = assign([_num_computed(group, sides) for group in cut], num_ranks=self._size)
        dealt: list[list[tuple[int, list[int]]]] = [[] for _ in range(self._size)]
        for number, (group, owner) in enumerate(zip(cut, owners, strict=True)):
            dealt[owner].append((number, group))
        return dealt

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place, in one all-reduce.

        A parameter that has no gradient on any process keeps none, as with one process.
        """
        import torch
        import torch.distributed as dist

        sizes = [parameter.numel() for parameter in parameters]
        buffer = torch.zeros(sum(sizes) + len(sizes), dtype=torch.float32, device=self._device)
        parts = torch.split(buffer, [*sizes, len(sizes)])
        for index, parameter in enumerate(parameters):
            if parameter.grad is not None:
                parts[index].copy_(parameter.grad.flatten())
                parts[-1][index] = 1.0
        dist.all_reduce(buffer)
        for parameter, part, num_gradients in zip(
            parameters, parts[:-1], parts[-1].tolist(), strict=True
        ):
            if num_gradients:
                parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def sum_numbers(self, *values: float) -> tuple[float, ...]:
        """Each value, added up over all processes, in float64."""
        import torch
        import torch.distributed as dist

        summed = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(summed)
        return tuple(summed.tolist())

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process."""
        return self.sum_numbers(float(flag))[0] > 0

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)


class EvenProcesses(Processes):
    """As `Processes`, and all compute as many micro-batches in every step: who has fewer computes empty ones.

    They communicate in every backward pass.
    """

    def share(
        self, groups: Sequence[list[int]], sides: Sequence[Sides]
    ) -> Iterator[tuple[int, list[int]]]:
        """The micro-batches of a step that this process computes; the last ones may be empty."""
        dealt = self._dealt(groups, sides)
        yield from dealt[self.rank]
        for number in range(len(dealt[self.rank]), max(map(len, dealt))):
            yield len(sides) + number, []

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """They were added up in the backward pass, where each process keeps the sum for its part."""


class Shards(EvenProcesses):
    """Each holds a part of every weight (FSDP2): they gather them together, block by block.

    Args:
        sharding: how weights are spread.
    """

    def __init__(self, *, rank: int, size: int, device: torch.device, sharding: Sharding) -> None:
        super().__init__(rank=rank, size=size, device=device)
        self.sharding = sharding

    def judges(self) -> Judges:
        """The same processes, all of which do what else the first one does alone."""
        return Judges(rank=self.rank, size=self.size, device=self._device)


class ZeroTeam(EvenProcesses):
    """Processes among which DeepSpeed spreads a training.

    Args:
        settings: how.
    """

    def __init__(
        self, *, rank: int, size: int, device: torch.device, settings: ZeroSettings
    ) -> None:
        super().__init__(rank=rank, size=size, device=device)
        self.settings = settings

    def most(self, number: int) -> int:
        """The largest of the processes' numbers."""
        import torch
        import torch.distributed as dist

        found = torch.tensor(number, device=self._device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)


class Judges(Processes):
    """Processes that do the same at the same time, because each holds a part of what they look at."""

    @property
    def is_first(self) -> bool:
        """All of them are; numbers that are added up over them count `size` times, ratios stay."""
        return True


def team_of(placement: Hardware) -> Team:
    """The team that this process was launched into; alone where it was not.

    Args:
        placement: device: on CUDA every process computes on the device of its local rank.
    """
    device = pick_device(placement)
    ranks = join(device)
    if ranks is None:
        return Alone()
    sharding = sharding_asked()
    if sharding is not None:
        return Shards(rank=ranks.rank, size=ranks.size, device=device, sharding=sharding)
    settings = zero_asked()
    if settings is not None:
        return ZeroTeam(rank=ranks.rank, size=ranks.size, device=device, settings=settings)
    return Processes(rank=ranks.rank, size=ranks.size, device=device)


def enough_groups(
    groups: Sequence[list[int]], sides: Sequence[Sides], *, num: int
) -> list[list[int]]:
    """The groups, some cut into runs of nearly equal length so that there are `num` of them.

    Args:
        groups: indices into `sides`; those of a group are of like length.
        sides: tokens that encoder and decoder read of each sequence.
        num: wanted; fewer where there are not that many sequences, more where there are more groups.
    """
    pieces = [1] * len(groups)
    costs = [_num_computed(group, sides) for group in groups]
    while sum(pieces) < num:
        open_groups = [n for n, group in enumerate(groups) if pieces[n] < len(group)]
        if not open_groups:
            break
        pieces[max(open_groups, key=lambda n: (costs[n] / pieces[n], -n))] += 1
    return [
        group[len(group) * piece // parts : len(group) * (piece + 1) // parts]
        for group, parts in zip(groups, pieces, strict=True)
        for piece in range(parts)
    ]


def assign(costs: Sequence[int], *, num_ranks: int) -> list[int]:
    """The rank that computes each micro-batch: the costliest first, each to the rank with the least to do.

    At most 4/3 - 1/(3 num_ranks) of the best makespan (Graham 1969, longest processing time first).
    """
    loads = [0] * num_ranks
    owners = [0] * len(costs)
    for number in sorted(range(len(costs)), key=lambda number: (-costs[number], number)):
        owner = min(range(num_ranks), key=lambda rank: (loads[rank], rank))
        owners[number] = owner
        loads[owner] += costs[number]
    return owners


def _num_computed(group: Sequence[int], sides: Sequence[Sides]) -> int:
    """Tokens of a micro-batch, padding included."""
    return len(group) * sum(max(sides[index][side] for index in group) for side in (0, 1))
