"""Functions that send a request through the egress proxy. There is one function for each HTTP client that yt-dlp uses,
all with the same signature. Other functions use a socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import curl_cffi
import requests

from serverpy.net.guard import Guard, parse_networks
from tests.net.egress.threads import EgressThread
from tests.net.origin import DEADLINE, Origin, read_exactly

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPBACK = Guard(allow=parse_networks(["127.0.0.0/8"]))


class TunnelRefused(Exception):
    """The error that the proxy refused a CONNECT request. The argument of the exception is the HTTP status."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> str | None:
        return self.headers.get("x-serverpy-refused")


Fetch = Callable[..., Reply]


def by_urllib(url: str, proxy: str, data: bytes | None = None, ca: str | None = None) -> Reply:
    context = ssl.create_default_context(cafile=ca)
    handlers = [urllib.request.ProxyHandler({"http": proxy, "https": proxy})]
    opener = urllib.request.build_opener(*handlers, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, data=data, timeout=DEADLINE) as answer:
            return Reply(answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()})
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read(), {k.lower(): v for k, v in error.headers.items()})
    except urllib.error.URLError as error:
        raise TunnelRefused(str(error)) from error


def by_requests(url: str, proxy: str, data: bytes | None = None, ca: str | None = None) -> Reply:
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy, "https": proxy}
        try:
            answer = session.request("POST" if data else "GET", url, data=data, verify=ca or True, timeout=DEADLINE)
        except requests.exceptions.ProxyError as error:
            raise TunnelRefused(str(error)) from error
        return Reply(answer.status_code, answer.content, {k.lower(): v for k, v in answer.headers.items()})


def by_curl(url: str, proxy: str, data: bytes | None = None, ca: str | None = None) -> Reply:
    with curl_cffi.Session(trust_env=False, proxy=proxy, impersonate="chrome") as session:
        try:
            method: Any = "POST" if data else "GET"
            answer = session.request(method, url, data=data, verify=ca or True, timeout=DEADLINE)
        except curl_cffi.exceptions.RequestException as error:
            if "CONNECT" not in str(error):
                raise
            raise TunnelRefused(str(error)) from error
        return Reply(answer.status_code, answer.content, {k.lower(): v or "" for k, v in answer.headers.items()})


def request_for(egress: EgressThread, url: str, extra: str = "") -> bytes:
    parts = urlsplit(egress.url)
    token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    authority = urlsplit(url).netloc
    line = f"CONNECT {authority}" if url.startswith("connect:") else f"GET {url}"
    return f"{line} HTTP/1.1\r\nProxy-Authorization: Basic {token}\r\n{extra}\r\n".encode()


@contextlib.contextmanager
def asked(egress: EgressThread, url: str, extra: bytes = b"") -> Iterator[socket.socket]:
    """Request `url` from the egress proxy over a new connection, and yield the socket of the connection. A URL
    `connect://host:port` is requested by CONNECT."""
    with socket.create_connection(("127.0.0.1", urlsplit(egress.url).port), timeout=DEADLINE) as connection:
        connection.sendall(request_for(egress, url) + extra)
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    return read_exactly(connection, 1 << 30)


def connect_url(origin: Origin) -> str:
    return f"connect://127.0.0.1:{origin.port}"
