"""The decode loop: a batch of prompts, one model call a token, rows leaving as they end.

Letters after the underscore: B rows, T tokens, V vocabulary. How a model is called is in `decoder_steps`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kpod.runner import SettingError

if TYPE_CHECKING:
    from torch import Tensor

    from kpod.stages._lm.decoder_steps import Prefix

HasStopText = Callable[[list[int]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How a text is chosen, and how long it may grow: all of it decides the text.

    Args:
        max_new_tokens: >= 1, in tokens of the model.
        temperature: >= 0; 0 takes the likeliest token.
        top_p: in (0, 1]; samples among the likeliest tokens that together have this probability.
        stop: a text ends before the first of these.
        seed: of the samples; not read at temperature 0.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """Whether the same prompt always gets the same text."""
        return self.temperature == 0


class Row(NamedTuple):
    """A prompt on its way into a batch.

    Args:
        name: what the finished row is called; also what its random numbers are drawn from.
        prompt_ids: token ids, at least one.
        max_new: tokens it may grow by, >= 1.
    """

    name: str
    prompt_ids: tuple[int, ...]
    max_new: int


def row_tokens(row: Row) -> int:
    """The most tokens, of prompt and text, that a row may come to."""
    return len(row.prompt_ids) + row.max_new


class FinishedRow(NamedTuple):
    """What became of a row: its new tokens, without the end token."""

    name: str
    ids: list[int]
    finish: Literal["stop", "length"]


class _Live:
    """A row that has not ended: its new tokens, and the random numbers that choose them (None: greedy)."""

    __slots__ = ("draws", "ids", "row")

    def __init__(self, row: Row, decoding: Decoding) -> None:
        self.row = row
        self.ids: list[int] = []
        self.draws = None if decoding.is_greedy else _uniforms(row, decoding)


class DecodingBatch:
    """Rows that are decoded together; `step` adds a token to each and returns those that ended.

    Args:
        model: a language model in eval mode, causal or with an encoder.
        rows: at least one.
        decoding: how tokens are chosen.
        pad_id: fills the columns of shorter prompts; masked, so its value does not matter.
        end_ids: a row ends with any of these.
        has_stop_text: whether the tokens so far hold a stop text; None where there is none to look for.
        prefix: what all prompts begin with, read already; None where they share nothing.
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[Row],
        decoding: Decoding,
        *,
        pad_id: int,
        end_ids: Sequence[int],
        has_stop_text: HasStopText | None = None,
        prefix: Prefix | None = None,
    ) -> None:
        from kpod.stages._lm.decoder_steps import decoder_steps

        self._live = [_Live(row, decoding) for row in rows]
        self._decoding = decoding
        self._end_ids = frozenset(end_ids)
        self._has_stop_text = has_stop_text
        self._newest_B: Tensor | None = None
        self._steps = decoder_steps(
            model,
            [row.prompt_ids for row in rows],
            pad_id=pad_id,
            max_new=max(row.max_new for row in rows),
            prefix=prefix,
        )

    @property
    def num_rows(self) -> int:
        """Rows that have not ended."""
        return len(self._live)

    @property
    def tokens_a_row(self) -> int:
        """The most tokens, of prompt and text, that a row may come to; 0 where none is left."""
        return max((row_tokens(live.row) for live in self._live), default=0)

    def step(self) -> list[FinishedRow]:
        """Add one token to every row; rows that end leave the batch."""
        import torch

        with torch.inference_mode():
            self._newest_B = self._next_tokens()
            for live, token in zip(self._live, self._newest_B.tolist(), strict=True):
                live.ids.append(token)
            endings = [self._ending(live) for live in self._live]
            return self._release(endings) if any(endings) else []

    def take_in(self, newcomers: Sequence[DecodingBatch]) -> None:
        """Go on with the rows of other batches too, each of which has taken at least one step and has rows left."""
        import torch

        newest = [batch._newest_B for batch in (self, *newcomers) if batch._newest_B is not None]
        assert len(newest) == 1 + len(newcomers), "rows join after a step"
        with torch.inference_mode():
            self._steps.take_in([batch._steps for batch in newcomers])
            self._newest_B = torch.cat(newest)
        for batch in newcomers:
            self._live += batch._live

    def _next_tokens(self) -> Tensor:
        """The next token of every row, int64 [B]."""
        import torch

        logits_BV = self._steps.next_logits(self._newest_B)
        if self._decoding.is_greedy:
            return logits_BV.argmax(-1)
        draws = [live.draws[len(live.ids)] for live in self._live if live.draws is not None]
        return sampled_tokens(
            logits_BV,
            torch.tensor(draws, dtype=torch.float64, device=logits_BV.device),
            temperature=self._decoding.temperature,
            top_p=self._decoding.top_p,
        )

    def _ending(self, live: _Live) -> Literal["stop", "length"] | None:
        """How a row ends with its newest token; None where it goes on."""
        if live.ids[-1] in self._end_ids:
            return "stop"
        if self._has_stop_text is not None and self._has_stop_text(live.ids):
            return "stop"
        return "length" if len(live.ids) >= live.row.max_new else None

    def _release(self, endings: Sequence[Literal["stop", "length"] | None]) -> list[FinishedRow]:
        """Take the rows that ended out of the batch and out of the model's steps."""
        import torch

        finished = []
        kept: list[int] = []
        for index, (live, ending) in enumerate(zip(self._live, endings, strict=True)):
            if ending is None:
                kept.append(index)
            else:
                has_end = live.ids[-1] in self._end_ids
                ids = live.ids[:-1] if has_end else live.ids
                finished.append(FinishedRow(live.row.name, ids, ending))
        self._live = [self._live[index] for index in kept]
        if kept:
            assert self._newest_B is not None, "rows end after a step"
            kept_B = torch.tensor(kept, device=self._newest_B.device)
            self._steps.keep(kept_B)
            self._newest_B = self._newest_B[kept_B]
        return finished


