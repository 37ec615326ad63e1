"""Keys and values of the tokens so far, in buffers with room to grow, so that a new token is written and not the whole copied.

transformers' DynamicLayer joins old and new at every token, which took 39 % of the time of a tiny model's decode loop
(width 96, 64 rows, 128 tokens, one thread). Layers of another kind, such as sliding windows, stay as transformers made them;
only caches whose layers are all buffered can take rows in or begin with a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def token_bytes(made: DynamicCache) -> int:
    """Bytes of the keys and values of one token in one layer, of buffered layers that hold some."""
    layer = made.layers[0]
    return sum(
        states.shape[1] * states.shape[3] * states.element_size()
        for states in (layer.keys, layer.values)
    )


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


def take_in(
    made: DynamicCache, newcomers: Sequence[DynamicCache], *, skip: int, width: int
) -> None:
    """Add the rows of other caches below, all aligned at their last token; what a row does not fill is zero.

    Args:
        made: changed in place; of buffered layers.
        newcomers: of buffered layers; not to be used afterwards.
        skip: columns at the left of `made` that no row needs.
        width: columns of the result, at least those that are left of any.
    """
    for layer, *others in zip(made.layers, *(other.layers for other in newcomers), strict=True):
        layer.take_in(others, skip=skip, width=width)
        # What was copied goes layer by layer, so that no more than one is held twice.
        for other in others:
            del other.keys, other.values, other._key_buffer, other._value_buffer


@cache
def _buffered_layer_class() -> Any:
    """The layer's class, made on first use, because its base takes seconds to import."""
    from transformers.cache_utils import DynamicLayer

    class BufferedLayer(DynamicLayer):  # type: ignore[misc] # transformers is untyped here
        """As its base; `keys` and `values` are views [B, heads, T so far, D] into the buffers.

        Rows that leave are let go when the next token is written, or when rows are taken in, which copies the others anyway.
        """

        _key_buffer: Tensor
        _value_buffer: Tensor
        _kept: Tensor | None = None

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
                self._key_buffer = _buffer_like(key_states, num_tokens=key_states.shape[-2])
                self._value_buffer = _buffer_like(value_states, num_tokens=key_states.shape[-2])
            if self._kept is not None:
                self.take_in((), skip=0, width=self.keys.shape[-2])
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
            self._kept = indices if self._kept is None else self._kept[indices]

        def take_in(self, others: Sequence[BufferedLayer], *, skip: int, width: int) -> None:
            """As the function of this name."""
            self.keys, self.values = self.keys[:, :, skip:], self.values[:, :, skip:]
            kept, keys, values = zip(*map(_held, (self, *others)), strict=True)
            self._key_buffer = _aligned(keys, kept, width=width)
            self._value_buffer = _aligned(values, kept, width=width)
            self._kept = None
            self._view(width)

        def _view(self, stop: int) -> None:
            self.keys = self._key_buffer[:, :, :stop]
            self.values = self._value_buffer[:, :, :stop]

    return BufferedLayer


def _held(layer: Any) -> tuple[Tensor | None, Tensor, Tensor]:
    """Which rows of a layer are kept (None: all), its keys and its values."""
    return layer._kept, layer.keys, layer.values


def _buffer_like(states: Tensor, *, num_tokens: int, num_rows: int | None = None) -> Tensor:
    """Room for so many tokens of so many rows (None: as many as there are), and some to spare; its content is arbitrary."""
    num_rows = len(states) if num_rows is None else num_rows
    return states.new_empty(
        (num_rows, states.shape[1], num_tokens + _SPARE_TOKENS, states.shape[3])
    )


def _grown(states: Tensor, *, num_tokens: int) -> Tensor:
    """The same content in a buffer with room for so many tokens and some to spare."""
    made = _buffer_like(states, num_tokens=num_tokens)
    made[:, :, : states.shape[2]] = states
    return made


def _aligned(parts: Sequence[Tensor], kept: Sequence[Tensor | None], *, width: int) -> Tensor:
    """A buffer with the kept rows of all parts, their last tokens in one column; what a row does not fill is zero."""
    import torch

    nums = [len(states if rows is None else rows) for states, rows in zip(parts, kept, strict=True)]
    made = _buffer_like(parts[0], num_rows=sum(nums), num_tokens=width)
    for states, rows, into in zip(parts, kept, torch.split(made, nums), strict=True):
        start = width - states.shape[-2]
        # Masked places are multiplied by 0, which leftovers of memory (NaN) would survive.
        into[:, :, :start] = 0
        if rows is None:
            into[:, :, start:width] = states
        else:
            torch.index_select(states, 0, rows, out=into[:, :, start:width])
    return made
