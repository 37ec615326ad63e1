"""Vectors of questions from a sentence-embedding model: the mean of its last states over real tokens, at length 1.

That is how all-MiniLM-L6-v2 and its like are used (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, section 3, MEAN strategy).
B batch, T tokens, D width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner import Context, Input, Model, Question, StageError
from kpod.stages._lm.artifact import locate, read_json_object

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from kpod.stages.clustering.kmeans import Config

_BATCH_SIZE = 64
# Tokenizers that know no limit of their own name a number beyond every model's.
_NO_LIMIT = 1_000_000


def sentence_vectors(
    ctx: Context[Config], questions: Sequence[Question], *, model: Input[Model]
) -> NDArray[np.floating[Any]]:
    """The model's vectors of the questions; a text beyond its context is cut, and how many were is noted.

    Args:
        ctx: of the stage.
        questions: at least one.
        model: the stage's input of that name: a folder of an encoder, e.g. a BertModel.

    Returns:
        (N, D) float32 rows of length 1, in the order of the questions.

    Raises:
        StageError: the model is an adapter or an encoder-decoder, or pools otherwise than by the mean.
    """
    import torch

    from kpod.stages._lm.loading import pick_device, set_threads

    set_threads(ctx.placement)
    folder = _encoder_folder(ctx, model)
    ids, num_cut = _token_ids(folder, questions)
    ctx.note("num_cut", num_cut)
    encoder = _load(folder).to(pick_device(ctx.placement))
    rows: dict[int, torch.Tensor] = {}
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    for start in range(0, len(order), _BATCH_SIZE):
        ctx.progress(start, len(order), unit="questions")
        places = order[start : start + _BATCH_SIZE]
        vectors_BD = _mean_states(encoder, [ids[place] for place in places])
        rows.update(zip(places, vectors_BD.cpu(), strict=True))
    return torch.stack([rows[place] for place in range(len(ids))]).numpy()


def _encoder_folder(ctx: Context[Config], model: Input[Model]) -> Path:
    """The folder of the weights, of a kind that this file can use."""
    files = locate(ctx, model)
    if files.adapter is not None or read_json_object(files.weights / "config.json").get(
        "is_encoder_decoder"
    ):
        kind = "an adapter" if files.adapter is not None else "an encoder-decoder"
        raise StageError(
            f"{files.weights}: {kind} ({files.spec.architecture}); vectors: sentence needs a whole encoder\n"
            "take one in with model.pretrained, e.g. sentence-transformers/all-MiniLM-L6-v2"
        )
    pooling = files.weights / "1_Pooling" / "config.json"
    if pooling.is_file() and read_json_object(pooling).get("pooling_mode_mean_tokens") is False:
        raise StageError(
            f"{pooling}: the model does not pool by the mean of its states, which is what vectors: sentence does\n"
            "use a model that does, e.g. sentence-transformers/all-MiniLM-L6-v2"
        )
    return files.weights


def _token_ids(folder: Path, questions: Sequence[Question]) -> tuple[list[list[int]], int]:
    """Token ids of each question with the model's special tokens, and how many texts were cut at its limit."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    from kpod.stages._lm.loading import quiet

    # Not load_tokenizer: an encoder's tokenizer has no end token.
    with quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    limit = tokenizer.model_max_length
    if limit > _NO_LIMIT:
        limit = read_json_object(folder / "config.json").get("max_position_embeddings", _NO_LIMIT)
    texts = [question.text for question in questions]
    whole = tokenizer(texts, verbose=False)["input_ids"]
    num_cut = sum(len(row) > limit for row in whole)
    return tokenizer(texts, truncation=True, max_length=limit)["input_ids"], num_cut


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModel

    from kpod.stages._lm.loading import quiet

    with quiet():
        encoder = AutoModel.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    return encoder.eval()


def _mean_states(encoder: Any, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """(B, D) of length 1: the mean of the last states over real tokens."""
    import torch

    longest = max(map(len, ids))
    mask_BT = torch.tensor(
        [[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=encoder.device
    )
    ids_BT = torch.tensor(
        [[*row, *[0] * (longest - len(row))] for row in ids], device=encoder.device
    )
    with torch.inference_mode():
        states_BTD = encoder(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
    summed_BD = (states_BTD * mask_BT.unsqueeze(-1)).sum(dim=1)
    return torch.nn.functional.normalize(summed_BD / mask_BT.sum(dim=1, keepdim=True), dim=1)
