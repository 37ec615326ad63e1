"""One step of a decoder: the newest token of every row in, logits of the next one out; one way for each family of models.

Letters after the underscore: B rows, T tokens, V vocabulary, D width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, Self

from kpod.stages._lm.key_cache import (
    buffered_cache,
    encoder_decoder_cache,
    is_buffered,
    repeated,
    take_in,
    token_bytes,
)
from kpod.stages._lm.ragged_attention import Stretch, attending, is_ragged, stretches_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


class DecoderSteps(Protocol):
    """A batch of prompts on which a model goes on, token by token."""

    def next_logits(self, newest_B: Tensor | None) -> Tensor:
        """Logits [B, V] in float32 of every row's next token; `newest_B` is its last one, None at the first step."""

    def keep(self, kept_B: Tensor) -> None:
        """Let all rows but these go."""

    def take_in(self, newcomers: Sequence[Self]) -> None:
        """Add the rows of other steps of this model below, which have taken at least one step; only where `rows_can_join`."""


class Prefix:
    """Tokens that many prompts begin with, read once.

    Args:
        model: a causal language model in eval mode.
        ids: the tokens, at least one.
    """

    def __init__(self, model: Any, ids: Sequence[int]) -> None:
        import torch

        self.ids = tuple(ids)
        self._config = model.config
        self._cache = buffered_cache(model.config)
        with torch.inference_mode():
            ids_1T = torch.tensor([self.ids], device=model.device)
            model(input_ids=ids_1T, past_key_values=self._cache, use_cache=True, logits_to_keep=1)

    def cache_of(self, num_rows: int) -> DynamicCache:
        """A cache in which every row has read these tokens."""
        return repeated(self._cache, self._config, num_rows=num_rows)


def rows_can_join(model: Any) -> bool:
    """Whether rows may join others that are under way.

    Not with an encoder: T5 numbers tokens by the cache's length, so that rows of one batch must be equally long. Not with layers
    that keep less than whole rows, such as sliding windows.
    """
    return not model.config.is_encoder_decoder and is_buffered(buffered_cache(model.config))


