"""A model with random weights, made from settings: the base that a recipe trains when it downloads nothing.

The defaults are the quickstart's base (issue 1, 7): a Qwen3 of width 96 with 2 layers and tied embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Gt,
    LocalFile,
    LocalPath,
    Model,
    Output,
    SettingError,
    Source,
    Stage,
    StageError,
)
from kpod.stages._lm.artifact import spec_line, write_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages._lm.saving import save_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Architecture = Literal["qwen3", "llama", "t5"]

# transformers' names of causal models: (config, model). One is added here and in Architecture; T5 is made in _t5.
_CLASSES: Mapping[Architecture, tuple[str, str]] = {
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Shape of the model and where its tokenizer comes from: `words` or `tokenizer`, one of the two."""

    architecture: Annotated[
        Architecture, Doc("Family of the model; t5: an encoder and a decoder, shaped as Flan-T5.")
    ] = "qwen3"
    width: Annotated[int, Doc("Hidden size, a multiple of twice the heads."), Ge(2)] = 96
    layers: Annotated[
        int,
        Doc("Number of transformer layers; t5: of the encoder, and as many of the decoder."),
        Ge(1),
    ] = 2
    heads: Annotated[int, Doc("Attention heads a layer."), Ge(1)] = 4
    kv_heads: Annotated[
        int | None,
        Doc(
            "Key and value heads, a divisor of the heads; null: as many as heads. T5 has no fewer."
        ),
        Ge(1),
    ] = None
    ff_width: Annotated[int, Doc("Width of the feed-forward layers."), Ge(1)] = 256
    tie_embeddings: Annotated[
        bool, Doc("Use the embedding as output layer too; Flan-T5 does not.")
    ] = True
    max_positions: Annotated[
        int,
        Doc("Longest text, in tokens; t5: the longest it is trained on unless told otherwise."),
        Ge(8),
    ] = 512
    init_range: Annotated[
        float,
        Doc(
            "Standard deviation of the random weights; 0.02 is transformers' own. T5 has one for each kind of "
            "matrix; they are scaled by init_range / 0.02."
        ),
        Gt(0),
    ] = 0.02
    precision: Annotated[Literal["fp32", "bf16"], Doc("What the weights are stored in.")] = "fp32"
    seed: Annotated[int, Doc("Seed of the random weights."), Ge(0)] = 0
    words: Annotated[
        str | None,
        Doc("A word list, one word or sign a line: the tokenizer is made from it."),
        LocalPath(),
    ] = None
    tokenizer: Annotated[
        str | None,
        Doc(
            "A folder with tokenizer.json and tokenizer_config.json, or the SentencePiece file of a T5 (spiece.model)."
        ),
        LocalPath(),
    ] = None

    def __post_init__(self) -> None:
        if (self.words is None) == (self.tokenizer is None):
            raise SettingError(
                "words",
                "got both words and tokenizer" if self.words else "got neither words nor tokenizer",
                hint="give exactly one of the two",
            )
        if self.width % (2 * self.heads):
            raise SettingError(
                "width", f"got {self.width}, which is no multiple of twice the {self.heads} heads"
            )
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise SettingError(
                "kv_heads", f"got {self.kv_heads}, which does not divide the {self.heads} heads"
            )
        if self.architecture == "t5" and self.kv_heads not in {None, self.heads}:
            raise SettingError(
                "kv_heads",
                f"got {self.kv_heads}, but every one of T5's {self.heads} heads has its own keys and values",
                hint="leave it out",
            )


class FromConfig(Stage[Config]):
    """Random weights and a tokenizer, in a folder that transformers loads."""

    uses = "model.from_config"
    version = 1
    seeded = "data"
    libraries = ("torch", "transformers", "tokenizers")
    determinism = "seeded"
    model = Output(Model)

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The word list, or the folder of the tokenizer."""
        if config.words is not None:
            return {"words": LocalFile(config.words)}
        assert config.tokenizer is not None, "Config allows exactly one of words and tokenizer"
        return {"tokenizer": LocalFile(config.tokenizer)}

    def run(self, ctx: Context[Config]) -> None:
        """Make the weights from the seed and save them beside the tokenizer."""
        config = ctx.config
        if config.words is not None:
            tokenizer = _tokenizer_of_words(ctx.source("words"), config)
        else:
            tokenizer = _tokenizer_at(ctx.source("tokenizer"))
        model = _random_model(config, tokenizer, seed=ctx.seed)
        with ctx.folder(self.model) as folder:
            save_model(model, folder)
            tokenizer.save_pretrained(str(folder))
            spec = checkpoint_spec(folder, is_pointer=False)
            write_spec(folder, spec)
        ctx.note("num_parameters", spec.num_parameters)
        ctx.note("summary", spec_line(spec))
        ctx.note("vocab_size", spec.vocab_size)


def _tokenizer_of_words(path: Path, config: Config) -> PreTrainedTokenizerBase:
    from kpod.stages._lm.word_tokenizer import word_tokenizer

    words = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not words:
        raise StageError(f"{path}: no word in it; write one word or sign a line")
    return word_tokenizer(words, max_tokens=config.max_positions)


def _tokenizer_at(place: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, or of a SentencePiece file."""
    if place.is_dir():
        from kpod.stages._lm.loading import tokenizer_of_folder

        return tokenizer_of_folder(place)
    from kpod.stages._lm.sentencepiece_file import t5_tokenizer

    return t5_tokenizer(place)


def _random_model(config: Config, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> Any:
    """A model with weights drawn from the seed.

    transformers draws from torch's global generator; it is put back afterwards, so nobody else sees it move.
    """
    import torch

    make = _random_t5 if config.architecture == "t5" else _random_causal
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(config, tokenizer)
    if config.precision == "bf16":
        model = model.to(torch.bfloat16)
    return model


def _random_t5(config: Config, tokenizer: PreTrainedTokenizerBase) -> Any:
    from kpod.stages.model._t5 import random_t5

    return random_t5(config, tokenizer)


def _random_causal(config: Config, tokenizer: PreTrainedTokenizerBase) -> Any:
    import transformers

    config_name, model_name = _CLASSES[config.architecture]
    shape = getattr(transformers, config_name)(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads or config.heads,
        head_dim=config.width // config.heads,
        intermediate_size=config.ff_width,
        tie_word_embeddings=config.tie_embeddings,
        max_position_embeddings=config.max_positions,
        initializer_range=config.init_range,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return getattr(transformers, model_name)(shape)
