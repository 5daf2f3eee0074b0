"""The attacks on the server in the scenario `hostile`. Each attack is a coroutine function that runs until it is
cancelled, and ignores how its requests end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import count as numbers
from urllib.parse import quote, urlencode, urlsplit

from serverpy.bench.measure.origin import Origin, sample_origin
from serverpy.bench.measure.scenarios.base import Bench
from serverpy.bench.measure.targets import Running

FIELDS = 8_000
PIPELINED = 15
CONNECTIONS = 40
MANY = 200
DRIP_SECONDS = 1.0
AGAIN_SECONDS = 0.5
"""Seconds after the end of a connection until the attacker opens the next one."""
ADDRESS = "127.0.0.2"
"""IP address of the attackers. The server counts requests from each address as those of another client."""
HOST = "localhost"
"""Host name of the sample site in the page URLs of the attackers. Honest users request pages by another host name, so
the server counts their extractions separately."""
FAT_PAGES = 8
DEAD_STREAMS = 12

Attack = Callable[[Bench, Running], Awaitable[None]]


async def many_fields(bench: Bench, running: Running) -> None:
    """Pipeline requests with thousands of tiny header fields on each of 40 connections."""
    fields = "".join(f"a{number}: b\r\n" for number in range(FIELDS))
    target = _target(_film(bench.origin, "throttle=20000"), method="relay")
    one = f"GET {target} HTTP/1.1\r\nHost: {running.host}\r\n{fields}\r\n".encode()
    await _repeat(CONNECTIONS, lambda _: _say(running, one * PIPELINED))


async def fat_heads(bench: Bench, running: Running) -> None:
    """Request streams from media servers that send many header fields. Half of these servers send 90 fields, which is
    allowed; the others send 5,000, which is too many. The honest users have another media server, because a server of
    the bench needs some milliseconds for such a head."""

    async def stream(number: int) -> None:
        fault = f"fields={90 if number % 2 else 5000},throttle=20000,id={number % FAT_PAGES}"
        await _read(running, _target(_film(own, fault), method="relay"))

    with contextlib.ExitStack() as stack:
        own = await asyncio.to_thread(stack.enter_context, sample_origin())
        await _repeat(MANY, stream)


async def dripping_clients(bench: Bench, running: Running) -> None:
    """Send request heads on 200 connections, at one byte per second."""
    head = f"GET /ready HTTP/1.1\r\nHost: {running.host}\r\nX-Long: {'x' * 4000}\r\n\r\n".encode()
    await _repeat(MANY, lambda _: _drip(running, head))


async def dripping_pages(bench: Bench, running: Running) -> None:
    """Request the metadata of two pages, which the sample site sends at five bytes per second."""
    fresh = numbers()

    async def page(number: int) -> None:
        url = f"{_site(bench.origin)}/fault/throttle=5/hls/ts/master.m3u8?n={number}-{next(fresh)}"
        await _read(running, _target(url, route="info"))

    await _repeat(2, page)


async def backtracking_page(bench: Bench, running: Running) -> None:
    """Request the metadata of a page on which regular expressions of yt-dlp hold the interpreter lock for minutes."""
    fresh = numbers()

    async def page(_: int) -> None:
        await _read(running, _target(f"{_site(bench.origin)}/hostile/backtrack.html?n={next(fresh)}", route="info"))

    await _repeat(1, page)


async def dead_names(bench: Bench, running: Running) -> None:
    """Request the streams of twelve playlists whose segments are at hosts that no name server knows."""
    fresh = numbers()

    async def stream(_: int) -> None:
        url = f"{_site(bench.origin)}/hostile/dead-names.m3u8?n={next(fresh)}"
        await _read(running, _target(url, method="relay"))

    await _repeat(DEAD_STREAMS, stream)


def _film(origin: Origin, fault: str) -> str:
    return f"{_site(origin)}/page/fault/{fault}/prog.mp4"


def _site(origin: Origin) -> str:
    return f"http://{HOST}:{urlsplit(origin.http).port}"


def _target(url: str, *, route: str = "stream", **more: str) -> str:
    return f"/{route}?{urlencode({'url': url, **more}, quote_via=quote)}"


async def _repeat(clients: int, act: Callable[[int], Awaitable[None]]) -> None:
    """Run `clients` attackers at the same time. Each of them calls `act` with its number again and again."""

    async def client(number: int) -> None:
        while True:
            with contextlib.suppress(OSError):  # the server may refuse or close any connection of an attacker
                await act(number)
            await asyncio.sleep(AGAIN_SECONDS)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number), name=f"attacker-{number}")


async def _read(running: Running, target: str) -> None:
    await _say(running, f"GET {target} HTTP/1.1\r\nHost: {running.host}\r\nConnection: close\r\n\r\n".encode())


async def _say(running: Running, data: bytes) -> None:
    """Send `data` on a new connection, and read and discard the responses until the server closes the connection."""
    reader, writer = await asyncio.open_connection(running.host, running.port, local_addr=(ADDRESS, 0))
    try:
        writer.write(data)
        while await reader.read(1 << 16):
            continue
    finally:
        writer.transport.abort()


async def _drip(running: Running, data: bytes) -> None:
    """Send `data` on a new connection, one byte every DRIP_SECONDS. Stop if the server closes the connection."""
    reader, writer = await asyncio.open_connection(running.host, running.port, local_addr=(ADDRESS, 0))
    try:
        for place in range(len(data)):
            writer.write(data[place : place + 1])
            if reader.at_eof():
                return
            await asyncio.sleep(DRIP_SECONDS)
    finally:
        writer.transport.abort()
