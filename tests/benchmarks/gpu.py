"""Training on a GPU: tokens a second and share of the matmul peak, beside TRL and Unsloth.

    python tests/benchmarks/gpu.py [--only SHAPE ...] [--steps 20] [--json FILE]

Shapes of Qwen2.5 with random weights, LoRA r 16 on all linear layers, batch 16 of 512 tokens, half of them targets: 0.5B and 1.5B in
bf16, 7B in nf4. Wall seconds of the second of two trainings; the first one warms up. TRL has its defaults and trains without packing;
Unsloth is only measured where it is installed. Where there is no CUDA device this prints "not run: no GPU".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import training_models as models
from tests.benchmarks import training_peers as peers

BATCH_SIZE = 16
RANK = 16


class Shape(NamedTuple):
    """A model of the Qwen2.5 family, by its published config.json.

    Args:
        width: hidden size.
        layers: how many.
        heads: of queries.
        kv_heads: of keys and values.
        ff_width: of the feed-forward layers.
        vocabulary: tokens.
        is_tied: whether the output layer is the embedding.
        is_nf4: whether the layers are held in 4 bits.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    ff_width: int
    vocabulary: int
    is_tied: bool
    is_nf4: bool = False


SHAPES = {
    "0.5b": Shape(896, 24, 14, 2, 4864, 151_936, is_tied=True),
    "1.5b": Shape(1536, 28, 12, 2, 8960, 151_936, is_tied=True),
    "7b_nf4": Shape(3584, 28, 28, 4, 18_944, 152_064, is_tied=False, is_nf4=True),
}


def write_model(shape: Shape, folder: Path) -> Any:
    """Random weights in bf16 and a tokenizer, as a located model folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from kpod.stages._lm.artifact import ModelFiles
    from kpod.stages._lm.checkpoint_folder import checkpoint_spec

    config = Qwen2Config(
        hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, intermediate_size=shape.ff_width, vocab_size=shape.vocabulary,
        max_position_embeddings=4096, tie_word_embeddings=shape.is_tied, dtype=torch.bfloat16,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(str(folder))
    models.words(folder).save_pretrained(str(folder))
    del model
    torch.cuda.empty_cache()
    return ModelFiles(folder, None, checkpoint_spec(folder, is_pointer=False), "qwen2")


def make_task(shape: Shape, files: Any, *, num_steps: int) -> models.Task:
    """Sequences of 512 random tokens, and a model with a fresh adapter for each training."""
    from kpod.stages._lm.loading import load_lm, load_quantised, load_tokenizer
    from kpod.stages._lm.quantised import make_trainable
    from kpod.stages.student._adapter import Lora, add_lora

    def fresh() -> Any:
        if shape.is_nf4:
            model = load_quantised(files, "nf4", precision="bf16", device="cuda")
            make_trainable(model)
        else:
            model = load_lm(files, precision="bf16", device="cuda")
        return add_lora(model, Lora(rank=RANK, alpha=2.0 * RANK), seed=0)

    examples = models.random_examples(
        num_steps * BATCH_SIZE, prompt=(256, 256), completion=(256, 256), vocabulary=shape.vocabulary
    )  # fmt: skip
    return models.Task(
        fresh, load_tokenizer(files), examples, BATCH_SIZE, learning_rate=2e-4, precision="bf16"
    )


def unsloth_task(task: models.Task, folder: Path, *, is_nf4: bool) -> models.Task:
    """The same sequences, the model and its adapter made by Unsloth, trained by the SFTTrainer that it patches."""
    from unsloth import FastLanguageModel

    def fresh() -> Any:
        model, _ = FastLanguageModel.from_pretrained(
            str(folder), max_seq_length=1024, load_in_4bit=is_nf4, dtype=None
        )
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        return FastLanguageModel.get_peft_model(
            model, r=RANK, lora_alpha=2 * RANK, lora_dropout=0, target_modules=names
        )

    return task._replace(model=fresh)


def peak_flops() -> float:
    """Operations a second of a large bf16 product, measured."""
    import torch

    matrix = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    spent = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return float(2 * 8192**3 / min(spent))


def step_flops(shape: Shape, task: models.Task) -> float:
    """Of products with frozen weights, forward and backward: layers at every token, the head at targets."""
    head_width = shape.width // shape.heads
    attention = shape.width * head_width * 2 * (shape.heads + shape.kv_heads)
    layers = shape.layers * (attention + 3 * shape.width * shape.ff_width)
    targets = task.num_tokens * task.target_frac
    return 4 * (layers * task.num_tokens + shape.width * shape.vocabulary * targets)


def measure(shape: Shape, root: Path, *, num_steps: int) -> dict[str, Any]:
    """Tokens a second and share of peak of everyone who is installed."""
    files = write_model(shape, root / "model")
    task = make_task(shape, files, num_steps=num_steps)
    runs: dict[str, Callable[[], peers.Run]] = {
        "ours": lambda: peers.run_ours(task, clock=synchronised)
    }
    if find_spec("trl") is not None:
        runs["trl"] = lambda: peers.run_trl(
            task, root / "out", is_checkpointing=True, clock=synchronised, use_cpu=False
        )
    if find_spec("unsloth") is not None:
        theirs = unsloth_task(task, root / "model", is_nf4=shape.is_nf4)
        runs["unsloth"] = lambda: peers.run_trl(
            theirs, root / "out", is_checkpointing=True, clock=synchronised, use_cpu=False
        )
    peak = peak_flops()
    found = {}
    for name, run in runs.items():
        run()
        seconds = run().seconds
        found[name] = {
            "tokens_per_s": round(task.num_tokens / seconds),
            "share_of_peak": round(step_flops(shape, task) / seconds / peak, 3),
        }
    return {**found, "peak_tflops": round(peak / 1e12, 1)}


def synchronised() -> float:
    """Wall seconds after all that was asked of the device is done."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> int:
    """Measure what was asked for, where there is a device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("not run: no GPU")
        return 0
    found: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="kpod-bench-") as folder:
            found[name] = measure(SHAPES[name], Path(folder), num_steps=options.steps)
        print(json.dumps({name: found[name]}, indent=2, sort_keys=True), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
