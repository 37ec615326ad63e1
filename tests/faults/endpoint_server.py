"""The server that `Endpoint` starts: chat completions with faults, plain asyncio, run as a script in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import socket
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

ANSWERED = frozenset({"empty", "length", "content_filter", "wrong_model"})


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
    parser.add_argument("socket", type=int, help="number of the file that it listens at")
    parser.add_argument("settings", type=json.loads)
    arguments = parser.parse_args()
    server = Server(**arguments.settings)
    at = socket.socket(fileno=arguments.socket)
    listening = await asyncio.start_server(server.serve, sock=at, limit=2**24)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
