"""The base class of all servers that the bench can measure, and the interface of a running server."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from serverpy.bench.measure.children import Child, running
from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.origin import Origin, Scheme, is_playlist

Kind = Literal["file", "playlist"]

START_SECONDS = 60.0
HEALTH_SECONDS = 10.0
LOOPBACK = "127.0.0.1"
ADMIN_PATHS = "/usr/sbin:/usr/local/sbin:/sbin"
"""Directories where Debian installs servers. The PATH of an unprivileged user often lacks them."""


RequestPath = Callable[[str, Scheme, str], str]
"""Maps media, URL scheme and `fresh` to the path and query of a request."""


@dataclass(frozen=True)
class Launch:
    """The command that starts a server. The server prints the port that it listens on, unless the bench has chosen
    `port`."""

    command: Sequence[str | Path]
    request_path: RequestPath
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None


@dataclass(frozen=True)
class Running:
    """A running server under test. The bench loads it over HTTP at `host` and `port`, and measures the process `pid`
    with its descendants. The server ends when the block of `Target.start` ends."""

    child: Child
    port: int
    request_path: RequestPath = field(repr=False)
    schemes: tuple[Scheme, ...]
    kinds: tuple[Kind, ...]
    health_path: str | None = None
    host: str = LOOPBACK

    @property
    def pid(self) -> int:
        return self.child.pid

    def path(self, media: str, *, scheme: Scheme = "http", fresh: str = "") -> str:
        """Return the request path with which this server streams `media` (see `Origin`) from the sample site over
        `scheme`.

        If the server extracts pages, each value of `fresh` is a different page, so that no cache helps. Raises
        BenchError if the server cannot stream that media over `scheme`."""
        kind: Kind = "playlist" if is_playlist(media) else "file"
        if kind not in self.kinds or scheme not in self.schemes:
            raise BenchError(f"{self.child.title} cannot stream {media} over {scheme}.")
        return self.request_path(media, scheme, fresh)

    def health(self) -> dict[str, Any] | None:
        """Return the server's health report, or None if it has none. Raises TargetDied if the server has ended,
        BenchError if the health request fails or is not answered with 200."""
        if self.health_path is None:
            return None
        try:
            status, body = ask(self.port, self.health_path)
        except (OSError, http.client.HTTPException) as error:
            self.child.check()
            raise BenchError(f"The health request to {self.child.title} failed: {type(error).__name__}.") from error
        if status != 200:
            raise BenchError(f"{self.child.title} answered the health request with status {status}.")
        found: dict[str, Any] = json.loads(body)
        return found

    def check(self) -> None:
        """Raise TargetDied if the server has ended."""
        self.child.check()


class Target(ABC):
    """A server that the bench can measure. It can stream the sample site's media. The subclasses are in the sibling
    modules."""

    name: str
    title: str
    schemes: ClassVar[tuple[Scheme, ...]] = ("http", "https")
    kinds: ClassVar[tuple[Kind, ...]] = ("file",)
    ready: ClassVar[str] = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"
    """Pattern of the line that the server prints once it listens. Its group is the port."""
    health_path: ClassVar[str | None] = None
    settings: ClassVar[tuple[str, ...] | None] = ()
    """The names of the settings that the server accepts. None if the server validates its settings itself."""
    reads_pages: ClassVar[bool] = False
    """Whether the server extracts media from pages, so that cold and cached requests differ."""

    def missing(self) -> str | None:
        """Return the reason why the server cannot run here, in one line. Returns None if it can run."""
        return None

    @abstractmethod
    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch: ...

    @contextlib.contextmanager
    def start(self, origin: Origin, *, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
        """Run the server for the duration of the block. The server listens when the block begins, and none of its
        processes is left when the block has ended. Raises TargetFailed if the server does not start, and BenchError
        if the server does not accept a setting."""
        unknown = () if self.settings is None else sorted(set(settings or {}) - set(self.settings))
        if unknown:
            raise BenchError(f"{self.title} does not accept the settings {', '.join(unknown)}.")
        launch = self.launch(origin, settings or {})
        with running(self.title, launch.command, env=launch.env, files=launch.files) as child:
            port = launch.port or int(child.said(self.ready, START_SECONDS)[1])
            if launch.port:
                child.until(lambda: answers(port, "/ready"), START_SECONDS)
            yield Running(child, port, launch.request_path, self.schemes, self.kinds, self.health_path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def ask(port: int, path: str, seconds: float = HEALTH_SECONDS) -> tuple[int, bytes]:
    """Send a GET to `port` on loopback, and return the status and the body of the response. Raises OSError if the
    connection fails, http.client.HTTPException if the response is malformed."""
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=seconds)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def answers(port: int, path: str) -> bool:
    """Return whether a server on `port` responds to a GET of `path`, with any status."""
    try:
        ask(port, path, seconds=1)
    except (OSError, http.client.HTTPException):
        return False
    return True


def free_port() -> int:
    """Return a loopback port that is free now, for a program that cannot choose a port and report it."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def find_command(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=ADMIN_PATHS)
