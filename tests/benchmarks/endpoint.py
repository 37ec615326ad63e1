"""What teacher.openai adds to the official client: time, idle slots, memory.

    python tests/benchmarks/endpoint.py [--pairs 5] [--requests 2000] [--records 100000]

Goals (issue 4): at most 1 ms CPU a request and 10 % wall over a bare loop of the async client in the same run (2,000 requests, 64 at
once, interleaved pairs); at 1 s latency and 64 slots the slots are at least 90 % busy; flat memory over 100,000 records.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kpod.runner import Question  # noqa: E402 - the line above finds tests/
from kpod.runner.texts import GeneratedText  # noqa: E402
from kpod.stages.teacher.openai import Config, OpenAi  # noqa: E402
from tests.faults.endpoint import Endpoint  # noqa: E402
from tests.stages.fakes import FakeContext  # noqa: E402

SLOTS = 64
LATENCY_S = 0.1  # of a fast server


class Cost(NamedTuple):
    """Of a request: CPU milliseconds; of all: wall seconds."""

    cpu_ms: float
    wall_s: float


def main() -> None:
    """Measure all three; the exit code tells whether a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--records", type=int, default=100_000)
    arguments = parser.parse_args()
    is_met = [
        _overhead(arguments.pairs, arguments.requests),
        _busy_slots(),
        _flat_memory(arguments.records),
    ]
    sys.exit(0 if all(is_met) else 1)


def _questions(number: int) -> list[Question]:
    return [
        Question.make(f"Tom has {n} apples and buys {n % 7} more. " * 3, kind="numeric", answer=None, split="train", source="bench")
        for n in range(number)
    ]  # fmt: skip


def _overhead(pairs: int, requests: int) -> bool:
    """Ours against the bare client, in turn."""
    questions = _questions(requests)
    bare, ours = [], []
    with Endpoint(latency_s=LATENCY_S) as endpoint:
        _bare(endpoint.url, questions[:100])
        for _ in range(pairs):
            bare.append(_bare(endpoint.url, questions))
            ours.append(_ours(endpoint.url, questions))
    more_ms = median(o.cpu_ms - b.cpu_ms for o, b in zip(ours, bare, strict=True))
    more_wall = median(o.wall_s / b.wall_s - 1 for o, b in zip(ours, bare, strict=True))
    print(
        f"  {requests:,} requests, {SLOTS} at once, {LATENCY_S * 1000:.0f} ms latency, median of {pairs} pairs:"
        f" client alone {median(b.cpu_ms for b in bare):.2f} CPU ms a request, {median(b.wall_s for b in bare):.1f} s;"
        f" ours {median(o.cpu_ms for o in ours):.2f} ms, {median(o.wall_s for o in ours):.1f} s:"
        f" {more_ms:+.2f} ms (goal 1), wall {more_wall:+.1%} (goal 10 %)"
    )
    return more_ms <= 1 and more_wall <= 0.1


def _bare(url: str, questions: list[Question]) -> Cost:
    """A loop as people write it: a semaphore and the client."""
    from openai import AsyncOpenAI

    async def go() -> None:
        slots = asyncio.Semaphore(SLOTS)
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def ask(text: str) -> str:
                async with slots:
                    answer = await client.chat.completions.create(
                        model="teacher", max_tokens=512, temperature=0.0, messages=[{"role": "user", "content": text}]
                    )  # fmt: skip
                return answer.choices[0].message.content or ""

            await asyncio.gather(*(ask(question.text) for question in questions))

    return _timed(lambda: asyncio.run(go()), len(questions))


def _ours(url: str, questions: list[Question]) -> Cost:
    """The stage, with store and ledger on the disk."""
    config = Config(urls=(url,), model="teacher", concurrency=SLOTS)
    with tempfile.TemporaryDirectory() as folder:
        ctx = FakeContext(config=config, inputs={"questions": questions}, root=Path(folder))
        return _timed(lambda: OpenAi().run(ctx), len(questions))


def _timed(act: Any, number: int) -> Cost:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    act()
    return Cost((time.process_time() - cpu_s) * 1000 / number, time.perf_counter() - wall_s)


def _busy_slots() -> bool:
    """How many of 64 requests the server holds on average at a second each; the bare client tells what the machine allows."""
    found = []
    for act in (_bare, _ours):
        with Endpoint(latency_s=1.0) as endpoint:
            act(endpoint.url, _questions(SLOTS * 15))
            found.append(endpoint.stats()["mean_open"] / SLOTS)
    print(
        f"  1 s latency, {SLOTS} slots, as the server sees it: {found[1]:.1%} busy (goal 90 %), client alone {found[0]:.1%}"
    )
    return bool(found[1] >= 0.9)


@dataclass(slots=True)
class _Counter:
    count: int = 0

    def add(self, _record: Any) -> None:
        self.count += 1


class _Unkept(FakeContext[Config]):
    """A context that keeps no record that is written, as a real one writes them to a file."""

    written = _Counter()

    @contextmanager
    def write(self, output: Any) -> Iterator[Any]:
        yield self.written


def _flat_memory(records: int) -> bool:
    """Peak memory of looking up, booking and writing out many texts, beside a tenth of them."""
    peaks = []
    for number in (records // 10, records):
        questions = _questions(number)
        with tempfile.TemporaryDirectory() as folder:
            config = Config(urls=("http://127.0.0.1:1/v1",), model="teacher")
            ctx = _Unkept(config=config, inputs={"questions": questions}, root=Path(folder))
            keys = [line.keys for line in OpenAi().batch_requests(ctx)]
            before_kb = _resident_kb()
            start_s = time.process_time()
            _book(ctx, keys)
            booked_s = time.process_time() - start_s
            keys.clear()
            OpenAi().run(ctx)
            peaks.append((_resident_kb() - before_kb) / 1024)
            print(
                f"  {number:,} records: {booked_s / number * 1000:.3f} CPU ms each for ledger and store;"
                f" resident memory grew by {peaks[-1]:.1f} MB (peak of the process {_peak_mb():.0f} MB)"
            )
    return peaks[1] <= peaks[0] + 20


def _book(ctx: FakeContext[Config], keys: list[tuple[str, ...]]) -> None:
    """Every request sent and answered, as a pass would."""
    text = GeneratedText(
        text="step by step " * 30, finish="stop", prompt_tokens=50, completion_tokens=90
    )
    ledger = ctx.ledger
    for start in range(0, len(keys), 32):
        some = keys[start : start + 32]
        ctx.records.claim(key for names in some for key in names)
        for names in some:
            number = ledger.sent(names, endpoint="bench", model="teacher", attempt=1)
            ledger.answered(
                number, dict.fromkeys(names, text), provenance={"model": "teacher"}, prompt_tokens=50,
                completion_tokens=90, usd=None, seconds=1.0,
            )  # fmt: skip


def _resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1024


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
