"""The sizes of a language model that decide how much memory it takes, read without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpod.stages._lm.artifact import ModelSpec, read_json_object
from kpod.stages._lm.family import SEQ2SEQ_ARCHITECTURES

# Names of one size in the config.json of different architectures (Llama and Qwen, T5, Bart, GPT-2).
_WIDTH = ("hidden_size", "d_model", "n_embd")
_LAYERS = ("num_hidden_layers", "num_decoder_layers", "decoder_layers", "num_layers", "n_layer")
_ENCODER_LAYERS = ("encoder_layers", "num_layers")
_HEADS = ("num_attention_heads", "num_heads", "decoder_attention_heads", "n_head")
_FF = ("intermediate_size", "d_ff", "decoder_ffn_dim", "n_inner")
# Tensors that a feed-forward layer keeps, in its own width: gate, activation, other branch, product; T5's GELU is written
# out in tensor operations, which keep five; a ReLU keeps its result alone.
_FF_TENSORS = {"gated": 4, "gelu_new": 7, "gated-gelu": 8, "gated-silu": 4, "relu": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A language model's sizes.

    Args:
        num_parameters: all of them.
        width: of the hidden states.
        layers: of the decoder.
        encoder_layers: 0 for a decoder-only model.
        ff_width: inner width of a feed-forward layer.
        ff_tensors: tensors of that width that its gradient needs.
        heads: of attention.
        query_width: of all heads' queries together.
        key_width: of all heads' keys together.
        vocab_size: rows of the embedding.
        is_tied: whether embedding and output layer are one matrix.
    """

    num_parameters: int
    width: int
    layers: int
    encoder_layers: int
    ff_width: int
    ff_tensors: int
    heads: int
    query_width: int
    key_width: int
    vocab_size: int
    is_tied: bool

    @property
    def embedding_parameters(self) -> int:
        """Of embedding and output layer."""
        return self.vocab_size * self.width * (1 if self.is_tied else 2)

    @property
    def linear_parameters(self) -> int:
        """Of the layers between them."""
        return max(0, self.num_parameters - self.embedding_parameters)

    def linear_sizes(self) -> dict[str, int]:
        """Inputs and outputs, added up, of each linear layer of a layer, by the last part of its usual name."""
        width, queries, keys, ff = self.width, self.query_width, self.key_width, self.ff_width
        if self.encoder_layers:
            # The decoder has a second attention: one and a half of them a layer on average.
            attention = (width + queries) * 3 // 2
            return dict.fromkeys(("q", "k", "v", "o"), attention) | dict.fromkeys(
                ("wi_0", "wi_1", "wo"), width + ff
            )
        return {
            "q_proj": width + queries, "k_proj": width + keys, "v_proj": width + keys, "o_proj": width + queries,
            "gate_proj": width + ff, "up_proj": width + ff, "down_proj": width + ff,
        }  # fmt: skip


def read_shape(folder: Path, spec: ModelSpec) -> Shape:
    """The sizes of a model: from config.json where it lies in the folder, else guessed from `model.json`.

    A pointer's folder holds no config.json, and nobody knows where it lies before the stage runs; see `guessed_shape`.

    Args:
        folder: with config.json, or not.
        spec: of the model.
    """
    path = folder / "config.json"
    return shape_of_config(read_json_object(path), spec) if path.is_file() else guessed_shape(spec)


def shape_of_config(config: Mapping[str, Any], spec: ModelSpec) -> Shape:
    """The sizes that a config.json names; one that it does not name is taken from the usual."""
    width = _number(config, _WIDTH, spec.width)
    heads = _number(config, _HEADS, max(1, width // 64))
    head_width = _number(config, ("head_dim", "d_kv"), width // heads)
    guessed = guessed_shape(spec)
    return Shape(
        num_parameters=spec.num_parameters,
        width=width,
        layers=_number(config, _LAYERS, guessed.layers),
        encoder_layers=_number(config, _ENCODER_LAYERS, guessed.encoder_layers)
        if guessed.encoder_layers
        else 0,
        ff_width=_number(config, _FF, 4 * width),
        ff_tensors=_ff_tensors(config),
        heads=heads,
        query_width=heads * head_width,
        key_width=_number(config, ("num_key_value_heads",), heads) * head_width,
        vocab_size=_number(config, ("vocab_size",), spec.vocab_size),
        is_tied=bool(config.get("tie_word_embeddings", True)),
    )


def guessed_shape(spec: ModelSpec) -> Shape:
    """A usual shape of this width and number of parameters.

    A decoder layer with F = 4 D and as many keys as queries has 4 D^2 + 3 D F = 16 D^2 weights. A wrong guess of F is
    harmless: what a layer keeps grows with its weights, so that fewer, larger layers keep about as much as more, smaller ones.
    """
    inside = max(1, spec.num_parameters - spec.vocab_size * spec.width)
    layers = max(1, round(inside / (16 * spec.width**2)))
    is_seq2seq = spec.architecture in SEQ2SEQ_ARCHITECTURES
    # Both sides share them; a side that a token passes has half.
    layers = max(1, layers // 2) if is_seq2seq else layers
    return Shape(
        num_parameters=spec.num_parameters, width=spec.width, layers=layers,
        encoder_layers=layers if is_seq2seq else 0, ff_width=4 * spec.width, ff_tensors=8 if is_seq2seq else 4,
        heads=max(1, spec.width // 64), query_width=spec.width, key_width=spec.width, vocab_size=spec.vocab_size,
        is_tied=True,
    )  # fmt: skip


def _ff_tensors(config: Mapping[str, Any]) -> int:
    kind = config.get("feed_forward_proj") or config.get("activation_function")
    return _FF_TENSORS.get(str(kind), 4)


def _number(config: Mapping[str, Any], names: tuple[str, ...], otherwise: int) -> int:
    """The first of these that is a whole number."""
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), otherwise)
