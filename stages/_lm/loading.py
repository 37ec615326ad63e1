"""Load a model and its tokenizer, every setting that bears on results said out loud, and nothing fetched.

transformers takes the precision from the checkpoint, and sampling settings from `generation_config.json`, unless told
otherwise; both are set here. Source: PRACTICE 1 (rows 4, 5, 9, 16) and 2.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from kpod.runner import StageError
from kpod.stages._lm.artifact import read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kpod.stages._lm.artifact import ModelFiles

LoadPrecision = Literal["fp32", "bf16"]

# Said by transformers although all is well; matched by this exact beginning, all else is shown.
_HARMLESS = "`loss_type=None` was set in the config but it is unrecognized"
# A folder with none of these has no tokenizer.
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_PAD_CANDIDATES = (
    "<pad>",
    "<|endoftext|>",
    "<|finetune_right_pad_id|>",
    "<|pad|>",
    "[PAD]",
    "<unk>",
)


class Hardware(Protocol):
    """What is read of a placement."""

    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int | None: ...


def load_tokenizer(files: ModelFiles) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, padding on the left, its pad token apart from the end token where it has one to spare.

    Raises:
        StageError: there is none in the folder, or it has no end token.
    """
    return tokenizer_of_folder(files.weights)


def tokenizer_of_folder(folder: Path) -> PreTrainedTokenizerBase:
    """As `load_tokenizer`, from a folder of transformers files."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise StageError(
            f"{folder}: no tokenizer in it, none of {', '.join(_VOCABULARIES)}\n"
            "save the tokenizer there: tokenizer.save_pretrained(folder)"
        )
    with quiet():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    if tokenizer.eos_token_id is None:
        raise StageError(
            f"{folder}: the tokenizer names no end token (eos_token), so no text would ever end\n"
            "name one in tokenizer_config.json"
        )
    tokenizer.padding_side = "left"
    _choose_pad_token(tokenizer)
    return tokenizer


def _choose_pad_token(tokenizer: Any) -> None:
    """Give the tokenizer a pad token other than its end token, if its vocabulary has one (PRACTICE 1, row 4).

    Nothing of kpod reads a label or a mask from the pad id, so sharing it with the end token is harmless where no other is there.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    vocabulary = tokenizer.get_vocab()
    spare = (name for name in _PAD_CANDIDATES if name in vocabulary and name != tokenizer.eos_token)
    tokenizer.pad_token = next(spare, tokenizer.eos_token)


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


def load_causal_lm(
    files: ModelFiles, *, precision: LoadPrecision, device: str, merge: bool = True
) -> PreTrainedModel:
    """The model in this precision on this device, in eval mode, its adapter applied, generation plain greedy.

    Args:
        files: as `locate` found them.
        precision: what it computes in, whatever it is stored in.
        device: as torch names it, e.g. "cpu" or "cuda:0".
        merge: add an adapter into the weights (to generate); False keeps it apart (to train on).

    Returns:
        A transformers model; a peft model around it where there is an adapter that is not merged.

    Raises:
        StageError: the architecture is no causal language model that transformers knows.
    """
    import torch

    model_class = _causal_lm_class(files)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    # An adapter is added to its base in fp32, so that the sum is rounded once.
    is_merged = files.adapter is not None and merge
    with quiet():
        model: Any = model_class.from_pretrained(
            str(files.weights),
            dtype=torch.float32 if is_merged else dtype,
            local_files_only=True,
            use_safetensors=True,
        )
        if files.adapter is not None:
            model = _with_adapter(model, files, merge=merge)
    if is_merged:
        _cast_parameters(model, dtype)
    reset_generation(model)
    found: PreTrainedModel = model.to(device).eval()
    return found


def _causal_lm_class(files: ModelFiles) -> Any:
    import transformers

    name = files.spec.architecture
    found = getattr(transformers, name, None)
    if found is None or not name.endswith(("ForCausalLM", "LMHeadModel")):
        raise StageError(
            f"{files.weights}: architecture {name} is no causal language model that transformers"
            f" {transformers.__version__} knows\nneeded: one like LlamaForCausalLM or Qwen3ForCausalLM"
        )
    return found


def _with_adapter(model: Any, files: ModelFiles, *, merge: bool) -> Any:
    from peft import PeftModel

    with quiet():
        adapted = PeftModel.from_pretrained(model, str(files.adapter), is_trainable=not merge)
    return adapted.merge_and_unload() if merge else adapted


def _cast_parameters(model: Any, dtype: torch.dtype) -> None:
    """Parameters in this type; buffers stay, because rotary frequencies must be fp32 (as from_pretrained leaves them)."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def reset_generation(model: Any) -> None:
    """Forget the sampling settings that came with a checkpoint: greedy, repetition penalty 1 (PRACTICE 1, row 9)."""
    from transformers import GenerationConfig

    kept = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=kept.bos_token_id,
        eos_token_id=kept.eos_token_id,
        pad_token_id=kept.pad_token_id,
    )


def pick_device(placement: Hardware) -> torch.device:
    """The device to compute on.

    Raises:
        StageError: the placement asks for CUDA, and torch finds none.
    """
    import torch

    wanted = placement.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise StageError(
            f"placement.device is {wanted}, but torch {torch.__version__} finds no CUDA device here\n"
            "set placement.default.device to cpu, or install a CUDA build of torch"
        )
    return torch.device(wanted)


def set_threads(placement: Hardware) -> None:
    """Let torch compute with as many threads as the placement says; None: as many as torch chose when the process began."""
    import torch

    own = _own_threads()
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    elif torch.get_num_threads() != own:
        torch.set_num_threads(own)


@cache
def _own_threads() -> int:
    """How many threads torch chose by itself: read at the first call, before any stage has changed it."""
    import torch

    return torch.get_num_threads()


class _Harmless(logging.Filter):
    """Drops the message known to be harmless, and no other."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_HARMLESS)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars while files are loaded, and no message that is known to be harmless."""
    from transformers.utils import logging as transformers_logging

    was_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    quiet = _Harmless()
    loggers = [
        logging.getLogger(name)
        for name in ("transformers.modeling_utils", "transformers.configuration_utils")
    ]
    for logger in loggers:
        logger.addFilter(quiet)
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that goes in its version 6.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(quiet)
        if was_shown:
            transformers_logging.enable_progress_bar()
