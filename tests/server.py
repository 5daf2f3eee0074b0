"""Helpers that run the real server in its own process, beside the sample site, for end-to-end tests."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

import psutil
import pytest

from serverpy.sample import PLUGIN_PATH
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.wire import Answer, Exchange, request

START_SECONDS = 120.0
STOP_SECONDS = 60.0
SETTLE_SECONDS = 15.0
"""Seconds within which the server must release everything that a request used. This time is enough for a busy machine,
but shorter than the timeouts of the fixture `server`, so that the tests find a stream as a leak if only these timeouts
would end it."""
YTDLP_PROCESS = "serverpy.ytdlp.main"
"""Name of the module that each process for yt-dlp runs. The only child processes that an idle server may have are
processes of this module."""


@dataclass(frozen=True)
class Server:
    """A running server. The argument `page` of its methods is a path on the sample site, or an absolute URL."""

    process: subprocess.Popen[str]
    port: int
    site: SampleSite
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def target(self, page: str, *, path: str = "/stream", **params: Any) -> str:
        url = f"{self.site.http}{page}" if page.startswith("/") else page
        return f"{path}?{urlencode({'url': url, **params}, quote_via=quote)}"

    def open(
        self,
        page: str,
        *,
        verb: str = "GET",
        path: str = "/stream",
        headers: Mapping[str, str] | None = None,
        receive_bytes: int | None = None,
        **params: Any,
    ) -> Exchange:
        """Request a stream of `page`, or, if `path` is given, that endpoint for `page`. Does not read the response."""
        target = self.target(page, path=path, **params)
        return self.send(self._request(target, verb, headers), receive_bytes=receive_bytes)

    def get(
        self,
        page: str,
        *,
        verb: str = "GET",
        path: str = "/stream",
        headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Answer:
        """Request a stream of `page`, or, if `path` is given, that endpoint for `page`. Reads the response to its
        end."""
        with self.open(page, verb=verb, path=path, headers=headers, **params) as exchange:
            return exchange.rest()

    def ask(self, target: str, *, verb: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """Request `target` without encoding it, and read the response to its end."""
        with self.send(self._request(target, verb, headers)) as exchange:
            return exchange.rest()

    def send(self, data: bytes, *, receive_bytes: int | None = None) -> Exchange:
        """Send the bytes `data` unchanged on a new connection."""
        return Exchange(("127.0.0.1", self.port), data, receive_bytes=receive_bytes)

    def _request(self, target: str, verb: str, headers: Mapping[str, str] | None) -> bytes:
        return request(target, f"127.0.0.1:{self.port}", method=verb, headers=headers)

    def health(self) -> dict[str, Any]:
        health: dict[str, Any] = self.ask("/health").json()
        return health

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ytdlp_processes(self, role: str = "") -> list[psutil.Process]:
        """Return the processes that run yt-dlp. If `role` is "extract" or "download", return only the processes of this
        role."""
        found = [(each, _arguments_of(each)) for each in self.children()]
        return [each for each, line in found if YTDLP_PROCESS in line and (not role or role in line)]

    def worker(self) -> psutil.Process:
        """Return the extraction process, in which yt-dlp reads pages."""
        (worker,) = self.ytdlp_processes("extract")
        return worker

    def settled(self) -> None:
        """Wait until the server and the site have released everything that earlier requests used."""
        wait_for(lambda: not self._left(), lambda: f"still there: {self._left()}", seconds=SETTLE_SECONDS)

    def _left(self) -> dict[str, object]:
        health = self.health()
        left = {name: health[name] for name in ("streams", "waiting", "upstreams", "buffered_bytes")}
        left |= {"budget": health["budget"]["used"], "children": len(self.children()) - len(self.ytdlp_processes())}
        left |= {"responses of the sample site in progress": answers_under_way(self.site)}
        return {name: number for name, number in left.items() if number}


def _arguments_of(process: psutil.Process) -> list[str]:
    """Return the argument vector of a process. Returns [] if the process has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # the base class of psutil.ZombieProcess
        return []


def answers_under_way(site: SampleSite) -> int:
    """Return the number of connections on which the site is sending a response."""
    cycles = [connection.cycle for connection in site.connections]
    return sum(cycle is not None and not cycle.response_complete for cycle in cycles)


@contextlib.contextmanager
def serving(
    site: SampleSite,
    *,
    complaints: bool = False,
    python: str = sys.executable,
    python_path: Path | None = None,
    **settings: object,
) -> Iterator[Server]:
    """Run a server that may connect to the sample site. Yields the server once it is ready, and sends it SIGTERM at the
    end of the block.

    Raises AssertionError if the server has logged an error or a traceback, unless `complaints` is true.
    `python` is an interpreter that has ServerPY installed; `python_path` comes first in the server's import path.
    """
    with tempfile.TemporaryDirectory(prefix="serverpy-test-") as directory:
        log_file = Path(directory, "log")
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [python, "-m", "serverpy", "serve", "--port", "0", "--workers", "1"],
                env=environment(site, settings, python_path),
                cwd=directory,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with process:
            server = None
            try:
                server = Server(process, _port(process.stdout, log_file), site, log_file)
                yield server
                process.terminate()
                process.wait(STOP_SECONDS)
            finally:
                if process.poll() is None:
                    process.kill()
        mistakes = [] if complaints else [line for line in server.log.splitlines() if _MISTAKE.search(line)]
        assert not mistakes, server.log


_MISTAKE = re.compile(r"Traceback|never retrieved|never awaited|Task was destroyed|\bERROR\b")


def environment(site: SampleSite, settings: Mapping[str, object], python_path: Path | None) -> dict[str, str]:
    origins = [origin for origin in (site.http, site.https) if origin is not None]
    values = {
        "ALLOW_NETWORKS": ",".join(
            [*(origin.partition("://")[2] for origin in origins), f"127.0.0.1:{site.closed_port}"]
        ),
        "CA_FILE": site.ca_file or "",
        **{name.upper(): value for name, value in settings.items()},
    }
    return {
        **os.environ,
        **{f"SERVERPY_{name}": str(value) for name, value in values.items()},
        "PYTHONPATH": os.pathsep.join(str(path) for path in (python_path, PLUGIN_PATH) if path),
    }


def _port(stdout: IO[str] | None, log_file: Path) -> int:
    """Return the port number from the line that the server prints when it is ready."""
    assert stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        line = stdout.readline() if selector.select(START_SECONDS) else ""
    match = re.search(r":(\d+)/$", line.strip())
    assert match, f"the server did not start: {line}{log_file.read_text()}"
    return int(match[1])


@pytest.fixture(scope="session")
def server(site: SampleSite) -> Iterator[Server]:
    """Run a server for all tests that need no special settings. Its timeouts are long enough for a slow machine."""
    with serving(site, wait_seconds=30, extract_timeout=60, stall_timeout=30, connect_timeout=30) as running:
        yield running


@pytest.fixture(scope="session")
def hurried(site: SampleSite) -> Iterator[Server]:
    """Run a server with limits that a test can reach: two streams at once, 0.5 seconds in the queue, and a stall
    timeout of two seconds."""
    with serving(site, max_streams=2, wait_seconds=0.5, stall_timeout=2) as running:
        yield running
