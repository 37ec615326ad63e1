"""A T5 with random weights, in the shape of Flan-T5: gated GELU, relative positions, the pad token begins the text.

Source: Raffel et al. 2020 (arXiv 1910.10683) and the published config of google/flan-t5 (T5 1.1): feed_forward_proj gated-gelu,
decoder_start_token_id = pad_token_id, n_positions 512, tie_word_embeddings false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpod.runner import StageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages.model.from_config import Config

# transformers' usual deviation of random weights, at which T5's own deviations are taken as they are.
_USUAL_INIT_RANGE = 0.02


def random_t5(config: Config, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The model, drawn from torch's global generator.

    T5 draws every matrix with a deviation of its own, from its width; `init_range / 0.02` scales them all. Norms begin at 1.

    Raises:
        StageError: the tokenizer has no pad token, behind which T5 begins its texts.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    if tokenizer.pad_token_id is None:
        raise StageError(
            "the tokenizer has no pad token, behind which T5 begins its texts\n"
            "use a tokenizer with <pad>, such as one made from words, or spiece.model of Flan-T5"
        )
    shape: Any = T5Config(
        vocab_size=len(tokenizer),
        d_model=config.width,
        d_kv=config.width // config.heads,
        d_ff=config.ff_width,
        num_layers=config.layers,
        num_heads=config.heads,
        n_positions=config.max_positions,
        feed_forward_proj="gated-gelu",
        initializer_factor=config.init_range / _USUAL_INIT_RANGE,
        tie_word_embeddings=config.tie_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    made: Any = T5ForConditionalGeneration
    model = made(shape)
    _norms_to_one(model)
    if not config.tie_embeddings:
        _untie(model)
    return model


def _norms_to_one(model: Any) -> None:
    """Undo the factor on the norms, which transformers multiplies too."""
    for name, parameter in model.named_parameters():
        if name.endswith("layer_norm.weight"):
            parameter.data.fill_(1.0)


def _untie(model: Any) -> None:
    """Give the model an output layer of its own, which transformers 5.23 makes only for files that hold one.

    Its deviation is 1 / sqrt(width), the factor by which a tied T5 scales what goes into its output layer.
    """
    import torch

    deviation = model.config.initializer_factor * model.config.d_model**-0.5
    weight = torch.empty_like(model.shared.weight).normal_(0.0, deviation)
    model.lm_head.weight = torch.nn.Parameter(weight)
    model.config.tie_word_embeddings = False
    model.all_tied_weights_keys.pop("lm_head.weight", None)
