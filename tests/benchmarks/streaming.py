"""Memory and CPU time a token of a student's training data, from 1,000 to 100,000 examples.

    python tests/benchmarks/streaming.py [--sizes 1000 10000 100000] [--json FILE]

The quickstart's tokenizer, model shape and problems (data.word_problems), with token weights and a progressive plan in
files, as a run has them; one process a size, one thread. `encode`: inputs read, joined by id, encoded and written;
`read`: what an epoch trains, example by example in the order of training; `train`: optimizer steps of 32 sequences.
`growth_mb`: peak of encoding and reading over what the process held before, after a training on 64 examples
(Linux: /proc/self/status); `train_mb`: the same of the optimizer steps, which depends on their batches alone. Goals (issue 4/5: a cost a token that
is flat from 1k to 100k examples): at most 100 bytes of memory for each example more, and no more than 1.15 times the
CPU time a token of the smallest size (train: the median over its steps; the others are one reading).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

BATCH_SIZE = 32
EPOCHS = 4
NUM_STEPS = 20
WARM_EXAMPLES = 64
MOST_BYTES = 100
MOST_TIMES = 1.15


def make_files(root: Path, *, size: int) -> None:
    """The model's folder, and one file of records an input."""
    import orjson

    from kpod.runner import Rationale
    from kpod.stages.data import word_problems
    from kpod.stages.data._phrases import vocabulary
    from kpod.stages.model import from_config
    from tests.stages.fakes import FakeContext

    words = root / "words.txt"
    words.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    made = FakeContext(
        config=from_config.Config(words=str(words)), sources={"words": words}, root=root
    )
    from_config.FromConfig().run(made)
    made.folders["model"].rename(root / "model")
    data = FakeContext(config=word_problems.Config(num_train=size, num_validation=0, num_test=1))
    word_problems.WordProblems().run(data)
    stream = random.Random(0)
    names = ("questions", "rationales", "weights", "curriculum")
    files = {name: (root / f"{name}.jsonl").open("wb") for name in names}
    for question in data.rows("train"):
        rationale = Rationale.make(question.id, question.solution, teacher="reference")
        rows = (question, rationale, *_lessons(rationale, stream))
        for name, row in zip(names, rows, strict=True):
            files[name].write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    for file in files.values():
        file.close()


def _lessons(rationale: Any, stream: random.Random) -> tuple[Any, Any]:
    """Weights of its words, and a plan that gives one step less at every epoch."""
    from kpod.runner import Curriculum, TokenWeights

    spans = tuple(match.span() for match in re.finditer(r"[^\s.]+|\.", rationale.text))
    ends = [match.end() for match in re.finditer(r"\. |\.$", rationale.text)]
    given = tuple(max(0, len(ends) - 1 - epoch) for epoch in range(EPOCHS))
    return (
        TokenWeights(
            rationale_id=rationale.id, spans=spans, weights=tuple(stream.random() for _ in spans)
        ),
        Curriculum(
            rationale_id=rationale.id, num_steps=len(ends), given=given,
            cut=tuple(ends[count - 1] if count else 0 for count in given),
        ),
    )  # fmt: skip


def streaming_context(root: Path, *, size: int) -> Any:
    """A context that reads its inputs from files, row by row, as the runner's does."""
    import orjson

    from kpod.stages.student._settings import Config
    from tests.stages.fakes import FakeContext

    class FileContext(FakeContext[Config]):
        def read(self, source: Any) -> Iterator[Any]:
            with (root / f"{source.name}.jsonl").open("rb") as lines:
                for line in islice(lines, size):
                    yield source.record.from_row(orjson.loads(line))

        def is_wired(self, source: Any) -> bool:
            return (root / f"{source.name}.jsonl").exists()

        def progress(self, done: float, total: float, *, unit: str = "", **facts: float) -> None:
            """Nothing is kept."""

    config = Config(method="full", epochs=EPOCHS, batch_size=BATCH_SIZE, precision="fp32")
    return FileContext(config=config, root=root / f"run-{size}")