def prefix_can_be_shared(model: Any) -> bool:
    """Whether rows may begin with a prefix that was read once: a shorter prompt has columns without a token behind it.

    Not where a model takes two tokens to be as far apart as their columns: MPT, whose ALiBi knows no position numbers, and the
    windows of GPT-Neo's local layers.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    has_numbers = "position_ids" in signature(inner.forward).parameters
    has_windows = "local" in getattr(model.config, "attention_layers", ())
    return has_numbers and not has_windows and rows_can_join(model)


def decoder_steps(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    pad_id: int,
    max_new: int,
    prefix: Prefix | None = None,
) -> DecoderSteps:
    """The steps of a model on these prompts.

    Args:
        model: a language model in eval mode, causal or with an encoder.
        prompts: token ids, at least one a prompt; for an encoder with its end token.
        pad_id: fills the columns of shorter prompts; masked, so its value does not matter.
        max_new: most steps that will be taken.
        prefix: what all prompts begin with, and are longer than; only for models with which it can be shared.
    """
    if model.config.is_encoder_decoder:
        return EncoderDecoderSteps(model, prompts, pad_id=pad_id)
    return CausalSteps(model, prompts, pad_id=pad_id, max_new=max_new, prefix=prefix)


class CausalSteps:
    """The prompt is the beginning of the text.

    Prompts are padded on the left (behind a prefix, where there is one), so that the last column is each row's newest token;
    padded places are masked and take no position number.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        *,
        pad_id: int,
        max_new: int,
        prefix: Prefix | None = None,
    ) -> None:
        import torch

        num_read = 0 if prefix is None else len(prefix.ids)
        unread = [prompt[num_read:] for prompt in prompts]
        lengths = [len(prompt) for prompt in unread]
        width = max(lengths)
        padded = [[pad_id] * (width - len(prompt)) + [*prompt] for prompt in unread]
        mask = [[1] * num_read + [0] * (width - length) + [1] * length for length in lengths]
        self._model = model
        self._num_left = max_new
        self._cache = (
            buffered_cache(model.config) if prefix is None else prefix.cache_of(len(prompts))
        )
        self._unread_BT = torch.tensor(padded, device=model.device)
        self._width = num_read + width
        self._mask_BT = _with_room(
            torch.tensor(mask, device=model.device, dtype=torch.bool), max_new
        )
        self._stretches: list[Stretch] | None = None
        self._position_B = torch.tensor(lengths, device=model.device) + (num_read - 1)

    def next_logits(self, newest_B: Tensor | None) -> Tensor:
        """As the protocol says."""
        if newest_B is None:
            ids_BT, position_BT = self._unread_BT, self._prompt_positions()
        else:
            self._width += 1
            self._num_left -= 1
            self._position_B = self._position_B + 1
            ids_BT, position_BT = newest_B[:, None], self._position_B[:, None]
        with attending(() if newest_B is None else self._read_together()):
            out = self._model(
                input_ids=ids_BT,
                attention_mask=self._mask_BT[:, : self._width],
                position_ids=position_BT,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits_BV: Tensor = out.logits[:, -1].float()
        return logits_BV

    def _read_together(self) -> Sequence[Stretch]:
        """The stretches of the rows, which stay until rows come or go: every row has a token in a new column."""
        if not is_ragged(self._model):
            return ()
        if self._stretches is None:
            self._stretches = stretches_of(
                self._mask_BT[:, : self._width], token_bytes=token_bytes(self._cache)
            )
        return self._stretches

    def _prompt_positions(self) -> Tensor:
        """Position numbers of what is read of the prompts, [B, T]; padding takes none."""
        positions_BT = self._mask_BT[:, : self._width].cumsum(-1) - 1
        return positions_BT[:, -self._unread_BT.shape[1] :].clamp(min=0)

    def keep(self, kept_B: Tensor) -> None:
        """As the protocol says."""
        self._cache.batch_select_indices(kept_B)
        self._mask_BT = self._mask_BT[kept_B]
        self._position_B = self._position_B[kept_B]
        self._stretches = None

    def take_in(self, newcomers: Sequence[CausalSteps]) -> None:
        """As the protocol says; columns that only rows that have gone filled are let go."""
        import torch

        mask_BT = self._mask_BT[:, : self._width]
        skip = int(mask_BT.any(0).byte().argmax())
        masks = [mask_BT[:, skip:], *(new._mask_BT[:, : new._width] for new in newcomers)]
        width = max(mask_BT.shape[1] for mask_BT in masks)
        take_in(self._cache, [new._cache for new in newcomers], skip=skip, width=width)
        aligned = [
            torch.nn.functional.pad(mask_BT, (width - mask_BT.shape[1], 0)) for mask_BT in masks
        ]
        everyone = (self, *newcomers)
        self._num_left = max(steps._num_left for steps in everyone)
        self._mask_BT = _with_room(torch.cat(aligned), self._num_left)
        self._width = width
        self._position_B = torch.cat([steps._position_B for steps in everyone])
        self._stretches = None


def _with_room(mask_BT: Tensor, num_tokens: int) -> Tensor:
    """The mask with columns for so many tokens that every row will have."""
    import torch

    return torch.nn.functional.pad(mask_BT, (0, num_tokens), value=True)


class EncoderDecoderSteps:
    """The encoder reads the prompt once, at the first step; the text begins behind the model's decoder start token.

    Prompts are padded on the right, so that models that number positions (BART) number them as they were trained. Keys and
    values of the prompt are computed once too, and held in the cache's other half.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int) -> None:
        import torch

        width = max(len(prompt) for prompt in prompts)
        padded = [[*prompt] + [pad_id] * (width - len(prompt)) for prompt in prompts]
        mask = [[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts]
        self._model = model
        self._cache = encoder_decoder_cache(model)
        self._prompt_BT = torch.tensor(padded, device=model.device)
        self._mask_BT = torch.tensor(mask, device=model.device)
        self._start_B = torch.full((len(prompts),), decoder_start_id(model), device=model.device)
        self._read_BTD: Tensor | None = None

    def next_logits(self, newest_B: Tensor | None) -> Tensor:
        """As the protocol says."""
        if self._read_BTD is None:
            encoder = self._model.get_encoder()
            read = encoder(input_ids=self._prompt_BT, attention_mask=self._mask_BT)
            self._read_BTD = read.last_hidden_state
        out = self._model(
            encoder_outputs=(self._read_BTD,),
            attention_mask=self._mask_BT,
            decoder_input_ids=(self._start_B if newest_B is None else newest_B)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        logits_BV: Tensor = out.logits[:, -1].float()
        return logits_BV

    def keep(self, kept_B: Tensor) -> None:
        """As the protocol says."""
        assert self._read_BTD is not None, "rows leave after a step"
        self._cache.batch_select_indices(kept_B)
        self._mask_BT = self._mask_BT[kept_B]
        self._read_BTD = self._read_BTD[kept_B]

    def take_in(self, newcomers: Sequence[EncoderDecoderSteps]) -> None:
        """Never called: `rows_can_join` says no."""
        raise NotImplementedError


def decoder_start_id(model: Any) -> int:
    """The token behind which an encoder-decoder begins its text (T5: its pad token).

    Raises:
        StageError: the model's files name none.
    """
    from kpod.runner import StageError

    named = (model.generation_config, model.config)
    found = next((one.decoder_start_token_id for one in named if _has_start(one)), None)
    if found is None:
        raise StageError(
            f"{type(model).__name__}: its config names no decoder_start_token_id, so its text has no beginning\n"
            "set decoder_start_token_id in config.json (T5: the pad token)"
        )
    return int(found)


def _has_start(config: Any) -> bool:
    return getattr(config, "decoder_start_token_id", None) is not None
