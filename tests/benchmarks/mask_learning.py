"""What mask learning makes of the quickstart's rationales: the measured statements 8 and 9 of the method, and its seconds.

    python tests/benchmarks/mask_learning.py [--seeds 5] [--alphas 0 0.5 4] [--problems 2000] [--base FOLDER] [--set NAME=VALUE …] [--show 2]

Word problems of two and three steps with their worked solutions, the shipped base as student, a copy of it as predictor.
For every alpha and seed: mean weights by class, answer nats by quarter of the prefix on 300 VALIDATION problems (masks drawn as in
training, seed apart), the keep rate, CPU seconds on one thread. Statement 8: mean w rises as alpha -> 0 and falls with a large
alpha. Statement 9: mean w of digits and operators > of all > of fillers. Reported whatever they say.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


class Task(NamedTuple):
    """What is weighed: located models, and the two splits as (questions, rationales)."""

    files: Any
    train: tuple[list[Any], list[Any]]
    validation: tuple[list[Any], list[Any]]


class Result(NamedTuple):
    """One run of mask learning."""

    means: Any
    quarters: list[float]
    keep_rate: float
    seconds: float
    lines: list[str]
    tally: Any


def make_task(base: Path, *, num_train: int, num_validation: int) -> Task:
    from kpod.runner import Rationale
    from kpod.stages._lm.artifact import ModelFiles
    from kpod.stages._lm.checkpoint_folder import checkpoint_spec
    from kpod.stages.data import word_problems
    from kpod.stages.weighting._learning import Files
    from tests.stages.fakes import FakeContext

    sizes = word_problems.Config(num_train=num_train, num_validation=num_validation, num_test=1)
    data: FakeContext[Any] = FakeContext(config=sizes)
    word_problems.WordProblems().run(data)

    def split(name: str) -> tuple[list[Any], list[Any]]:
        questions = data.rows(name)
        return questions, [Rationale.make(q.id, q.solution, teacher="reference") for q in questions]

    model = ModelFiles(base, None, checkpoint_spec(base, is_pointer=False), "base")
    return Task(Files(model, model), split("train"), split("validation"))


def run(task: Task, config: Any, *, seed: int, num_shown: int) -> Result:
    from kpod.stages.weighting._diagnostics import mean_weights
    from kpod.stages.weighting._learning import encode, learn, weights_of
    from tests.stages.fakes import FakeContext

    items = encode(task.files, *task.train)
    ctx: FakeContext[Any] = FakeContext(config=config, seed=seed)
    start = time.process_time()
    learned = learn(ctx, task.files, items)
    rows = list(weights_of(learned.module, items))
    seconds = time.process_time() - start
    questions, rationales = task.train
    means = mean_weights(zip(questions, rationales, rows, strict=True))
    quarters, keep_rate = validate(task, learned.module, config)
    lines = [
        " ".join(
            f"{one.text[a:b].strip()}:{w:.2f}" for (a, b), w in zip(row.spans, row.weights, strict=True)
        )
        for one, row in list(zip(rationales, rows, strict=True))[:num_shown]
    ]  # fmt: skip
    return Result(means, quarters, keep_rate, seconds, lines, learned.tally)


def validate(task: Task, module: Any, config: Any) -> tuple[list[float], float]:
    """Answer nats by quarter of the prefix, and keep rate, on the validation problems whose tokens were all trained on."""
    import torch

    from kpod.stages.weighting._draws import draw
    from kpod.stages.weighting._learning import encode
    from kpod.stages.weighting._objective import Objective, losses
    from kpod.stages.weighting._training import EpochTally

    items = [
        item
        for item in encode(task.files, *task.validation)
        if all(token in module.row_of for token in item.token_ids)
    ]
    objective = Objective(
        alpha=config.alpha, temperature=config.temperature, samples=config.samples,
        mask_on=config.mask_on, normalise=config.normalise, mean_tokens=1.0,
    )  # fmt: skip
    tally = EpochTally()
    with torch.no_grad():
        for start in range(0, len(items), 32):
            group = items[start : start + 32]
            draws = [draw(i.id, i.num_tokens, seed=1 << 40, epoch=1, prefixes=8) for i in group]
            tally.add(group, draws, losses(module, group, draws, objective))
    return [value or 0.0 for value in tally.quarters], tally.kept / tally.tokens


def told(results: Sequence[Result]) -> str:
    """Means over seeds, with the standard deviation where there are several."""

    def one(values: Sequence[float]) -> str:
        mean = statistics.fmean(values)
        return f"{mean:.3f}" + (f"±{statistics.stdev(values):.3f}" if len(values) > 1 else "")

    classes = [
        f"{name} {one([getattr(r.means, name) for r in results])}"
        for name in results[0].means._fields
        if results[0].means._asdict()[name] is not None
    ]
    quarters = [one([r.quarters[q] for r in results]) for q in range(4)]
    return (
        f"w: {', '.join(classes)}\n    validation nats by quarter {' '.join(quarters)}"
        f"  keep rate {one([r.keep_rate for r in results])}  {one([r.seconds for r in results])} s CPU"
    )


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`name=value` as the Config takes it."""
    import ast

    from kpod.stages.weighting.mask_learning import Config

    known = get_type_hints(Config)
    values = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        assert name in known, f"{name} is no setting of weighting.mask_learning"
        try:
            values[name] = ast.literal_eval(text)
        except ValueError:
            values[name] = text
    return values


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.0, 0.5, 4.0])
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--base", type=Path, default=ROOT / "stages/model/quickstart_base")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--show", type=int, default=0)
    arguments = parser.parse_args()

    from kpod.stages.weighting.mask_learning import Config

    task = make_task(arguments.base, num_train=arguments.problems, num_validation=300)
    print(f"{arguments.problems} problems, {arguments.seeds} seed(s) {' '.join(arguments.set)}")
    for alpha in arguments.alphas:
        config = Config(**{"alpha": alpha, "precision": "fp32", **settings(arguments.set)})
        results = [
            run(task, config, seed=seed, num_shown=arguments.show)
            for seed in range(arguments.seeds)
        ]
        print(f"alpha {alpha:g}  {told(results)}", flush=True)
        for line in results[0].lines:
            print(f"      {line}", flush=True)


if __name__ == "__main__":
    main()
