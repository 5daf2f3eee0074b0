"""Driver of a headless Firefox by the WebDriver BiDi protocol: JSON messages over a WebSocket.

https://w3c.github.io/webdriver-bidi/"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.aio import wait_for
from tests.players.tools import direct, tool

SECONDS = 120.0
"""Timeout in seconds of one call of a WebDriver BiDi method."""
END_SECONDS = 60.0

PREFERENCES = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.blocking_policy": 0,
    "media.autoplay.default": 0,
    "media.volume_scale": "0.0",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "services.settings.server": "http://127.0.0.1:1",
    "toolkit.telemetry.enabled": False,
}


class Page:
    """A tab of the browser."""

    def __init__(self, browser: Browser, context: str) -> None:
        self._browser = browser
        self._context = context

    def go(self, url: str) -> None:
        self._browser.call("browsingContext.navigate", {"context": self._context, "url": url, "wait": "interactive"})

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, or the value to which its promise resolves. Raises
        AssertionError if the expression throws."""
        answer = self._browser.call(
            "script.evaluate",
            {
                "expression": f"Promise.resolve({script}).then(value => JSON.stringify([value]))",
                "target": {"context": self._context},
                "awaitPromise": True,
            },
        )
        assert answer["type"] == "success", answer
        (value,) = json.loads(answer["result"]["value"])
        return value


class Browser:
    """A running Firefox, controlled through its WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last_id = 0

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """Open a new tab. Yields the tab, and closes it at the end of the block."""
        context = self.call("browsingContext.create", {"type": "tab"})["context"]
        try:
            yield Page(self, context)
        finally:
            self.call("browsingContext.close", {"context": context})

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Call a method of the WebDriver BiDi protocol and return its result. Ignores events that arrive before the
        result."""
        self._last_id += 1
        self._connection.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        deadline = time.monotonic() + SECONDS
        while True:
            answer = json.loads(self._connection.recv(timeout=max(0.0, deadline - time.monotonic())))
            if answer.get("id") == self._last_id:
                break
        assert answer["type"] == "success", f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result


@contextlib.contextmanager
def firefox() -> Iterator[Browser]:
    """Run a Firefox with a new profile during the block. Closes the browser at the end of the block, and kills the
    processes that remain."""
    with tempfile.TemporaryDirectory(prefix="serverpy-firefox-", ignore_cleanup_errors=True) as home:
        log_file, profile = Path(home, "log"), Path(home, "profile")
        profile.mkdir()
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
        (profile / "user.js").write_text("\n".join(lines))
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [tool("firefox-esr"), "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile],
                env={**direct(), "HOME": home, "MOZ_HEADLESS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with process:
            try:
                with connect(f"{_address(log_file)}/session", max_size=None, proxy=None) as connection:
                    browser = Browser(connection)
                    browser.call("session.new", {"capabilities": {}})
                    yield browser
                    browser.call("browser.close", {})
                process.wait(END_SECONDS)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _address(log_file: Path) -> str:
    """Wait until Firefox prints the address of its WebSocket, and return the address."""
    pattern = re.compile(r"WebDriver BiDi listening on (ws://\S+)")

    def found() -> re.Match[str] | None:
        return pattern.search(log_file.read_text(errors="replace"))

    wait_for(found, lambda: log_file.read_text(errors="replace"), seconds=SECONDS)
    match = found()
    assert match is not None
    return match[1]
