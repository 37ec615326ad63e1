"""An OpenAI-compatible endpoint that fails on purpose: a process of its own, plain asyncio, seeded, counting what it answers.

    with Endpoint(faults={"429": 0.1, "stall": 0.01}, latency_s=0.01) as endpoint:
        … urls=(endpoint.url,) …
        endpoint.stats()["answered"]

Faults, each with its share of the chat requests: 429 (bare), 429_after (Retry-After in seconds), 429_ms (retry-after-ms), 429_date
(Retry-After as a date), 500, 503, reset, half_body, invalid_json, no_choices, empty, length, content_filter, stall, wrong_model.
An answer is made from the last message alone, so that equal questions get equal texts.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

ANSWERED = frozenset({"empty", "length", "content_filter", "wrong_model"})


class Endpoint:
    """Starts the server and stops it; `stats` is what it counted.

    Args:
        faults: share of chat requests by fault.
        latency_s: before an answer.
        models: what it serves.
        key: what it wants to be signed with; None: anything.
        settings: others, as `Server` takes them.
    """

    def __init__(self, **settings: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.settings = settings
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Endpoint:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = [sys.executable, str(Path(__file__)), str(self._port), json.dumps(self.settings)]
        self._process = subprocess.Popen(words)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                self.stats()
            except OSError:
                assert self._process.poll() is None, "the endpoint died"
            else:
                return
        raise AssertionError("the endpoint does not listen")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stats(self) -> dict[str, Any]:
        """What it counted: requests, answered (by fault or "good"), choices, texts (content -> times answered), open_most."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self._port}/stats", timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found


