"""How much memory a training will take, told before it begins: pure arithmetic over the model's shape and the settings.

Activations are counted in elements a token: what autograd keeps of each layer. The coefficients were counted with torch's
`saved_tensors_hooks` on Qwen2, Qwen3, Llama and T5 of transformers 5.23, by changing one width at a time, and explained
term by term beside each; tests/benchmarks/memory.py prints the forecast beside real peaks. Pages of the file that is loaded
are left out: the system takes them back.
D width, F feed-forward width, Q and K widths of all queries and of all keys, V vocabulary, T longest sequence, r rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kpod.stages.student._shape import Shape

if TYPE_CHECKING:
    from kpod.stages.student._adapter import Lora

# Resident without a model: 445 MB after torch, transformers and peft were imported (torch 2.13 for CPU, transformers 5.23),
# 75 more once a model has computed (code that is loaded late, workspaces of matrix products), and the runner with its store
# and the tokenizer some 60; measured.
LIBRARIES_B = 580_000_000
# On a GPU: the CUDA context and the kernels that torch loads; 814 to 888 MiB in processes that train tiny models (H100, torch 2.11).
CUDA_CONTEXT_B = 900_000_000
# Bytes a weight. nf4: 4 bits and a float32 scale for 64 weights; nf4_double: 0.127 bits for scales (QLoRA, section 2).
_WEIGHT_B = {
    "fp32": 4.0,
    "bf16": 2.0,
    "nf4": 0.5 + 4 / 64,
    "nf4_double": 0.5 + 0.127 / 8,
    "int8": 1.0,
}
# Two moments of AdamW, in float32 or in 8 bits with a float32 scale for 256 (bitsandbytes' block).
_MOMENTS_B = {"adamw": 8.0, "adamw_8bit": 2 * (1 + 4 / 256), "paged_adamw_8bit": 2 * (1 + 4 / 256)}
# As _loss.py has it: a step with more logits is scored in pieces.
_MAX_LOGITS = 1 << 24
# Logits, log-probabilities and their gradient: 2.93 to 3.32 times the logits in float32, measured (V 32,000 and 151,936).
_LOGITS_COPIES = 3.0
# On a CPU glibc keeps freed memory: up to 64 MB at the end of its heap (twice its largest mmap threshold), 34 to 66 MB measured
# where little else is held; and what lies below a block still in use, of which a LoRA leaves many: 1.0 to 1.4 times what is in
# use without checkpointing, 1.25 to 1.7 times with it, by what the process did before (decoder-only shapes, measured; with
# MALLOC_MMAP_THRESHOLD_=65536, which gives back at once, neither). Not seen where all weights train, nor in T5.
_HEAP_B = 40_000_000
_HEAP_FRAC, _HEAP_FRAC_CHECKPOINTING = 0.1, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a training takes at its peak, by part, in bytes.

    Args:
        libraries: Python, torch and transformers themselves.
        weights: of the model, as they are held (in fp32 where they train).
        adapters: LoRA matrices, fp32.
        gradients: of all that trains, fp32.
        moments: AdamW's.
        activations: what the backward pass of the largest micro-batch needs, and its own work.
        logits: of as many targets as are scored at once.
        allocator: what was freed and is not given back.
    """

    libraries: int
    weights: int
    adapters: int
    gradients: int
    moments: int
    activations: int
    logits: int
    allocator: int

    @property
    def total(self) -> int:
        """The peak: in the backward pass, where logits and gradients are both there."""
        kept = self.libraries + self.weights + self.adapters + self.moments
        passing = self.activations + self.allocator
        return kept + passing + self.gradients + self.logits

    def parts(self) -> dict[str, int]:
        """Bytes by part, in the order of the reading."""
        return {name: getattr(self, name) for name in self.__slots__}


class _Kept(NamedTuple):
    """Elements of float32 that a layer keeps of a token, by what they are as wide as.

    Args:
        width: times D.
        queries: times Q.
        keys: times K.
        ff: times F, of each of the feed-forward's own tensors (`Shape.ff_tensors`).
        rank: times r, of each adapted layer.
        dropped: of each number that an adapter reads, where it is dropped out.
    """

    width: float
    queries: float
    keys: float
    ff: float
    rank: float
    dropped: float


