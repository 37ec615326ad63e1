"""A language model taken apart before its output layer, so that logits are made only where a loss reads them.

Source: DESIGN 7 (hidden states are gathered at target positions before the head). N targets, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import StageError
from kpod.stages._lm.passages import Batch, EncoderIds, Passage, pad

if TYPE_CHECKING:
    import torch


class Parts(NamedTuple):
    """A language model of either family.

    Args:
        model: the whole, as peft or transformers made it.
        inner: transformers' model, inside of peft's where there is one.
        output_layer: the linear layer that makes logits.
        scale: what hidden states are multiplied with before it (T5 with tied embeddings).
        encoder: the ids an encoder-decoder needs; None for a decoder-only model.
        precision: fp32, or bf16 (autocast).
    """

    model: Any
    inner: Any
    output_layer: Any
    scale: float
    encoder: EncoderIds | None
    precision: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    def head(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Logits (N, V) of hidden states."""
        scaled_ND = hidden_ND if self.scale == 1.0 else hidden_ND * self.scale
        return self.output_layer(scaled_ND)  # type: ignore[no-any-return]

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Hidden states (N, D) that predict the targets of a batch."""
        if batch.encoder_inputs is None:
            states_BTD = self.inner.get_decoder()(input_ids=batch.inputs, use_cache=False)[0]
        else:
            encoded_BSD = self.inner.get_encoder()(
                input_ids=batch.encoder_inputs, attention_mask=batch.encoder_mask
            )[0]
            states_BTD = self.inner.get_decoder()(
                input_ids=batch.inputs, encoder_hidden_states=encoded_BSD,
                encoder_attention_mask=batch.encoder_mask, use_cache=False,
            )[0]  # fmt: skip
        return states_BTD.flatten(0, 1).index_select(0, batch.positions)  # type: ignore[no-any-return]


def take_apart(
    model: Any,
    *,
    precision: str,
    probe_ids: tuple[int, ...],
    prepare: Callable[[Any], None] | None = None,
) -> Parts:
    """The model's parts, checked to give the model's own logits.

    Args:
        model: of transformers, or peft around one.
        precision: fp32 or bf16.
        probe_ids: some tokens to compare logits on.
        prepare: changes the model in place, to the same logits but for rounding (faster norms and adapters).

    Raises:
        StageError: the architecture does something to its logits that would be left out.
    """
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    parts = Parts(
        model, inner, inner.get_output_embeddings(), _scale(inner.config), _encoder_ids(inner.config), precision
    )  # fmt: skip
    probe = pad(
        [Passage(probe_ids, probe_ids, (1.0,) * len(probe_ids))],
        device=parts.device,
        encoder=parts.encoder,
    )
    was_training = model.training
    model.eval()
    with torch.no_grad():
        expected = _own_logits(inner, probe)
        actual = parts.head(parts.hidden(probe)).float()
        if prepare is not None:
            prepare(model)
            prepared = parts.head(parts.hidden(probe)).float()
    model.train(was_training)
    # Rounding is far smaller than this, a scaling or a soft cap far larger; NaN is for those who read the logits to name.
    if not _are_close(actual, expected):
        raise StageError(
            f"{type(inner).__name__} changes its logits after the output layer, which kpod's losses leave out\n"
            "allowed: architectures with a plain output layer, such as Qwen2, Qwen3, Llama, Mistral, T5"
        )
    if prepare is not None and not _is_rounding(prepared, actual, is_bf16=precision == "bf16"):
        raise StageError(
            f"{type(inner).__name__} gives other logits with kpod's faster norms and adapters, which is a mistake of kpod's\n"
            "please report it, with the model's config.json"
        )
    return parts


def _are_close(logits_NV: torch.Tensor, expected_NV: torch.Tensor) -> bool:
    import torch

    return torch.allclose(logits_NV, expected_NV, rtol=1e-2, atol=1e-3, equal_nan=True)


def _is_rounding(logits_NV: torch.Tensor, expected_NV: torch.Tensor, *, is_bf16: bool) -> bool:
    """Whether they are the same but for the order of sums; in bf16, but for a twentieth of their norm (our choice: 2^-8 a layer)."""
    if _are_close(logits_NV, expected_NV):
        return True
    return is_bf16 and bool((logits_NV - expected_NV).norm() <= 0.05 * expected_NV.norm())


def _own_logits(inner: Any, probe: Batch) -> torch.Tensor:
    """The logits (N, V) that the model itself gives for the probe's targets."""
    if probe.encoder_inputs is None:
        logits_BTV = inner(input_ids=probe.inputs, use_cache=False).logits
    else:
        logits_BTV = inner(
            input_ids=probe.encoder_inputs, attention_mask=probe.encoder_mask,
            decoder_input_ids=probe.inputs, use_cache=False,
        ).logits  # fmt: skip
    return logits_BTV.flatten(0, 1).index_select(0, probe.positions).float()  # type: ignore[no-any-return]


def _scale(config: Any) -> float:
    """T5 with tied embeddings scales its hidden states before the output layer; Flan-T5 does not."""
    return float(config.d_model**-0.5) if getattr(config, "scale_decoder_outputs", False) else 1.0


def _encoder_ids(config: Any) -> EncoderIds | None:
    if not getattr(config, "is_encoder_decoder", False):
        return None
    end = config.eos_token_id
    return EncoderIds(
        int(config.decoder_start_token_id), int(end[0] if isinstance(end, list) else end)
    )
