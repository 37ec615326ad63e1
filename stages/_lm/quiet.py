"""Loading without progress bars and without messages that are known to be harmless; every other message is shown."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Said by libraries although all is well; matched by these exact beginnings.
_HARMLESS = (
    "`loss_type=None` was set in the config but it is unrecognized",
    # Flan-T5 has an output layer of its own. transformers 5.23 gives every T5 a config that ties it to the embedding, sees
    # that the files hold both, keeps them apart, and says so.
    "The tied weights mapping and config for this model specifies to tie shared.weight to lm_head.weight,"
    " but both are present",
    # bitsandbytes looks for a kernel that it would fetch from the hub, on CPUs with avx512_bf16, and does without it.
    "Failed to load CPU gemm_4bit_forward from kernels-community: No module named 'kernels'",
    # accelerate imports DeepSpeed, where it is installed, whenever a model is saved.
    "Setting accelerator to CPU. If you have GPU or other accelerator, we were unable to detect it.",
)
_LOGGERS = (
    "transformers.modeling_utils",
    "transformers.configuration_utils",
    "bitsandbytes.backends.cpu.ops",
    "DeepSpeed",
)


class _Harmless(logging.Filter):
    """Drops the messages known to be harmless, and no other."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_HARMLESS)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars while files are loaded, and no message that is known to be harmless."""
    from transformers.utils import logging as transformers_logging

    was_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    harmless = _Harmless()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(harmless)
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that goes in its version 6.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(harmless)
        if was_shown:
            transformers_logging.enable_progress_bar()
