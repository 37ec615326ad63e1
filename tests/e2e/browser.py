"""A thin driver of Chromium: one headless browser, told over a pipe (the DevTools protocol), with the standard library alone.

Source of the protocol: chromedevtools.github.io/devtools-protocol; over a pipe each message is JSON that ends with a NUL.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--mute-audio",
    "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads at 3 and writes at 4.
_LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
_ANSWER_WITHIN_S = 60.0
_KEYS: dict[str, dict[str, Any]] = {
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    " ": {"code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
}


def chromium() -> str:
    """The browser of this machine; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(NAMES)}")
    return found


@dataclass(slots=True)
class Page:
    """A page that was opened, and what went on in it.

    Args:
        complaints: errors and warnings: of scripts, of the console, of the content policy.
        requests: addresses that were asked for, but for the page itself and what it holds as data.
        dialogs: what alerts said.
    """

    browser: Browser
    session: str
    address: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and take its answer."""
        return self.browser.call(method, session=self.session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON can hold it; what it raises is raised here."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key, down and up."""
        known = {"key": key, **_KEYS[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{**known, "text": ""})

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int = 900) -> None:
        """The window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)  # fmt: skip

    def media(self, *, scheme: str = "light", kind: str = "screen") -> None:
        """What the page is shown on: light or dark, screen or print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def picture(self, path: Path, *, height: int | None = None) -> None:
        """A PNG of the page from its top: of all of it, or of so many pixels."""
        size = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": height or size[1], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def paper(self, path: Path) -> None:
        """A PDF of the page."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF")["data"]))

    def hear(self, method: str, told: Mapping[str, Any]) -> None:
        """Note an event."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning", "assert"}:  # fmt: skip
            self.complaints.append(str([part.get("value") for part in told["args"]]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if url.partition("#")[0] != self.address and not url.startswith("data:"):
                self.requests.append(url)
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(told["message"])
            self.browser.send("Page.handleJavaScriptDialog", session=self.session, accept=True)


class Browser:
    """One process; close it at the end."""

    def __init__(self, folder: Path) -> None:
        """Start it with a profile of its own in the folder."""
        reads, self._write = _pipe()
        self._read, writes = _pipe()
        words = [chromium(), *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        launch = [sys.executable, "-c", _LAUNCH, str(reads), str(writes), *words]
        self._process = subprocess.Popen(
            launch, pass_fds=(reads, writes), env={**os.environ, "HOME": str(folder)}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        self._waiting = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def open(self, path: Path, *, width: int = 1200) -> Page:
        """Open a file and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, path.resolve().as_uri())
        self._pages[session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width)
        page.media()
        page.call("Page.navigate", url=page.address)
        page.evaluate("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")  # fmt: skip
        return page

    def send(self, method: str, *, session: str = "", **parameters: Any) -> int:
        """Send a command; its number."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        return self._number

    def call(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command and take its answer; events that come before it are noted by their pages."""
        number = self.send(method, session=session, **parameters)
        while True:
            message = self._message()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            page = self._pages.get(message.get("sessionId", ""))
            if page is not None and "method" in message:
                page.hear(message["method"], message["params"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._read], [], [], _ANSWER_WITHIN_S)
            data = os.read(self._read, 1 << 16) if ready else b""
            assert data, f"the browser said nothing within {_ANSWER_WITHIN_S:.0f} s, or ended"
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """End it, and the processes that it started."""
        os.close(self._write)
        os.close(self._read)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _pipe() -> tuple[int, int]:
    """Both ends, read end first, at numbers that are not those the browser has for its own."""
    low = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low]
    for end in low:
        os.close(end)
    return ends[0], ends[1]
