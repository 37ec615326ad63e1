"""Random numbers that belong to a rationale: a function of seed, purpose and id, whatever the order of the rows.

So that a resumed training, another micro-batch or another order of the file draws the same numbers (KPOD 9, statement 25).
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


def stream(seed: int, purpose: str, *names: object) -> random.Random:
    """The stream of random numbers for one purpose; the same on every machine and Python version."""
    text = " ".join(map(str, ("kpod weighting", seed, purpose, *names)))
    digest = hashlib.sha256(text.encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 - no secrets


def shuffled_order(size: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation that depends on seed and epoch alone."""
    order = list(range(size))
    stream(seed, "order", epoch).shuffle(order)
    return order


class Draw(NamedTuple):
    """What is drawn for a rationale in an epoch.

    Args:
        noise: (N,) float32 from the logistic distribution, one a token.
        prefixes: lengths of the prefixes that must give the answer, each 1 to N, ascending.
    """

    noise: torch.Tensor
    prefixes: tuple[int, ...]


def draw(
    rationale_id: str, num_tokens: int, *, seed: int, epoch: int, prefixes: int | None
) -> Draw:
    """The mask's noise and the prefixes of one rationale in one epoch.

    Args:
        rationale_id: whose they are.
        num_tokens: N.
        seed: of the stage.
        epoch: from 1.
        prefixes: how many; None, or at least N: all of them, each once.

    Returns:
        Noise log u - log(1 - u): the difference of the two Gumbel variables of a binary Gumbel-Softmax. Prefixes one from
        each of as many equal parts of 1..N, so that any k is drawn equally often: the mean over them is an unbiased
        estimate of the mean over all (Eq. 5), with less noise than independent draws.
    """
    import torch

    numbers = stream(seed, "mask", rationale_id, epoch)
    generator = torch.Generator().manual_seed(numbers.getrandbits(63))
    # Away from 0 and 1, whose logarithms are infinite.
    uniform_N = torch.rand(num_tokens, generator=generator).clamp(1e-6, 1 - 1e-6)
    noise_N = uniform_N.log() - (-uniform_N).log1p()
    if prefixes is None or prefixes >= num_tokens:
        return Draw(noise_N, tuple(range(1, num_tokens + 1)))
    parts = range(prefixes)
    chosen = (int(num_tokens * (part + numbers.random()) / prefixes) + 1 for part in parts)
    return Draw(noise_N, tuple(min(k, num_tokens) for k in chosen))