# Decoder-only, fp32: two norms keep what they make and its form without weight (4 D); attention keeps queries, keys, values
# and what it gives (2 Q + 2 K); the feed-forward gate, its activation, the other branch and the product (4 F). Fast norms
# (_norms.py) are counted; transformers' own keep 5 % more.
# bf16 over fp32 weights: halves of these, but norms compute in fp32 (x, normal: 4 D) and their result is cast for each of
# five products (2.5 D). bf16 weights (a frozen model): norms 2 D in fp32 each, and half of their result.
# LoRA adds what its narrow product gives (r) and, under dropout, each input after it with its mask: 2.5 numbers for one.
_DECODER = {
    "fp32": _Kept(4.0, 2.0, 2.0, 1.0, 1.0, 2.5),
    "bf16_full": _Kept(6.5, 1.0, 1.0, 0.5, 0.5, 1.7),
    "bf16_lora": _Kept(5.0, 1.0, 1.0, 0.5, 0.5, 1.7),
}
# T5, a layer of its encoder or its decoder, the mean of both (14 D and 18 D in fp32, cross attention's included); Q = D.
_SEQ2SEQ = {
    "fp32": _Kept(14.0, 2.0, 0.0, 1.0, 1.0, 2.5),
    "bf16_full": _Kept(13.8, 1.0, 0.0, 0.5, 0.5, 1.7),
    "bf16_lora": _Kept(12.5, 1.0, 0.0, 0.5, 0.5, 1.7),
}
# T5 adds its positions to the scores, so that they are kept: scores, with positions, and their softmax; a head, a token and
# a token that it looks at. Input and output share a sequence's length: alone 3 T, half and half (cross attention's too) 2.25 T.
_SCORES = 3.0
# Matrices that LoRA adapts in a layer: q, k, v, o, gate, up, down; T5's decoder has cross attention, 9 on average.
_NUM_ADAPTED, _NUM_ADAPTED_SEQ2SEQ = 7, 9
# DoRA keeps, of each number that an adapted layer gives, what the layer and the adapter gave apart and their magnitudes' products:
# 9 to 12 bytes in fp32, 4 to 6 in bf16 (counted). While it computes, some four float32 more of each number of one layer; and
# peft makes B A whole, from a unit matrix as wide as what the largest layer reads, and adds it to the weight: fitted to peaks
# (896 x 2 and 512 x 4 in bf16).
_DORA_KEPT_B = {"fp32": 11.0, "bf16": 4.5}
_DORA_WORK_B, _DORA_MATRICES = 16.0, 3
# The backward pass of a layer at work, beside what was kept: gradients of the feed-forward's tensors and of the stream.
_WORK_FF, _WORK_WIDTH = 3.0, 4.0
# Embedding and last norm, outside of layers: 1.2 D (fp32) to 2.2 D (bf16); T5 has two sides: 5 D.
_OUTSIDE, _OUTSIDE_SEQ2SEQ = 2.0, 5.0


def forecast(
    shape: Shape,
    *,
    method: str,
    lora: Lora,
    precision: str,
    compute: str,
    optimizer: str,
    micro_batch_tokens: int,
    is_checkpointing: bool,
    longest: int,
    device: str = "cpu",
) -> Memory:
    """The memory of a training with these settings.

    Args:
        shape: of the model.
        method: lora or full.
        lora: read for method lora.
        precision: resolved: fp32, bf16, nf4, nf4_double or int8.
        compute: of quantised weights, fp32 or bf16.
        optimizer: which AdamW.
        micro_batch_tokens: tokens of the largest micro-batch; a longer sequence stands alone and counts.
        is_checkpointing: whether activations are computed twice instead of kept.
        longest: tokens of the longest sequence (both sides of an encoder-decoder together).
        device: cpu or cuda: whose memory.
    """
    computed = compute if precision in {"nf4", "nf4_double", "int8"} else precision
    is_full = method == "full"
    adapted = 0 if is_full else adapter_parameters(shape, lora)
    trained = shape.num_parameters if is_full else adapted
    tokens = max(micro_batch_tokens, longest)
    moments = int(_MOMENTS_B[optimizer] * trained)
    logits = _logits_b(shape, tokens, is_trained=is_full)
    activations = _activations_b(
        shape, lora=None if is_full else lora, computed=computed, tokens=tokens,
        is_checkpointing=is_checkpointing, longest=longest, logits_b=logits,
    )  # fmt: skip
    if lora.dora and not is_full:
        activations += _dora_b(shape, lora, computed, tokens, is_checkpointing=is_checkpointing)
    return Memory(
        libraries=CUDA_CONTEXT_B if device == "cuda" else LIBRARIES_B,
        weights=_weights_b(shape, "fp32" if is_full else precision, computed),
        adapters=4 * adapted,
        gradients=4 * trained,
        moments=moments,
        activations=activations,
        logits=logits,
        allocator=0
        if device == "cuda"
        else _heap_b(
            shape, activations + logits, is_full=is_full, is_checkpointing=is_checkpointing
        ),
    )


def _heap_b(shape: Shape, in_use: int, *, is_full: bool, is_checkpointing: bool) -> int:
    """What glibc keeps of what was freed."""
    if is_full or shape.encoder_layers:
        return _HEAP_B
    return _HEAP_B + int((_HEAP_FRAC_CHECKPOINTING if is_checkpointing else _HEAP_FRAC) * in_use)


