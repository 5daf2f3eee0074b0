"""Driver of a headless Chromium by the DevTools protocol over a pipe. Messages are JSON, each ended by a NUL byte.

https://chromedevtools.github.io/devtools-protocol/"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.players.tools import direct, tool

SECONDS = 120.0
"""Timeout in seconds of one call of a DevTools method."""
END_SECONDS = 60.0

OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # Chromium does not start as root without this option
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
)
PIPE = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
"""Chromium reads messages from file descriptor 3 and writes messages to 4."""


class Page:
    """A tab of the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def go(self, url: str) -> None:
        answer = self._browser.call("Page.navigate", {"url": url}, self._session)
        assert "errorText" not in answer, answer
        self.run("document.readyState != 'loading' || new Promise(done => addEventListener('DOMContentLoaded', done))")

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, or the value to which its promise resolves. Raises
        AssertionError if the expression throws."""
        answer = self._browser.call(
            "Runtime.evaluate",
            {"expression": script, "awaitPromise": True, "returnByValue": True},
            self._session,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")


class Browser:
    """A running Chromium, controlled through its pipe. `log_file` contains its stderr."""

    def __init__(self, to: IO[bytes], answers: IO[bytes], log_file: Path) -> None:
        self._to = to
        self._answers = answers
        self._log_file = log_file
        self._read = bytearray()
        self._last_id = 0

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """Open a new tab. Yields the tab, and closes it at the end of the block."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        try:
            yield Page(self, session)
        finally:
            self.call("Target.closeTarget", {"targetId": target})

    def call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result. Ignores events that arrive before the
        result."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        deadline = time.monotonic() + SECONDS
        while (answer := self._receive(method, deadline)).get("id") != self._last_id:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self, waits_for: str, deadline: float) -> dict[str, Any]:
        """Wait for the next message of Chromium, and return the message. Raises AssertionError at `deadline`, or if
        Chromium has ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\0" not in self._read:
                assert selector.select(max(0.0, deadline - time.monotonic())), f"{waits_for}: no answer"
                data = os.read(self._answers.fileno(), 65536)
                assert data, f"{waits_for}: Chromium has ended: {self._log_file.read_text(errors='replace')}"
                self._read += data
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium with a new profile during the block. Closes the browser at the end of the block, and kills the
    processes that remain."""
    with tempfile.TemporaryDirectory(prefix="serverpy-chromium-", ignore_cleanup_errors=True) as home:
        log_file = Path(home, "log")
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", PIPE, tool("chromium"), *OPTIONS, f"--user-data-dir={home}/profile"],
                env={**direct(), "HOME": home},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                browser = Browser(process.stdin, process.stdout, log_file)
                yield browser
                browser.call("Browser.close", {})
                process.wait(END_SECONDS)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
