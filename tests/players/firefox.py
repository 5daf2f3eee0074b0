"""Driver of a headless Firefox: a script for Node.js runs it by the npm package puppeteer-core (WebDriver BiDi)."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import psutil

from tests.players.tools import NODE, direct, node_path, tool

SECONDS = 150.0
"""Timeout in seconds of one answer of the script, longer than the timeout of each step in the script."""
END_SECONDS = 60.0


class Page:
    """A tab of the browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def go(self, url: str) -> None:
        self._browser.call("go", url)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, or the value to which its promise resolves. Raises
        AssertionError if the expression throws."""
        return self._browser.call("run", script)


class Browser:
    """A running Firefox, controlled by the lines that the script reads and prints."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines
        self._answer()

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """Open a new tab. Yields the tab, and closes it at the end of the block."""
        self.call("open")
        try:
            yield Page(self)
        finally:
            self.call("close")

    def call(self, command: str, argument: str | None = None) -> Any:
        """Return the result of a command of the script. Raises AssertionError if the command fails, and OSError if the
        script does not answer."""
        self._lines.write(f"{json.dumps([command, argument])}\n")
        self._lines.flush()
        return self._answer()

    def _answer(self) -> Any:
        answer = json.loads(self._lines.readline() or '{"error": "The script has ended: see its output."}')
        assert "error" not in answer, answer["error"]
        return answer.get("value")


@contextlib.contextmanager
def firefox() -> Iterator[Browser]:
    """Run a Firefox with a new profile during the block. Closes the browser at the end of the block, and kills the
    processes that remain."""
    command = [tool("node"), str(NODE / "firefox.cjs"), tool("firefox-esr")]
    packages = node_path("puppeteer-core")
    with tempfile.TemporaryDirectory(prefix="serverpy-firefox-", ignore_cleanup_errors=True) as home:
        env = {**direct(), "HOME": home, "TMPDIR": home, "NODE_PATH": packages}
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        with (
            ours,
            ours.makefile("rw") as lines,
            theirs,
            subprocess.Popen(command, env=env, stdin=theirs.fileno(), stdout=theirs.fileno()) as process,
        ):
            theirs.close()
            try:
                yield Browser(lines)
                ours.shutdown(socket.SHUT_WR)
                process.wait(END_SECONDS)
            finally:
                _kill(home)


def _kill(home: str) -> None:
    """Kill the processes whose HOME is `home`: those of Firefox are not in the process group of the script."""
    left = [each for each in psutil.process_iter(["environ"]) if (each.info["environ"] or {}).get("HOME") == home]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, END_SECONDS)