def adapter_parameters(shape: Shape, lora: Lora) -> int:
    """Numbers in the LoRA matrices: r (in + out) for each adapted layer (Hu et al. 2022, section 4.1).

    Where `targets` names layers, they are known by the ends of their usual names; another name counts as a square matrix.
    """
    per_layer = sum(_adapted(shape, lora).values())
    layers = shape.layers + shape.encoder_layers
    magnitudes = per_layer // 2 if lora.dora else 0
    return layers * (lora.rank * per_layer + magnitudes)


def _adapted(shape: Shape, lora: Lora) -> dict[str, int]:
    """Inputs and outputs, added up, of each linear layer of a layer that is adapted."""
    sizes = shape.linear_sizes()
    wanted = [target.rpartition(".")[2] for target in lora.targets] or list(sizes)
    return {name: sizes.get(name, 2 * shape.width) for name in wanted}


def _dora_b(shape: Shape, lora: Lora, computed: str, tokens: int, *, is_checkpointing: bool) -> int:
    """What DoRA needs beside a LoRA."""
    adapted = _adapted(shape, lora)
    given = sum(adapted.values()) // 2
    layers = 1 if is_checkpointing else max(shape.layers, shape.encoder_layers)
    largest = max(adapted.values()) - shape.width
    made = 4 * largest * (largest + _DORA_MATRICES * shape.width)
    return int(tokens * given * (layers * _DORA_KEPT_B[computed] + _DORA_WORK_B)) + made


def _weights_b(shape: Shape, precision: str, computed: str) -> int:
    """Linear layers as held; embedding and output layer are never quantised, only rounded to what is computed in."""
    outside = shape.embedding_parameters
    inside = max(0, shape.num_parameters - outside)
    plain = precision if precision in {"fp32", "bf16"} else computed
    return int(inside * _WEIGHT_B[precision] + outside * _WEIGHT_B[plain])


def _activations_b(
    shape: Shape, *, lora: Lora | None, computed: str, tokens: int, is_checkpointing: bool, longest: int, logits_b: int
) -> int:  # fmt: skip
    kind = computed if computed == "fp32" else "bf16_full" if lora is None else "bf16_lora"
    is_seq2seq = shape.encoder_layers > 0
    kept = (_SEQ2SEQ if is_seq2seq else _DECODER)[kind]
    size = 1.0 if computed == "fp32" else 0.5
    layer = (
        kept.width * shape.width + kept.queries * shape.query_width + kept.keys * shape.key_width
        + kept.ff * shape.ff_tensors * shape.ff_width
        + (_SCORES * shape.heads * longest if is_seq2seq else 0.0)
        + _adapter_elements(shape, lora, kept)
    )  # fmt: skip
    # The backward pass begins with the logits, and its work on layers comes after them.
    passing = size * (_WORK_FF * shape.ff_width + _WORK_WIDTH * shape.width)
    work = max(0, int(4 * tokens * passing) - logits_b)
    outside = shape.width * (_OUTSIDE_SEQ2SEQ if is_seq2seq else _OUTSIDE)
    # A token passes the layers of one side only.
    layers = max(shape.layers, shape.encoder_layers)
    # Checkpointing keeps each layer's input (T5: also the encoder's output) and one layer whole.
    stream = shape.width * (1.75 if is_seq2seq else 1.0)
    elements = layers * stream + layer if is_checkpointing else layers * layer
    # Weights are cast once for all micro-batches' tokens (autocast's cache) where they are held in fp32.
    casts = 2 * shape.linear_parameters if kind == "bf16_full" else 0
    return int(4 * tokens * (elements + outside)) + work + casts


def _adapter_elements(shape: Shape, lora: Lora | None, kept: _Kept) -> float:
    if lora is None:
        return 0.0
    usual = _NUM_ADAPTED_SEQ2SEQ if shape.encoder_layers else _NUM_ADAPTED
    num = len(lora.targets) or usual
    # q, k, v, gate and up read D; o reads Q; down reads F.
    read = 5 * shape.width + shape.query_width + shape.ff_width
    dropped = kept.dropped * read * num / usual if lora.dropout else 0.0
    return kept.rank * lora.rank * num + dropped


def _logits_b(shape: Shape, tokens: int, *, is_trained: bool) -> int:
    """Logits of the targets scored at once; where the output layer trains, its gradient of one piece beside the sum."""
    num = min(tokens, max(1, _MAX_LOGITS // shape.vocab_size))
    gradient = 4 * shape.vocab_size * shape.width if is_trained else 0
    return int(_LOGITS_COPIES * 4 * num * shape.vocab_size) + gradient
