"""Keys and values of the tokens so far, in buffers with room to grow, so that a new token is written and not the whole copied.

transformers' DynamicLayer joins old and new at every token, which took 39 % of the time of a tiny model's decode loop
(width 96, 64 rows, 128 tokens, one thread). Layers of another kind, such as sliding windows, stay as transformers made them;
only caches whose layers are all buffered can take rows in or begin with a prefix.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, EncoderDecoderCache

# Tokens that a buffer has to spare when it is made: it is copied once for so many tokens, and wastes no more.
_SPARE_TOKENS = 64


def buffered_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this config."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    made = DynamicCache(config=config)
    layer_class = _buffered_layer_class()
    made.layers = [layer_class() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made


def encoder_decoder_cache(model: Any) -> EncoderDecoderCache:
    """An empty cache for the decoder of a model: one half for its own tokens, one for the prompt, which is written once."""
    from transformers import DynamicCache, EncoderDecoderCache

    config = model.get_decoder().config
    return EncoderDecoderCache(buffered_cache(config), DynamicCache(config=config))


def is_buffered(made: DynamicCache) -> bool:
    """Whether all layers hold whole rows of keys and values, which can be cut, padded and joined."""
    layer_class = _buffered_layer_class()
    return bool(made.layers) and all(type(layer) is layer_class for layer in made.layers)


def repeated(made: DynamicCache, config: Any, *, num_rows: int) -> DynamicCache:
    """A cache in which every row begins with the one row of another.

    Args:
        made: one row, of buffered layers.
        config: the model's.
        num_rows: >= 1.
    """
    copies = buffered_cache(config)
    for layer, copy in zip(made.layers, copies.layers, strict=True):
        copy.update(
            layer.keys.expand(num_rows, -1, -1, -1), layer.values.expand(num_rows, -1, -1, -1)
        )
    return copies


def take_in(made: DynamicCache, newcomers: DynamicCache, *, skip: int, width: int) -> None:
    """Add the rows of another cache below, both aligned at their last token; what a row does not fill is zero.

    Args:
        made: changed in place; of buffered layers.
        newcomers: of buffered layers; not to be used afterwards.
        skip: columns at the left of `made` that no row needs.
        width: columns of the result, at least those that are left of either.
    """
    for layer, new in zip(made.layers, newcomers.layers, strict=True):
        layer.take_in(new, skip=skip, width=width)


@cache
def _buffered_layer_class() -> Any:
    """The layer's class, made on first use, because its base takes seconds to import."""
    import torch
    from transformers.cache_utils import DynamicLayer

    class BufferedLayer(DynamicLayer):  # type: ignore[misc] # transformers is untyped here
        """As its base; `keys` and `values` are views [B, heads, T so far, D] into the buffers."""

        _key_buffer: Tensor
        _value_buffer: Tensor

        def update(
            self,
            key_states: Tensor,
            value_states: Tensor,
            *args: Any,  # noqa: ARG002 - the base's signature
            **kwargs: Any,  # noqa: ARG002
        ) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
                self._make_buffers(key_states.shape[-2], num_rows=len(key_states))
            start = self.keys.shape[-2]
            stop = start + key_states.shape[-2]
            if stop > self._key_buffer.shape[-2]:
                self._key_buffer = _grown(self.keys, num_tokens=stop)
                self._value_buffer = _grown(self.values, num_tokens=stop)
            self._key_buffer[:, :, start:stop] = key_states
            self._value_buffer[:, :, start:stop] = value_states
            self._view(stop)
            return self.keys, self.values

        def batch_select_indices(self, indices: Tensor) -> None:
            stop = self.keys.shape[-2]
            old_keys, old_values = self.keys, self.values
            self._make_buffers(stop, num_rows=len(indices))
            torch.index_select(old_keys, 0, indices, out=self._key_buffer[:, :, :stop])
            torch.index_select(old_values, 0, indices, out=self._value_buffer[:, :, :stop])
            self._view(stop)

        def take_in(self, other: BufferedLayer, *, skip: int, width: int) -> None:
            """As the function of this name."""
            self._key_buffer = _aligned(self.keys[:, :, skip:], other.keys, width=width)
            self._value_buffer = _aligned(self.values[:, :, skip:], other.values, width=width)
            self._view(width)

        def _make_buffers(self, num_tokens: int, *, num_rows: int) -> None:
            self._key_buffer = _buffer_like(self.keys, num_rows=num_rows, num_tokens=num_tokens)
            self._value_buffer = _buffer_like(self.values, num_rows=num_rows, num_tokens=num_tokens)

        def _view(self, stop: int) -> None:
            self.keys = self._key_buffer[:, :, :stop]
            self.values = self._value_buffer[:, :, :stop]

    return BufferedLayer


def _buffer_like(states: Tensor, *, num_rows: int, num_tokens: int) -> Tensor:
    """Room for so many tokens of so many rows, and some to spare; its content is arbitrary."""
    return states.new_empty(
        (num_rows, states.shape[1], num_tokens + _SPARE_TOKENS, states.shape[3])
    )


def _grown(states: Tensor, *, num_tokens: int) -> Tensor:
    """The same content in a buffer with room for so many tokens and some to spare."""
    made = _buffer_like(states, num_rows=len(states), num_tokens=num_tokens)
    made[:, :, : states.shape[2]] = states
    return made


def _aligned(upper: Tensor, lower: Tensor, *, width: int) -> Tensor:
    """A buffer with the rows of both, their last tokens in one column; what a row does not fill is zero."""
    made = _buffer_like(upper, num_rows=len(upper) + len(lower), num_tokens=width)
    first = 0
    for states in (upper, lower):
        rows, start = slice(first, first + len(states)), width - states.shape[-2]
        # Masked places are multiplied by 0, which leftovers of memory (NaN) would survive.
        made[rows, :, :start] = 0
        made[rows, :, start:width] = states
        first = rows.stop
    return made
