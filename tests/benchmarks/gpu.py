"""Training on a GPU: tokens a second, share of the matmul peak and memory, beside TRL and Unsloth.

    python tests/benchmarks/gpu.py [--only SHAPE ...] [--steps 10] [--pairs 5] [--unsloth DIR] [--json FILE]

Shapes of Qwen2.5 with random weights, LoRA r 16 on all linear layers, batch 16 of 512 tokens, half of them targets: 0.5B and 1.5B in
bf16, 7B in nf4. Everyone trains in a process of its own, which loads the model once, trains once to warm up and then `pairs` times;
medians of wall seconds. TRL has its defaults, and again without activation checkpointing, and trains without packing. Unsloth
needs older libraries than ours: DIR is a folder of packages that its process reads first; without it, it is only measured where it is
installed. Memory is the most that tensors took; the forecast is that of student.causal_lm, without the CUDA context.
Where there is no CUDA device this prints "not run: no GPU".
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import training_models as models
from tests.benchmarks import training_peers as peers

BATCH_SIZE = 16
LENGTH = 512
RANK = 16
WHO = ("ours", "trl", "trl_without_checkpointing", "unsloth")


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


def write_model(shape: Shape, folder: Path) -> None:
    """Random weights in bf16 and a tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, intermediate_size=shape.ff_width, vocab_size=shape.vocabulary,
        max_position_embeddings=4096, tie_word_embeddings=shape.is_tied, dtype=torch.bfloat16,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(str(folder))
    models.words(folder).save_pretrained(str(folder))
    del model
    torch.cuda.empty_cache()


def located(folder: Path) -> Any:
    """The model that `write_model` wrote."""
    from kpod.stages._lm.artifact import ModelFiles
    from kpod.stages._lm.checkpoint_folder import checkpoint_spec

    return ModelFiles(folder, None, checkpoint_spec(folder, is_pointer=False), "qwen2")


def make_task(shape: Shape, folder: Path, *, num_steps: int, who: str) -> models.Task:
    """Sequences of 512 random tokens, and one model with an adapter, trained on from reading to reading."""
    from transformers import AutoTokenizer

    model = unsloth_model(shape, folder) if who == "unsloth" else own_model(shape, folder)
    examples = models.random_examples(
        num_steps * BATCH_SIZE, prompt=(LENGTH // 2, LENGTH // 2), completion=(LENGTH // 2, LENGTH // 2),
        vocabulary=shape.vocabulary,
    )  # fmt: skip
    return models.Task(
        lambda: model, AutoTokenizer.from_pretrained(folder), examples, BATCH_SIZE, learning_rate=2e-4,
        precision="bf16",
    )  # fmt: skip


def own_model(shape: Shape, folder: Path) -> Any:
    """As student.causal_lm loads it."""
    from kpod.stages._lm.loading import load_lm, load_quantised
    from kpod.stages._lm.quantised import make_trainable
    from kpod.stages.student._adapter import Lora, add_lora

    files = located(folder)
    if shape.is_nf4:
        model = load_quantised(files, "nf4", precision="bf16", device="cuda")
        make_trainable(model)
    else:
        model = load_lm(files, precision="bf16", device="cuda")
    return add_lora(model, Lora(rank=RANK, alpha=2.0 * RANK), seed=0)


def unsloth_model(shape: Shape, folder: Path) -> Any:
    """The model and its adapter made by Unsloth, which also patches the SFTTrainer that trains it."""
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        str(folder), max_seq_length=2 * LENGTH, load_in_4bit=shape.is_nf4, dtype=None
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return FastLanguageModel.get_peft_model(
        model, r=RANK, lora_alpha=2 * RANK, lora_dropout=0, target_modules=names
    )


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


def forecast_gb(shape: Shape, folder: Path) -> float:
    """What student.causal_lm foretells for these settings, without what a process has before its first tensor."""
    from kpod.stages.student._adapter import Lora
    from kpod.stages.student._memory import forecast
    from kpod.stages.student._shape import read_shape

    files = located(folder)
    told = forecast(
        read_shape(files.weights, files.spec), method="lora", lora=Lora(rank=RANK), precision="nf4" if shape.is_nf4 else "bf16",
        compute="bf16", optimizer="adamw", micro_batch_tokens=BATCH_SIZE * LENGTH, is_checkpointing=False, longest=LENGTH,
        device="cuda",
    )  # fmt: skip
    return (told.total - told.libraries) / 1e9


def measure(shape: Shape, folder: Path, who: str, *, num_steps: int, num_pairs: int) -> None:
    """One of those who are compared, in this process; prints what it found as one line."""
    import torch

    task = make_task(shape, folder, num_steps=num_steps, who=who)

    def run() -> peers.Run:
        if who == "ours":
            return peers.run_ours(task, clock=synchronised, micro_batch_tokens=BATCH_SIZE * LENGTH)
        is_checkpointing = who != "trl_without_checkpointing"
        return peers.run_trl(
            task, folder / "out", is_checkpointing=is_checkpointing, clock=synchronised, use_cpu=False
        )  # fmt: skip

    run()
    seconds = [run().seconds for _ in range(num_pairs)]
    used_gb = torch.cuda.max_memory_allocated() / 1e9
    median = statistics.median(seconds)
    found = {
        "tokens_per_s": round(task.num_tokens / median),
        "slowest_and_fastest": [round(task.num_tokens / bound(seconds)) for bound in (max, min)],
        "share_of_peak": round(step_flops(shape, task) / median / peak_flops(), 3),
        "peak_gb": round(used_gb, 2),
    }
    if who == "ours":
        found["forecast_gb"] = round(forecast_gb(shape, folder), 2)
    print(json.dumps(found), flush=True)


def compare(shape: Shape, root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everyone who is installed, each in a process of its own."""
    write_model(shape, root / "model")
    found: dict[str, Any] = {}
    for who in options.who:
        environment = dict(os.environ)
        if who == "unsloth":
            if options.unsloth is None and find_spec("unsloth") is None:
                continue
            first = [str(options.unsloth)] if options.unsloth else []
            environment["PYTHONPATH"] = os.pathsep.join([*first, environment.get("PYTHONPATH", "")])
        elif who != "ours" and find_spec("trl") is None:
            continue
        words = [
            "--only",
            shape_name(shape),
            "--steps",
            str(options.steps),
            "--pairs",
            str(options.pairs),
        ]
        done = subprocess.run(
            [sys.executable, __file__, *words, "--measure", who, str(root / "model")],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        found[who] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else "failed"
    return found


def shape_name(shape: Shape) -> str:
    """By which `--only` knows it."""
    return next(name for name, known in SHAPES.items() if known is shape)


def synchronised() -> float:
    """Wall seconds after all that was asked of the device is done."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> int:
    """Measure what was asked for, where there is a device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--unsloth", type=Path, default=None, help="a folder of packages")
    parser.add_argument("--measure", nargs=2, metavar=("WHO", "MODEL"), help="in this process")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if options.measure and options.measure[0] == "unsloth":
        import unsloth  # noqa: F401 - before any other library
    import torch

    if not torch.cuda.is_available():
        print("not run: no GPU")
        return 0
    for library in ("transformers", "trl", "datasets"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if options.measure:
        who, folder = options.measure
        shape = SHAPES[options.only[0]]
        measure(shape, Path(folder), who, num_steps=options.steps, num_pairs=options.pairs)
        return 0
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "peak_tflops": round(peak_flops() / 1e12, 1),
    }
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="kpod-bench-") as folder:
            found[name] = compare(SHAPES[name], Path(folder), options)
        print(json.dumps({name: found[name]}, indent=2), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
