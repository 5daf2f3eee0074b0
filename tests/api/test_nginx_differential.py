"""Comparison of ServerPY with nginx by 500 random conditional and range requests. nginx serves a file, and ServerPY
relays that file from nginx. The responses may differ only where RFC 9110 allows it: ALLOWED lists these differences."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

from serverpy.bench.measure.targets.base import find_command, free_port
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving

REQUESTS = 500
SEED = 9110
MODIFIED = 1_700_000_000
"""The Last-Modified time of the file, in seconds since 1970."""
NAME = "clip.mp4"

# The configuration has the defaults of nginx, except for `if_modified_since before`: by default, nginx answers 304 only
# if the dates are equal, but RFC 9110 also requires a 304 if the client's date is later.
CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    types {{ video/mp4 mp4; }}
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    if_modified_since before;
    keepalive_requests 100000;
    server {{ listen 127.0.0.1:{port}; root {directory}; }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """A running nginx, and the file that it serves."""

    port: int
    path: str
    content: bytes
    etag: str


@pytest.fixture(scope="module")
def origin(site: SampleSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    nginx = find_command("nginx")
    assert nginx, "nginx is not installed (Debian: apt install nginx-light)"
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    file = directory / NAME
    shutil.copyfile(site.path(NAME), file)
    os.utime(file, (MODIFIED, MODIFIED))
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(CONFIGURATION.format(user=user, directory=directory, port=port))
    with log_of(directory) as log:
        process = subprocess.Popen([nginx, "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"], stderr=log)
    with process:
        try:
            wait_for(lambda: etag_of(port) is not None, lambda: (directory / "log").read_text())
            yield Origin(port, f"/{NAME}", file.read_bytes(), etag_of(port) or "")
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def log_of(directory: Path) -> Iterator[int]:
    with (directory / "log").open("w") as log:
        yield log.fileno()


def etag_of(port: int) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        try:
            connection.request("HEAD", f"/{NAME}")
            return connection.getresponse().headers["ETag"]
        except ConnectionError:
            return None


@pytest.fixture(scope="module")
def relaying(site: SampleSite, origin: Origin) -> Iterator[Server]:
    with serving(site, allow_networks=f"127.0.0.1:{origin.port}", cache_ttl=3600) as server:
        yield server


@dataclass(frozen=True)
class Asked:
    """A request that is sent to nginx and to ServerPY."""

    verb: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("Range", "")


@dataclass(frozen=True)
class Answer:
    """The parts of a response in which nginx and ServerPY must agree. If the request is refused, these parts do not
    include the body and its header fields."""

    status: int
    headers: Mapping[str, str]
    body: bytes


COMPARED = ("Content-Range", "Content-Length", "Content-Type", "ETag", "Last-Modified")
"""Accept-Ranges is not compared: nginx does not send this field in a 206, and RFC 9110 §14.3 allows both."""
REFUSED = ("Content-Range",)


def compared(response: http.client.HTTPResponse, body: bytes) -> Answer:
    refused = response.status >= 400
    names = REFUSED if refused else COMPARED
    headers = {name: value for name in names if (value := response.headers[name]) is not None}
    if response.status == 304:  # a 304 must have the ETag, and may omit the other headers of a 200 (RFC 9110 §15.4.5)
        headers = {"ETag": headers["ETag"]}
    return Answer(response.status, headers, b"" if refused else body)


# Generator of random requests

INVALID_DATES = ["yesterday", "2023-11-14T22:13:20Z", ""]


def random_request(chance: random.Random, size: int, etag: str) -> Asked:
    fields: dict[str, Callable[[], str]] = {
        "Range": lambda: random_range(chance, size),
        "If-Range": lambda: chance.choice([random_tag(chance, etag), random_date(chance)]),
        "If-None-Match": lambda: random_tags(chance, etag),
        "If-Match": lambda: random_tags(chance, etag),
        "If-Modified-Since": lambda: random_date(chance),
        "If-Unmodified-Since": lambda: random_date(chance),
    }
    weights = {"Range": 0.7, "If-Range": 0.3}
    headers = {name: make() for name, make in fields.items() if chance.random() < weights.get(name, 0.15)}
    return Asked(chance.choice(["GET"] * 4 + ["HEAD"]), headers)


ODD_RANGES = [
    *("bytes=", "bytes=-", "bytes=x", "bytes=1-x", "bytes=--5", "bytes=9-2", "bytes=-0", "items=0-1", "nonsense"),
]


def random_range(chance: random.Random, size: int) -> str:
    if chance.random() < 0.1:
        return chance.choice(ODD_RANGES)
    return f"bytes={','.join(random_spec(chance, size) for _ in range(chance.choice([1] * 8 + [2, 3])))}"


def random_spec(chance: random.Random, size: int) -> str:
    first, last = (
        chance.choice([0, 1, size // 2, size - 1, size, size + 1, chance.randrange(2 * size)]) for _ in range(2)
    )
    return chance.choice([f"{first}-{last}", f"{first}-", f"-{last}", f" {first}-{last} "])


def random_tag(chance: random.Random, etag: str) -> str:
    return chance.choice([etag, etag, f"W/{etag}", '"other"', 'W/"other"', etag[:-1], '""'])


def random_tags(chance: random.Random, etag: str) -> str:
    return chance.choice(["*", ", ".join(random_tag(chance, etag) for _ in range(chance.choice([1, 1, 1, 2, 3])))])


def random_date(chance: random.Random) -> str:
    when = MODIFIED + chance.choice([0, 0, -1, 1, -86400, 86400])
    return chance.choice([formatdate(when, usegmt=True)] * 4 + INVALID_DATES)


# Differences that RFC 9110 allows


@dataclass(frozen=True)
class Difference:
    """A difference between the two responses that RFC 9110 allows in `section`. `holds` gets the request, ServerPY's
    response and nginx's response, and returns True if the responses differ in this way."""

    name: str
    section: str
    holds: Callable[[Asked, Answer, Answer], bool]


