"""Tests of the source code which ensure that the guard checks every address: only modules in `net/` open sockets and
look up host names, and no module passes a URL to a library that fetches URLs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_shape import imports, inside, modules

OPENING_MODULES = frozenset(
    {
        *("aiohttp", "curl_cffi", "ftplib", "http.client", "http.server", "httpx", "imaplib", "poplib", "python_socks"),
        *("requests", "smtplib", "socketserver", "telnetlib", "urllib.request", "urllib3", "websockets"),
    }
)
"""Modules whose functions open sockets. A module that imports one of them opens sockets."""
OPENING_NAMES = frozenset(
    {
        *(
            "create_connection",
            "create_datagram_endpoint",
            "create_server",
            "create_unix_connection",
            "open_connection",
        ),
        *("create_unix_server", "open_unix_connection", "start_server", "sock_connect", "connect", "connect_ex"),
        *("socket", "socketpair", "fromfd", "getaddrinfo", "gethostbyname", "gethostbyname_ex", "getnameinfo"),
        *("urlopen", "urlretrieve", "build_opener", "HTTPConnection", "HTTPSConnection"),
    }
)
"""Functions and methods that open sockets or look up host names."""
LIBRARIES_THAT_FETCH = frozenset({"av", "ffmpeg", "cv2", "imageio", "moviepy", "pydub", "m3u8"})
"""Libraries that fetch a URL if the URL is passed in place of a file name. No module may import them."""

MAY_OPEN: dict[str, tuple[frozenset[str], str]] = {
    "engine": (frozenset({"getaddrinfo"}), "own_sockets looks up HOST, which the operator has set"),
    "cli.serve": (
        frozenset({"create_server", "getaddrinfo", "http.client", "HTTPConnection"}),
        "binds HOST:PORT, which the operator has set, and asks the server there for its health",
    ),
    "cli.demo": (frozenset({"socket"}), "picks a free port on loopback for --demo"),
    "extraction.worker": (frozenset({"socketpair"}), "opens the socket pair for messages between server and worker"),
    "ytdlp.main": (frozenset({"socket"}), "opens the worker's end of the socket pair by its file descriptor"),
    "ytdlp.http_client": (
        frozenset({"http.client"}),
        "replaces the response class of http.client, and opens no socket",
    ),
    "ytdlp.session.instance": (
        frozenset({"urllib.request"}),
        "yt-dlp's urlopen, for which this module sets the filtering proxy",
    ),
    "ytdlp.download.fragments": (frozenset({"urlopen"}), "yt-dlp's urlopen, behind the filtering proxy"),
    "ytdlp.download.upstream": (frozenset({"urlopen"}), "yt-dlp's urlopen, behind the filtering proxy"),
    "ytdlp.session.impersonation": (
        frozenset({"curl_cffi", "curl_cffi.const", "curl_cffi.curl", "curl_cffi.requests.session"}),
        "request handler for yt-dlp, which connects through the filtering proxy",
    ),
}
"""Maps each module outside of `net/` that may open sockets or look up host names to the names that it may use, and to
the reason. The packages `sample` and `bench` are not checked, because they contain separate programs, which only tests
and operators run."""
PROGRAMS = ("sample", "bench")


def opened_by(tree: ast.Module) -> Iterator[str]:
    """Yield the names in `tree` that open sockets or look up host names: imported modules, and called functions and
    methods."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _is_opening(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if _is_opening(node.module):
                yield node.module
            else:
                yield from (full for alias in node.names if _is_opening(full := f"{node.module}.{alias.name}"))
            yield from (alias.name for alias in node.names if node.module == "socket" and alias.name in OPENING_NAMES)
        elif isinstance(node, ast.Call) and (name := _called(node.func)) in OPENING_NAMES:
            yield name


def _is_opening(module: str) -> bool:
    return any(inside(module, name) for name in OPENING_MODULES)


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that `tree` imports, defines and uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.alias | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


CHECKED = [(name, tree) for name, tree in modules() if not any(inside(name, part) for part in ("net", *PROGRAMS))]


@pytest.mark.parametrize(("name", "tree"), CHECKED, ids=[name for name, _ in CHECKED])
def test_only_the_package_net_opens_sockets_and_looks_up_host_names(name: str, tree: ast.Module) -> None:
    allowed, _ = MAY_OPEN.get(name, (frozenset(), ""))
    assert set(opened_by(tree)) <= allowed


def test_every_name_that_the_table_may_open_allows_a_module_to_use_is_used() -> None:
    used = {name: set(opened_by(tree)) for name, tree in CHECKED}
    assert {name: set(allowed) for name, (allowed, _) in MAY_OPEN.items()} == {name: used[name] for name in MAY_OPEN}


def test_no_module_imports_a_library_that_fetches_urls_by_itself() -> None:
    for name, tree in CHECKED:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names}
            else:
                found = {(node.module or "").partition(".")[0]} if isinstance(node, ast.ImportFrom) else set()
            assert not found & LIBRARIES_THAT_FETCH, f"serverpy.{name} imports {found}"


def test_the_package_net_connects_only_to_addresses_that_the_guard_has_checked() -> None:
    """In `net/`, three modules open sockets, and two modules look up host names. `net.proxies` looks up the operator's
    own proxy. `net.lookups` looks up the names for the resolver, which asks the guard."""
    found = {name: set(opened_by(tree)) for name, tree in modules() if inside(name, "net")}
    assert {name: opened for name, opened in found.items() if opened} == {
        "net.client": {"create_connection"},
        "net.egress": {"create_connection", "create_server"},
        "net.lookups": {"getaddrinfo"},
        "net.proxies": {
            *("python_socks", "python_socks.async_.asyncio", "connect", "getaddrinfo", "socket", "sock_connect"),
        },
    }
    users = {name for name, tree in modules() if "serverpy.net.lookups" in imports(tree)}
    assert users == {"delivery", "net.guard", "net.resolver"}
    resolving = {name for name, tree in modules() if "resolve_host" in set(_names(tree))}
    assert resolving == {"net.guard", "net.resolver"}


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import socket\nsocket.create_connection(a)",
        "from socket import create_connection as c",
        "async def f(loop):\n    await loop.create_connection(p, h, 1)",
        "import asyncio\nasyncio.open_connection(h, 1)",
        "def f(sock):\n    sock.connect(a)",
        "import http.client as h",
        "from http import client",
    ],
)
def test_the_check_finds_code_that_opens_a_socket(source: str) -> None:
    assert list(opened_by(ast.parse(source)))
