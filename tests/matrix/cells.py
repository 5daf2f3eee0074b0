"""The cells of the fault matrix, each of which is a request with a fault, and the rules by which the tests judge a
response."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from serverpy.api.problems import STATUS
from serverpy.sample.site import SampleSite
from tests.server import Server
from tests.wire import Answer

METHODS = ("relay", "embedded", "subprocess", "weave")
PLACES = ("first", "middle", "last")
CODES = frozenset(error.code for error in STATUS)
"""The error codes that are documented for problem documents."""

AT_ONCE = 8
"""Number of cells that run at the same time."""


@dataclass(frozen=True)
class Cell:
    """A request for media of the sample site. `fault` is a specification of the site's faults. If `fatal` is true, the
    response cannot be complete, because the site never sends all bytes."""

    name: str
    fault: str
    method: str
    fatal: bool = True
    scheme: str = "http"

    def __str__(self) -> str:
        return f"{self.name} by {self.method}"

    def url(self, site: SampleSite) -> str:
        """Return the URL of a page that is used by no other cell."""
        spec = f"{self.fault},id={self.name.replace(' ', '-')}-{self.method}"
        base = site.https if self.scheme == "https" else site.http
        film = "pair" if self.method == "weave" else "headers"
        return f"{base}/tube/watch/fault/{spec}/{film}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The query parameters of `/stream` that select the streaming method."""
        return {} if self.method == "weave" else {"method": self.method}


@dataclass
class Expected:
    """The expected bytes of the response, which depend on the method."""

    film: bytes
    woven: bytes
    hashes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, server: Server) -> Expected:
        """Return the bytes of the sample file, and the bytes that the server sends for a page with separate video and
        audio and no fault. The tests in `tests/media/` check the bytes of this merged MP4."""
        woven = server.get("/tube/watch/pair")
        assert woven.status == 200
        assert woven.complete
        return cls(server.site.path("prog.mp4").read_bytes(), woven.body)

    def __getitem__(self, method: str) -> bytes:
        return self.woven if method == "weave" else self.film

    def hash(self, method: str) -> str:
        return self.hashes.setdefault(method, hashlib.sha256(self[method]).hexdigest())


def judge(cell: Cell, answer: Answer, expected: Expected) -> str | None:
    """Return a description of what is wrong with the response to a cell. Returns None if the response has the right
    bytes, is cut after right bytes, or is a documented error."""
    right = expected[cell.method]
    if answer.status == 200 and answer.complete:
        if hashlib.sha256(answer.body).hexdigest() != expected.hash(cell.method):
            return f"is complete, but its {len(answer.body)} bytes are not the {len(right)} expected bytes"
        return "is complete although the media server never sent one of the bytes" if cell.fatal else None
    if answer.status == 200:
        return (
            None if right.startswith(answer.body) else f"is cut after {len(answer.body)} bytes, some of which are wrong"
        )
    if not answer.complete:
        return f"is a cut problem document of status {answer.status}"
    return None if documented(answer) else f"is not a documented error: {answer.status} {answer.body[:200]!r}"


def documented(answer: Answer) -> bool:
    """Return whether `answer` is a problem document that has the status of the response and a documented error code."""
    if answer.headers.get("content-type") != "application/problem+json":
        return False
    problem = json.loads(answer.body)
    return problem["status"] == answer.status and problem["code"] in CODES and answer.status < 600


def run_all(cells: Iterable[Cell], ask: Callable[[Cell], str | None], at_once: int = AT_ONCE) -> list[str]:
    """Run `ask` for each cell, for at most `at_once` cells at the same time. Returns one line for each cell whose
    response is wrong."""

    def run(cell: Cell) -> str | None:
        wrong = ask(cell)
        return None if wrong is None else f"{cell}: {wrong}"

    with ThreadPoolExecutor(at_once) as pool:
        return [line for line in pool.map(run, cells) if line is not None]