def is_single(asked: Asked) -> bool:
    return "," not in asked.range


def statuses(ours: Answer, other: Answer) -> tuple[int, int]:
    return ours.status, other.status


ALLOWED = (
    Difference(
        "a malformed or backward range is ignored; nginx refuses it",
        "§14.2",
        lambda asked, ours, other: "Range" in asked.headers and statuses(ours, other) == (200, 416),
    ),
    Difference(
        "several ranges are ignored; nginx sends them, or the one that can be satisfied",
        "§14.2",
        lambda asked, ours, other: not is_single(asked) and statuses(ours, other) == (200, 206),
    ),
    Difference(
        "Range is ignored with HEAD; nginx applies it against the RFC",
        "§14.2",
        lambda asked, ours, other: asked.verb == "HEAD" and ours.status == 200 and other.status in (206, 416),
    ),
    Difference(
        "If-Unmodified-Since is ignored beside If-Match; nginx evaluates both against the RFC",
        "§13.1.4",
        lambda asked, ours, other: (
            {"If-Match", "If-Unmodified-Since"} <= asked.headers.keys() and ours.status != 412 and other.status == 412
        ),
    ),
    Difference(
        "an invalid date in If-Unmodified-Since is ignored; nginx answers 412 against the RFC",
        "§13.1.4",
        lambda asked, ours, other: (
            asked.headers.get("If-Unmodified-Since") in INVALID_DATES and ours.status != 412 and other.status == 412
        ),
    ),
    Difference(
        "a list of entity tags counts up to its first malformed member; nginx reads on",
        "§8.8.3",
        lambda asked, ours, other: any(
            member.count('"') % 2
            for name in ("If-Match", "If-None-Match")
            for member in asked.headers.get(name, "").split(",")
        ),
    ),
    Difference(
        "If-Modified-Since is ignored beside If-None-Match; nginx answers 304 only if both agree, against the RFC",
        "§13.1.3",
        lambda asked, ours, other: (
            {"If-None-Match", "If-Modified-Since"} <= asked.headers.keys()
            and ours.status == 304
            and other.status in (200, 206, 416)
        ),
    ),
)


def test_serverpy_answers_500_random_conditional_and_range_requests_as_nginx_does(
    relaying: Server, origin: Origin
) -> None:
    chance = random.Random(SEED)
    target = relaying.target(f"http://127.0.0.1:{origin.port}{origin.path}", method="relay")
    seen: dict[str, int] = dict.fromkeys((each.name for each in ALLOWED), 0)
    ours, nginx = (http.client.HTTPConnection("127.0.0.1", port, timeout=60) for port in (relaying.port, origin.port))
    with contextlib.closing(ours), contextlib.closing(nginx):
        for _ in range(REQUESTS):
            asked = random_request(chance, len(origin.content), origin.etag)
            found, expected = answer(ours, target, asked), answer(nginx, origin.path, asked)
            if expected.status == 412:
                nginx.close()  # after a 412, nginx closes the connection although it announced keep-alive
            if found != expected:
                allowed = [each.name for each in ALLOWED if each.holds(asked, found, expected)]
                assert allowed, f"{asked}\n{brief(found)}\n{brief(expected)}"
                seen[allowed[0]] += 1
            check(asked, found, origin)
    assert all(seen.values()), f"no request showed this difference: {seen}"
    relaying.settled()


def answer(connection: http.client.HTTPConnection, target: str, asked: Asked) -> Answer:
    connection.request(asked.verb, target, headers=dict(asked.headers))
    response = connection.getresponse()
    return compared(response, response.read())


def check(asked: Asked, found: Answer, origin: Origin) -> None:
    """Check the properties that ServerPY's response must have whatever nginx's response is."""
    assert found.status in (200, 206, 304, 412, 416), (asked, brief(found))
    if found.status == 416:
        assert found.headers["Content-Range"] == f"bytes */{len(origin.content)}"
    if found.status == 200 and asked.verb == "GET":
        assert found.body == origin.content


def brief(found: Answer) -> tuple[int, Mapping[str, str], int]:
    return found.status, found.headers, len(found.body)
