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
    import torch
    from torch import Tensor

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


class FinishedRow(NamedTuple):
    """What became of a row: its new tokens, without the end token."""

    name: str
    ids: list[int]
    finish: Literal["stop", "length"]


class DecodingBatch:
    """Rows that are decoded together; `step` adds a token to each and returns those that ended.

    Args:
        model: a language model in eval mode, causal or with an encoder.
        rows: at least one.
        decoding: how tokens are chosen.
        pad_id: fills the columns of shorter prompts; masked, so its value does not matter.
        end_ids: a row ends with any of these.
        has_stop_text: whether the tokens so far hold a stop text; None where there is none to look for.
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
    ) -> None:
        import torch

        from kpod.stages._lm.decoder_steps import decoder_steps

        device = model.device
        longest = max(row.max_new for row in rows)
        self._rows = list(rows)
        self._decoding = decoding
        self._has_stop_text = has_stop_text
        self._num_new = 0
        self._newest_B: Tensor | None = None
        self._steps = decoder_steps(
            model, [row.prompt_ids for row in rows], pad_id=pad_id, max_new=longest
        )
        self._max_new_B = torch.tensor([row.max_new for row in rows], device=device)
        self._new_BT = torch.full((len(rows), longest), pad_id, device=device)
        self._end_ids = torch.tensor(sorted(end_ids), device=device)
        self._uniform_BT = (
            None if decoding.is_greedy else _uniforms(rows, decoding, longest).to(device)
        )

    @property
    def num_rows(self) -> int:
        """Rows that have not ended."""
        return len(self._rows)

    def step(self) -> list[FinishedRow]:
        """Add one token to every row; rows that end leave the batch."""
        import torch

        with torch.inference_mode():
            is_end_B = self._extend()
            if not bool(is_end_B.any()):
                return []
            return self._release(is_end_B)

    def _extend(self) -> Tensor:
        """Choose the next token of every row; returns bool [B]: whether it ends the row."""
        import torch

        logits_BV = self._steps.next_logits(self._newest_B)
        if self._uniform_BT is None:
            next_B = logits_BV.argmax(-1)
        else:
            next_B = sampled_tokens(
                logits_BV,
                self._uniform_BT[:, self._num_new],
                temperature=self._decoding.temperature,
                top_p=self._decoding.top_p,
            )
        self._new_BT[:, self._num_new] = next_B
        self._num_new += 1
        self._newest_B = next_B
        is_end_B = torch.isin(next_B, self._end_ids) | (self._max_new_B <= self._num_new)
        if self._has_stop_text is not None:
            texts = self._new_BT[:, : self._num_new].tolist()
            stopped = [self._has_stop_text(ids) for ids in texts]
            is_end_B = is_end_B | torch.tensor(stopped, device=is_end_B.device)
        return is_end_B

    def _release(self, is_end_B: Tensor) -> list[FinishedRow]:
        """Take the rows that ended out of the batch and out of the model's steps."""
        ended = is_end_B.tolist()
        finished = [self._finished(i) for i, has_ended in enumerate(ended) if has_ended]
        self._rows = [
            row for row, has_ended in zip(self._rows, ended, strict=True) if not has_ended
        ]
        if self._rows:
            kept_B = (~is_end_B).nonzero(as_tuple=True)[0]
            assert self._newest_B is not None, "rows end after a step"
            self._steps.keep(kept_B)
            self._newest_B = self._newest_B[kept_B]
            self._max_new_B = self._max_new_B[kept_B]
            self._new_BT = self._new_BT[kept_B]
            if self._uniform_BT is not None:
                self._uniform_BT = self._uniform_BT[kept_B]
        return finished

    def _finished(self, index: int) -> FinishedRow:
        ids: list[int] = self._new_BT[index, : self._num_new].tolist()
        has_end = ids[-1] in self._end_ids.tolist()
        if has_end:
            ids = ids[:-1]
        has_stopped = has_end or (self._has_stop_text is not None and self._has_stop_text(ids))
        return FinishedRow(self._rows[index].name, ids, "stop" if has_stopped else "length")


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


def _uniforms(rows: Sequence[Row], decoding: Decoding, num_tokens: int) -> torch.Tensor:
    """float64 [B, T] in [0, 1): a row's numbers come from the seed and its name alone, whatever batch it is in."""
    import torch

    draws = torch.zeros((len(rows), num_tokens), dtype=torch.float64)
    for i, row in enumerate(rows):
        digest = hashlib.sha256(f"{decoding.seed}/{row.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        draws[i, : row.max_new] = torch.rand(row.max_new, generator=generator, dtype=torch.float64)
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
