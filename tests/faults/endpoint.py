"""An OpenAI-compatible endpoint that fails on purpose: a process of its own, plain asyncio, seeded, counting what it answers.

    with Endpoint(faults={"429": 0.1, "stall": 0.01}, latency_s=0.01) as endpoint:
        … urls=(endpoint.url,) …
        endpoint.stats()["answered"]

Faults, each with its share of the chat requests: 429 (bare), 429_after (Retry-After in seconds), 429_ms (retry-after-ms), 429_date
(Retry-After as a date), 500, 503, reset, half_body, invalid_json, no_choices, empty, length, content_filter, stall, wrong_model.
An answer is made from the last message alone, so that equal questions get equal texts.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("endpoint_server.py")


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
        # Held until the server has it: a port that was let go may be taken by another test.
        self._listening: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self._port = self._listening.getsockname()[1]
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
        listening = self._listening or socket.create_server(("127.0.0.1", self._port))
        self._listening = None
        with listening:
            number = listening.fileno()
            words = [sys.executable, str(SERVER), str(number), json.dumps(self.settings)]
            self._process = subprocess.Popen(words, pass_fds=[number])
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
