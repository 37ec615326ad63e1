"""Keys and values of the tokens so far, in buffers made once, so that a new token is written and not the whole copied.

transformers' DynamicLayer joins old and new at every token, which took 39 % of the time of a tiny model's decode loop
(width 96, 64 rows, 128 tokens, one thread). Layers of another kind, such as sliding windows, stay as transformers made them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, EncoderDecoderCache


def buffered_cache(config: Any, *, capacity: int) -> DynamicCache:
    """An empty cache for a model of this config.

    Args:
        config: the model's.
        capacity: most tokens a row will hold.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    made = DynamicCache(config=config)
    layer_class = _buffered_layer_class()
    made.layers = [
        layer_class(capacity) if type(layer) is DynamicLayer else layer for layer in made.layers
    ]
    return made


def encoder_decoder_cache(model: Any, *, capacity: int) -> EncoderDecoderCache:
    """An empty cache for the decoder of a model: one half for its own tokens, one for the prompt, which is written once.

    Args:
        model: with an encoder and a decoder.
        capacity: most tokens of its own that a row will hold.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    config = model.get_decoder().config
    return EncoderDecoderCache(
        buffered_cache(config, capacity=capacity), DynamicCache(config=config)
    )


@cache
def _buffered_layer_class() -> Any:
    """The layer's class, made on first use, because its base takes seconds to import."""
    import torch
    from transformers.cache_utils import DynamicLayer

    class BufferedLayer(DynamicLayer):  # type: ignore[misc] # transformers is untyped here
        """As its base; `keys` and `values` are views [B, heads, T so far, D] into the buffers."""

        def __init__(self, capacity: int) -> None:
            super().__init__()
            self._capacity = capacity
            self._num_tokens = 0

        def update(
            self,
            key_states: Tensor,
            value_states: Tensor,
            *args: Any,  # noqa: ARG002 - the base's signature
            **kwargs: Any,  # noqa: ARG002
        ) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self._key_buffer = self._buffer_like(key_states)
                self._value_buffer = self._buffer_like(value_states)
            start, stop = self._num_tokens, self._num_tokens + key_states.shape[-2]
            self._key_buffer[:, :, start:stop] = key_states
            self._value_buffer[:, :, start:stop] = value_states
            self._view(stop)
            return self.keys, self.values

        def batch_select_indices(self, indices: Tensor) -> None:
            old_keys, old_values, stop = self.keys, self.values, self._num_tokens
            self._key_buffer = self._buffer_like(old_keys, num_rows=len(indices))
            self._value_buffer = self._buffer_like(old_values, num_rows=len(indices))
            torch.index_select(old_keys, 0, indices, out=self._key_buffer[:, :, :stop])
            torch.index_select(old_values, 0, indices, out=self._value_buffer[:, :, :stop])
            self._view(stop)

        def _buffer_like(self, states: Tensor, *, num_rows: int | None = None) -> Tensor:
            rows, heads, _, width = states.shape
            return states.new_empty((num_rows or rows, heads, self._capacity, width))

        def _view(self, stop: int) -> None:
            self._num_tokens = stop
            self.keys = self._key_buffer[:, :, :stop]
            self.values = self._value_buffer[:, :, :stop]

    return BufferedLayer