def sampled_tokens(
    logits_BV: Tensor, uniform_B: Tensor, *, temperature: float, top_p: float
) -> Tensor:
    """A token for every row, by inverting the distribution at a uniform number.

    Args:
        logits_BV: float32, unnormalised.
        uniform_B: float64 in [0, 1); which part of the probability mass the token is taken from.
        temperature: > 0; divides the logits.
        top_p: in (0, 1]; the mass of the likeliest tokens that are kept, at least one.

    Returns:
        int64 [B].

    Source: nucleus sampling, Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    """
    chance_BV, order_BV = (
        (logits_BV / temperature).softmax(-1).double().sort(dim=-1, descending=True, stable=True)
    )
    upto_BV = chance_BV.cumsum(-1)
    is_kept_BV = upto_BV - chance_BV < top_p
    chance_BV = chance_BV * is_kept_BV
    upto_BV = chance_BV.cumsum(-1)
    target_B1 = (uniform_B * upto_BV[:, -1])[:, None]
    rank_B1 = (upto_BV <= target_B1).sum(-1, keepdim=True)
    last_B1 = is_kept_BV.sum(-1, keepdim=True) - 1
    return order_BV.gather(-1, rank_B1.minimum(last_B1))[:, 0]


def _uniforms(row: Row, decoding: Decoding) -> list[float]:
    """One number in [0, 1) a token, float64: from the seed and the row's name alone, whatever batch it is in."""
    import torch

    digest = hashlib.sha256(f"{decoding.seed}/{row.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    draws: list[float] = torch.rand(row.max_new, generator=generator, dtype=torch.float64).tolist()
    return draws


def check_sampling(*, temperature: float, top_p: float, samples: int) -> None:
    """Settings of a greedy text that only sampling can use are an error.

    Raises:
        SettingError: several samples, or a top_p, at temperature 0.
    """
    if temperature == 0 and samples > 1:
        raise SettingError(
            "samples",
            f"got {samples} at temperature 0, where all samples are the same text",
            hint="set a temperature above 0, or samples: 1",
        )
    if temperature == 0 and top_p < 1:
        raise SettingError(
            "top_p",
            f"got {top_p:g} at temperature 0, where it has no effect",
            hint="set a temperature above 0, or leave top_p out",
        )
