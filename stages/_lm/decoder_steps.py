"""One step of a decoder: the newest token of every row in, logits of the next one out; one way for each family of models.

Letters after the underscore: B rows, T tokens, V vocabulary, D width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class DecoderSteps(Protocol):
    """A batch of prompts on which a model goes on, token by token."""

    def next_logits(self, newest_B: Tensor | None) -> Tensor:
        """Logits [B, V] in float32 of every row's next token; `newest_B` is its last one, None at the first step."""

    def keep(self, kept_B: Tensor) -> None:
        """Let all rows but these go."""


def decoder_steps(
    model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int, max_new: int
) -> DecoderSteps:
    """The steps of a model on these prompts.

    Args:
        model: a language model in eval mode, causal or with an encoder.
        prompts: token ids, at least one a prompt; for an encoder with its end token.
        pad_id: fills the columns of shorter prompts; masked, so its value does not matter.
        max_new: most steps that will be taken.
    """
    made = EncoderDecoderSteps if model.config.is_encoder_decoder else CausalSteps
    return made(model, prompts, pad_id=pad_id, max_new=max_new)


class CausalSteps:
    """The prompt is the beginning of the text.

    Prompts are padded on the left, so that the last column is each row's newest token; padded places are masked and take no
    position number.
    """

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int, max_new: int
    ) -> None:
        import torch

        from kpod.stages._lm.key_cache import buffered_cache

        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        padded = [[pad_id] * (width - len(prompt)) + [*prompt] for prompt in prompts]
        mask = [[0] * (width - length) + [1] * (length + max_new) for length in lengths]
        self._model = model
        self._width = width
        self._num_new = 0
        self._cache = buffered_cache(model.config, capacity=width + max_new)
        self._prompt_BT = torch.tensor(padded, device=model.device)
        self._mask_BT = torch.tensor(mask, device=model.device)
        self._length_B = torch.tensor(lengths, device=model.device)

    def next_logits(self, newest_B: Tensor | None) -> Tensor:
        """As the protocol says."""
        if newest_B is not None:
            self._num_new += 1
        out = self._model(
            input_ids=self._prompt_BT if newest_B is None else newest_B[:, None],
            attention_mask=self._mask_BT[:, : self._width + self._num_new],
            position_ids=self._positions(),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: Tensor = out.logits[:, -1].float()
        return logits_BV

    def _positions(self) -> Tensor:
        """Position numbers of the tokens that go in next, [B, T]; padding takes none."""
        if self._num_new:
            return (self._length_B + (self._num_new - 1))[:, None]
        positions_BT = self._mask_BT[:, : self._width].cumsum(-1) - 1
        return positions_BT.clamp(min=0)

    def keep(self, kept_B: Tensor) -> None:
        """As the protocol says."""
        self._cache.batch_select_indices(kept_B)
        self._mask_BT = self._mask_BT[kept_B]
        self._length_B = self._length_B[kept_B]


class EncoderDecoderSteps:
    """The encoder reads the prompt once, at the first step; the text begins behind the model's decoder start token.

    Prompts are padded on the right, so that models that number positions (BART) number them as they were trained. Keys and
    values of the prompt are computed once too, and held in the cache's other half.
    """

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int, max_new: int
    ) -> None:
        import torch

        from kpod.stages._lm.key_cache import encoder_decoder_cache

        width = max(len(prompt) for prompt in prompts)
        padded = [[*prompt] + [pad_id] * (width - len(prompt)) for prompt in prompts]
        mask = [[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts]
        self._model = model
        self._cache = encoder_decoder_cache(model, capacity=max_new)
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