class Server:
    """The server itself."""

    def __init__(
        self,
        *,
        faults: dict[str, float] | None = None,
        latency_s: float = 0.0,
        models: tuple[str, ...] = ("teacher",),
        key: str | None = None,
        seed: int = 0,
        most_choices: int = 100,
        has_list: bool = True,
        has_usage: bool = True,
        bad: str = "BADQUESTION",
        stall_s: float = 60.0,
        most_open: int | None = None,
        keeps_bodies: bool = False,
    ) -> None:
        self.faults = faults or {}
        self.latency_s = latency_s
        self.models = list(models)
        self.key = key
        self.draw = random.Random(seed)
        self.most_choices = most_choices
        self.has_list = has_list
        self.has_usage = has_usage
        self.bad = bad
        self.stall_s = stall_s
        self.most_open = most_open
        self.keeps_bodies = keeps_bodies
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.keys_seen: set[str] = set()
        self.num_requests = self.num_choices = self.num_open = self.open_most = 0
        self.busy_s, self.first_at, self.last_at = 0.0, 0.0, 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, many requests."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                if not await self.take(head, body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def take(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """One request; False where the connection ends with it."""
        path = head.split(b" ")[1].decode()
        signed = re.search(rb"authorization: *bearer (\S+)", head, re.IGNORECASE)
        if path == "/stats":
            return await send(writer, 200, self.stats())
        sent_key = signed[1].decode() if signed else ""
        self.keys_seen.add(sent_key)
        if self.key is not None and sent_key != self.key:
            says = f"Incorrect API key provided: {sent_key}"
            return await send(writer, 401, {"error": {"message": says, "code": "invalid_api_key"}})
        if path.endswith("/models"):
            if not self.has_list:
                return await send(writer, 404, {"error": {"message": "not found"}})
            return await send(writer, 200, {"data": [{"id": name} for name in self.models]})
        self.num_requests += 1
        self.num_open += 1
        self.open_most = max(self.open_most, self.num_open)
        started_at = time.monotonic()
        self.first_at = self.first_at or started_at
        try:
            return await self.chat(json.loads(body), writer)
        finally:
            self.num_open -= 1
            self.last_at = time.monotonic()
            self.busy_s += self.last_at - started_at

    async def chat(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """A chat request, answered or spoilt."""
        if self.keeps_bodies:
            self.bodies.append(asked)
        error = self.mistake(asked)
        if error:
            self.refused[str(error[0])] += 1
            says = {"message": error[1], "code": error[2]}
            return await send(writer, error[0], {"error": says})
        fault = self.fault()
        if self.most_open is not None and self.num_open > self.most_open:
            fault = "429"
        if self.latency_s and not fault.startswith("429"):
            await asyncio.sleep(self.latency_s)
        if fault == "good" or fault in ANSWERED:
            return await self.answer(asked, fault, writer)
        self.refused[fault] += 1
        return await self.spoil(asked, fault, writer)

    def mistake(self, asked: dict[str, Any]) -> tuple[int, str, str] | None:
        """What is wrong with a request, if anything."""
        if asked["model"] not in self.models:
            return 404, f"The model `{asked['model']}` does not exist", "model_not_found"
        if self.bad in asked["messages"][-1]["content"]:
            return 400, "maximum context length is 4096 tokens", "context_length_exceeded"
        return None

    def fault(self) -> str:
        """What becomes of the next request."""
        at = self.draw.random()
        for name, share in self.faults.items():
            at -= share
            if at < 0:
                return name
        return "good"

    async def answer(self, asked: dict[str, Any], fault: str, writer: asyncio.StreamWriter) -> bool:
        """A whole chat.completion object."""
        number = min(asked.get("n", 1), self.most_choices)
        texts = ["" if fault == "empty" else said(asked, index) for index in range(number)]
        finish = fault if fault in {"length", "content_filter"} else "stop"
        self.answered[fault] += 1
        self.num_choices += number
        self.texts[content(asked)] += 1
        body = {
            "object": "chat.completion",
            "model": "another-model" if fault == "wrong_model" else asked["model"],
            "choices": [
                {
                    "index": i,
                    "finish_reason": finish,
                    "message": {"role": "assistant", "content": text},
                }
                for i, text in reversed(list(enumerate(texts)))
            ],
        }
        if self.has_usage:
            body["usage"] = {"prompt_tokens": 20, "completion_tokens": 10 * number}
        return await send(writer, 200, body)

    async def spoil(self, asked: dict[str, Any], fault: str, writer: asyncio.StreamWriter) -> bool:
        """Anything but an answer."""
        whole = json.dumps({"model": asked["model"], "choices": []}).encode()
        if fault.startswith("429"):
            return await send(writer, 429, {"error": {"message": "slow down"}}, HEADERS[fault]())
        if fault in {"500", "503"}:
            return await send(writer, int(fault), {"error": {"message": "sorry"}})
        if fault == "stall":
            await asyncio.sleep(self.stall_s)
            return False
        if fault in {"invalid_json", "no_choices"}:
            return await send(writer, 200, b'{"choices": [{' if fault == "invalid_json" else whole)
        if fault == "half_body":
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(whole)}\r\n\r\n"
            writer.write(head.encode() + whole[: len(whole) // 2])
            await writer.drain()
        else:
            assert fault == "reset", f"unknown fault {fault}"
            writer.transport.abort()
        return False

    def stats(self) -> dict[str, Any]:
        """What was counted."""
        return {
            "requests": self.num_requests,
            "answered": sum(self.answered.values()),
            "by_answer": self.answered,
            "refused": self.refused,
            "choices": self.num_choices,
            "texts": self.texts,
            "open_most": self.open_most,
            "bodies": self.bodies,
            "keys_seen": sorted(self.keys_seen),
            "mean_open": self.busy_s / max(1e-9, self.last_at - self.first_at),
        }


HEADERS: dict[str, Any] = {
    "429": dict,
    "429_after": lambda: {"retry-after": "0.005"},
    "429_ms": lambda: {"retry-after-ms": "5"},
    "429_date": lambda: {
        "retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    },
}


def content(asked: dict[str, Any]) -> str:
    """The name of a request by what it asks: messages, seed and n."""
    facts = json.dumps([asked["messages"], asked.get("seed"), asked.get("n")], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def said(asked: dict[str, Any], index: int) -> str:
    """The text to a question: the sum of its numbers; samples differ by their seed and index."""
    question = asked["messages"][-1]["content"]
    total = sum(int(number) for number in re.findall(r"\d+", question.partition("\n\n")[0]))
    mark = f" (sample {asked['seed'] + index})" if "seed" in asked else ""
    return f"Adding all numbers{mark}.\nThe answer is {total}."


async def send(
    writer: asyncio.StreamWriter, status: int, body: object, headers: dict[str, str] | None = None
) -> bool:
    """One answer; the connection stays."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        "content-type: application/json",
        f"content-length: {len(content)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
    await writer.drain()
    return True


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("settings", type=json.loads)
    arguments = parser.parse_args()
    server = Server(**arguments.settings)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", arguments.port, limit=2**24)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
