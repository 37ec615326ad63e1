"""How long a model's texts and training sequences may be, read from its files without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpod.stages._lm.artifact import read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.artifact import ModelFiles


class Limits(NamedTuple):
    """What bounds the texts of a model, known without loading it.

    Args:
        end_ids: a text ends with any of these tokens.
        context_tokens: the longest prompt and text together; None where the model does not say.
    """

    end_ids: frozenset[int]
    context_tokens: int | None


def read_limits(files: ModelFiles, tokenizer: PreTrainedTokenizerBase) -> Limits:
    """The end tokens that the tokenizer and generation_config.json name, and the longest context, from config.json."""
    config = read_json_object(files.weights / "config.json")
    path = files.weights / "generation_config.json"
    named = (read_json_object(path) if path.is_file() else config).get("eos_token_id")
    ends = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    context = config.get("max_position_embeddings")
    return Limits(
        frozenset(int(token) for token in ends if token is not None),
        context if isinstance(context, int) else None,
    )


def longest_trained(files: ModelFiles) -> int | None:
    """The longest sequence to train on where a recipe names none, in tokens; for seq2seq, of input and of output each.

    It is the model's context. T5's positions are relative and have no end, so that it writes and reads without a limit; its
    config names the length it was trained on, n_positions (Flan-T5: 512), and training stays there unless told otherwise.
    """
    config = read_json_object(files.weights / "config.json")
    named = (config.get(name) for name in ("max_position_embeddings", "n_positions"))
    return next((length for length in named if isinstance(length, int)), None)
