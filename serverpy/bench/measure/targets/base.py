"""What all targets have in common: their shape, and what a running one tells those who load and measure it."""

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
"""Where Debian keeps servers, and a user's PATH does not look."""


RequestPath = Callable[[str, Scheme, str], str]
"""From media, scheme and `fresh` to the path and query of a request."""


@dataclass(frozen=True)
class Launch:
    """How a target is started. It says at which port it listens, or listens at `port`."""

    command: Sequence[str | Path]
    request_path: RequestPath
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None


@dataclass(frozen=True)
class Running:
    """A target which listens, to be loaded over HTTP at `host` and `port` and measured from its process `pid` down.
    The owner of `Target.start` ends it."""

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
        """The request path which streams `media` (see `Origin`) from the origin by `scheme` through this target.

        Each `fresh` is another page to those who read pages, so that nothing cached helps. Raises BenchError for what
        the target cannot stream."""
        kind: Kind = "playlist" if is_playlist(media) else "file"
        if kind not in self.kinds or scheme not in self.schemes:
            raise BenchError(f"{self.child.title} cannot stream {media} over {scheme}.")
        return self.request_path(media, scheme, fresh)

    def health(self) -> dict[str, Any] | None:
        """What it says of itself, None if it says nothing. Raises TargetDied, BenchError."""
        if self.health_path is None:
            return None
        try:
            status, body = ask(self.port, self.health_path)
        except (OSError, http.client.HTTPException) as error:
            self.child.check()
            raise BenchError(f"{self.child.title} does not tell its health: {type(error).__name__}.") from error
        if status != 200:
            raise BenchError(f"{self.child.title} answered {status} when asked for its health.")
        found: dict[str, Any] = json.loads(body)
        return found

    def check(self) -> None:
        """Raises TargetDied if it has ended by itself."""
        self.child.check()


class Target(ABC):
    """Something that can stream the origin's media, to be measured. The variants are sibling files of this shape."""

    name: str
    title: str
    schemes: ClassVar[tuple[Scheme, ...]] = ("http", "https")
    kinds: ClassVar[tuple[Kind, ...]] = ("file",)
    ready: ClassVar[str] = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"
    """What it says once it listens, with its port."""
    health_path: ClassVar[str | None] = None
    settings: ClassVar[tuple[str, ...] | None] = ()
    """The settings that it knows by name; None: it checks them itself."""
    reads_pages: ClassVar[bool] = False
    """Whether it extracts, so that there is a difference between cold and cached."""

    def missing(self) -> str | None:
        """Why it cannot run here, in a line; None if it can."""
        return None

    @abstractmethod
    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch: ...

    @contextlib.contextmanager
    def start(self, origin: Origin, *, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
        """It, listening, for the time of a block; afterwards nothing of it runs. Raises TargetFailed if it does not
        start, BenchError for a setting it does not know."""
        unknown = () if self.settings is None else sorted(set(settings or {}) - set(self.settings))
        if unknown:
            raise BenchError(f"{self.title} has no setting {', '.join(unknown)}.")
        launch = self.launch(origin, settings or {})
        with running(self.title, launch.command, env=launch.env, files=launch.files) as child:
            port = launch.port or int(child.said(self.ready, START_SECONDS)[1])
            if launch.port:
                child.until(lambda: answers(port, "/ready"), START_SECONDS)
            yield Running(child, port, launch.request_path, self.schemes, self.kinds, self.health_path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def ask(port: int, path: str, seconds: float = HEALTH_SECONDS) -> tuple[int, bytes]:
    """Status and body of a GET on loopback. Raises OSError and http.client.HTTPException."""
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=seconds)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def answers(port: int, path: str) -> bool:
    """Whether somebody answers there, whatever he says."""
    try:
        ask(port, path, seconds=1)
    except (OSError, http.client.HTTPException):
        return False
    return True


def free_port() -> int:
    """A port of loopback that is free now, for those who cannot choose one and tell."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def find_command(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=ADMIN_PATHS)