def work(root: Path, *, size: int) -> dict[str, float]:
    """CPU microseconds a token of everything that is done with so many examples."""
    from kpod.stages._lm.artifact import ModelFiles, read_spec
    from kpod.stages.student._material import gather
    from kpod.stages.student.causal_lm import CausalLm

    ctx = streaming_context(root, size=size)
    folder = root / "model"
    files = ModelFiles(folder, None, read_spec(folder), "model")
    before_mb = restart_peak()
    start = time.process_time()
    material = gather(ctx, CausalLm(), files)
    encoded_s = time.process_time() - start
    examples = material.encoded.examples
    num_tokens = 0
    start = time.process_time()
    for step in range(material.plan.steps_per_epoch):
        for index in material.plan.indices(step):
            num_tokens += examples[index].passage(1).num_tokens
    read_s = time.process_time() - start
    growth_mb = memory_mb("VmHWM") - before_mb
    before_mb = restart_peak()
    train_us = train_steps(ctx, files, material)
    return {
        "tokens": num_tokens,
        "growth_mb": growth_mb,
        "train_mb": memory_mb("VmHWM") - before_mb,
        "encode_us": encoded_s / num_tokens * 1e6,
        "read_us": read_s / num_tokens * 1e6,
        "train_us": train_us,
    }


def train_steps(ctx: Any, files: Any, material: Any) -> float:
    """CPU microseconds a token of some optimizer steps of an untrained model: the median over steps."""
    from kpod.stages._lm.loading import load_causal_lm
    from kpod.stages.student._loop import train
    from kpod.stages.student._loss import take_apart
    from kpod.stages.student._monitor import Monitor
    from kpod.stages.student._schedule import Schedule
    from kpod.stages.student._training import Training

    examples = material.encoded.examples
    plan = material.plan.of(min(NUM_STEPS, material.plan.num_steps))
    student = take_apart(
        load_causal_lm(files, precision="fp32", device="cpu"),
        precision="fp32",
        probe_ids=examples[0].prompt_ids[:8],
    )
    schedule = Schedule(name="constant", peak=1e-3, warmup_frac=0.0, num_steps=plan.num_steps)
    training = Training(
        plan=plan, schedule=schedule, normalise="targets", weight_decay=0.0, grad_clip=1.0, micro_batch_tokens=4096,
        checkpoint_every_s=1e9,
    )  # fmt: skip
    rates: list[float] = []

    class Clock(Monitor):
        last = time.process_time()

        def after(self, done: Any, tally: Any, **more: Any) -> dict[str, float]:
            now = time.process_time()
            rates.append((now - self.last) / done.num_tokens * 1e6)
            self.last = now
            return super().after(done, tally, **more)

    train(ctx, student, examples, training, monitor=Clock())
    return statistics.median(rates[1:] or rates)


def measure(root: Path, *, size: int) -> dict[str, float]:
    """One size, in this process."""
    import torch

    torch.set_num_threads(1)
    work(root, size=WARM_EXAMPLES)
    return {
        "examples": size,
        **{key: round(value, 3) for key, value in work(root, size=size).items()},
    }


def memory_mb(what: str) -> float:
    """VmRSS: resident memory now; VmHWM: its peak."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None, "measured on Linux"
    return int(found[1]) / 1024


def restart_peak() -> float:
    """Let the peak begin again at what is held now, which is returned in MB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return memory_mb("VmRSS")


def judged(rows: list[dict[str, float]]) -> dict[str, Any]:
    """The rows beside the goals."""
    first, last = rows[0], rows[-1]
    more = max(1, last["examples"] - first["examples"])
    a_row = (last["growth_mb"] - first["growth_mb"]) * 2**20 / more
    times = {name: last[name] / first[name] for name in ("encode_us", "read_us", "train_us")}
    return {
        "sizes": rows,
        "bytes_an_example": round(a_row, 1),
        "times_the_smallest": {name: round(value, 3) for name, value in times.items()},
        "goals": {"bytes_an_example": MOST_BYTES, "times_the_smallest": MOST_TIMES},
        "is_met": a_row <= MOST_BYTES and all(value <= MOST_TIMES for value in times.values()),
    }


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.child, size=options.sizes[0])))
        return 0
    rows = []
    with tempfile.TemporaryDirectory(prefix="kpod-bench-") as name:
        make_files(Path(name), size=max(options.sizes))
        for size in sorted(options.sizes):
            command = [sys.executable, __file__, "--child", name, "--sizes", str(size)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append(json.loads(out.splitlines()[-1]))
            print(json.dumps(rows[-1], sort_keys=True), file=sys.stderr, flush=True)
    found = judged(rows)
    print(json.dumps(found, indent=2, sort_keys=True))
    if options.json is not None:
        options.json.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")
    return 0 if found["is_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
