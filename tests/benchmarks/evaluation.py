"""Evaluating the quickstart's test problems beside transformers' `generate`, one prompt after another.

    python tests/benchmarks/evaluation.py [--pairs 5] [--problems 500] [--sample 100] [--json FILE]

The model is the shipped base, the problems and settings are those of recipes/quickstart.yaml: 500 problems of two and three
steps, at most 96 new tokens, fp32, one thread, greedy. Ours is the whole stage evaluate.accuracy into an empty store: model and
tokenizer loaded, texts written and stored, answers read and scored. Theirs is `generate` alone, on a sample of the same
problems (every fifth), its time scaled to all. Texts of the sample are compared word for word.
Each pair runs both one after the other, so that a busy machine slows both; figures are medians over pairs of CPU time
(`time.process_time`), and the lower bound is that of the 90 % interval of the ratio's median.
merged: texts of the same problems with a LoRA (rank 16, all linear layers, as it starts: it changes no text) added to the
weights, beside the same with the adapter apart; an adapter that is merged is the weights, and costs nothing.
Goal (issue 5): at least 12 times one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

GOAL = 12.0
MAX_NEW = 96


class Task(NamedTuple):
    """A model folder as a stage finds it, the questions, and what is asked of the model for each."""

    folder: Path
    files: Any
    questions: list[Any]
    prompts: list[list[int]]
    end_ids: frozenset[int]


class Written(NamedTuple):
    """CPU seconds, and a text a prompt."""

    seconds: float
    texts: list[str]


def make_task(root: Path, *, num_problems: int) -> Task:
    """The shipped base in a folder of its own, and the problems of the quickstart (seed 7)."""
    import shutil

    from kpod.stages._lm.artifact import ModelFiles, ModelSpec, file_digests, write_spec
    from kpod.stages._lm.completions import end_token_id
    from kpod.stages._lm.loading import load_tokenizer, read_limits
    from kpod.stages._lm.prompts import PromptConfig, model_inputs
    from kpod.stages.data import word_problems
    from tests.stages.fakes import FakeContext

    folder = Path(shutil.copytree(ROOT / "stages" / "model" / "quickstart_base", root / "base"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spec = ModelSpec(
        architecture=config["architectures"][0], width=config["hidden_size"], num_parameters=1,
        vocab_size=config["vocab_size"], precision="fp32",
        files=file_digests(folder, [path.name for path in folder.iterdir()]),
    )  # fmt: skip
    write_spec(folder, spec)
    settings = word_problems.Config(num_train=0, num_validation=0, num_test=num_problems, seed=7)
    data = FakeContext(config=settings)
    word_problems.WordProblems().run(data)
    files = ModelFiles(folder, None, spec, "base")
    tokenizer, prompt = load_tokenizer(files), PromptConfig().resolve()
    questions = data.rows("test")
    ends = read_limits(files, tokenizer).end_ids | {end_token_id(tokenizer, prompt)}
    asked = model_inputs(tokenizer, prompt, questions, family="causal")
    return Task(folder, files, questions, asked, ends)


def evaluated(task: Task) -> Written:
    """The stage, into an empty store."""
    from kpod.stages.evaluate.accuracy import Accuracy, Config
    from tests.stages.fakes import FakeContext

    ctx = FakeContext(
        config=Config(max_new_tokens=MAX_NEW, precision="fp32"),
        inputs={"questions": task.questions},
        models={"models": task.folder},
    )
    began = time.process_time()
    Accuracy().run(ctx)
    return Written(time.process_time() - began, [row.text for row in ctx.rows("predictions")])


def one_by_one(task: Task, chosen: Sequence[int]) -> Written:
    """`generate` on the chosen prompts, one after another, with the model loaded."""
    import torch

    from kpod.stages._lm.loading import load_lm, load_tokenizer

    model: Any = load_lm(task.files, precision="fp32", device="cpu")
    tokenizer: Any = load_tokenizer(task.files)
    texts = []
    began = time.process_time()
    for index in chosen:
        ids = torch.tensor([task.prompts[index]])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_NEW, do_sample=False,
            eos_token_id=sorted(task.end_ids), pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return Written(time.process_time() - began, texts)


def with_adapter(task: Task, root: Path) -> Any:
    """The files of the base with a fresh LoRA."""
    from peft import LoraConfig, get_peft_model

    from kpod.stages._lm.loading import load_lm

    model: Any = load_lm(task.files, precision="fp32", device="cpu")
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(str(root / "adapter"))
    return task.files._replace(adapter=root / "adapter")


def adapted(task: Task, files: Any, *, merge: bool) -> Written:
    """The texts of all problems, written by the engine; the time of loading and merging counts."""
    from kpod.runner.texts import TextStore
    from kpod.stages._lm.decoding import Decoding
    from kpod.stages._lm.generation import Request, generate_texts
    from kpod.stages._lm.loading import Limits, load_lm, load_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        store = TextStore(Path(folder) / "texts.sqlite")
        began = time.process_time()
        texts = generate_texts(
            lambda: load_lm(files, precision="fp32", device="cpu", merge=merge),
            load_tokenizer(files), [Request(prompt_ids=tuple(ids)) for ids in task.prompts],
            Decoding(max_new_tokens=MAX_NEW), limits=Limits(task.end_ids, None), batch_tokens=16384,
            store=store, model_facts={"model": "bench"}, on_progress=lambda _: None,
        )  # fmt: skip
        seconds = time.process_time() - began
        store.close()
    return Written(seconds, [text.text for text in texts])


def lower_bound(ratios: Sequence[float], *, num_draws: int = 5000) -> float:
    """Lower end of the 90 % bootstrap interval of the median."""
    stream = random.Random(0)
    medians = sorted(
        statistics.median(stream.choices(ratios, k=len(ratios))) for _ in range(num_draws)
    )
    return medians[num_draws // 20]


def measure(task: Task, root: Path, *, num_pairs: int, num_sampled: int) -> dict[str, Any]:
    """Interleaved runs, after a small one of each that is thrown away."""
    chosen = range(0, len(task.questions), max(1, len(task.questions) // num_sampled))
    scale = len(task.questions) / len(chosen)
    files = with_adapter(task, root)
    small = task._replace(questions=task.questions[:8], prompts=task.prompts[:8])
    evaluated(small)
    one_by_one(small, range(2))
    adapted(small, files, merge=False)
    found: dict[str, list[Written]] = {"ours": [], "theirs": [], "merged": [], "apart": []}
    for _ in range(num_pairs):
        found["ours"].append(evaluated(task))
        found["theirs"].append(one_by_one(task, chosen))
        found["merged"].append(adapted(task, files, merge=True))
        found["apart"].append(adapted(task, files, merge=False))
    seconds = {name: [run.seconds for run in runs] for name, runs in found.items()}
    ratios = [scale * b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    faster = [b / a for a, b in zip(seconds["merged"], seconds["apart"], strict=True)]
    ours, theirs = found["ours"][-1].texts, found["theirs"][-1].texts
    pairs = [(ours[index], text) for index, text in zip(chosen, theirs, strict=True)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "times": round(statistics.median(ratios), 2),
        "times_low_90": round(lower_bound(ratios), 2),
        "cpu_s": {"ours": round(medians["ours"], 2), "one_by_one": round(scale * medians["theirs"], 2)},
        "equal_frac": sum(a == b for a, b in pairs) / len(pairs),
        "mean_words": round(statistics.mean(len(text.split()) for text in ours), 1),
        "merged_times_apart": round(statistics.median(faster), 2),
        "merged_equal_frac": sum(
            a == b for a, b in zip(found["merged"][-1].texts, found["apart"][-1].texts, strict=True)
        ) / len(ours),
        "problems": len(ours), "sample": len(pairs), "pairs": num_pairs,
    }  # fmt: skip


def main() -> int:
    """Measure, print, and say whether the goal is met."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kpod-bench-") as name:
        root = Path(name)
        task = make_task(root, num_problems=options.problems)
        found = measure(task, root, num_pairs=options.pairs, num_sampled=options.sample)
    is_met = found["times_low_90"] >= GOAL and found["equal_frac"] == 1
    print(json.dumps({**found, "goal": GOAL, "is_met": is_met}, indent=2, sort_keys=True))
    if options.json is not None:
        options.json.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
