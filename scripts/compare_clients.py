"""Comparison of HTTP clients: the same ASGI relay uses each of them to fetch media from the sample site, over http and
https.

    python scripts/compare_clients.py [--clients 100] [--mib 180]

The script prints, for each client that is installed (`aiohttp` and `httpx` are not dependencies of the project: install
them yourself), the memory held by each slow stream and the CPU seconds per GB for one fast reader. The relay and the
sample site each run in a process of their own, and the script itself reads the streams of the relay. The measurements
behind the choice of a client are in docs/decisions/0002-http-client.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psutil

from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.net.http1 import Request
from serverpy.options import Network
from serverpy.sample import SampleSite
from serverpy.streaming.pace import Pace

SLOW_SECONDS = 6.0
SLOW_RATE = 64 * 1024
READ_BYTES = 64 * 1024


class AnyRoom:
    def try_grow(self, _nbytes: int) -> bool:
        return True

    def shrink(self, _nbytes: int) -> None: ...


async def own(url: str, ca_file: str) -> AsyncIterator[bytes]:
    """Yield the bytes of `url`. `serverpy.net.client` reads them in steps that adapt to the client's speed, as in the
    relay."""
    guard = Guard(allow=parse_networks(["127.0.0.0/8"]))
    client = _once("own", lambda: Client(guard, Network(ca_file=ca_file)))
    response = await client.open(Request(url=url))
    pace = Pace(AnyRoom())
    try:
        while chunk := await response.read(pace.step(time.monotonic())):
            pace.hand(len(chunk), time.monotonic())
            yield chunk
    finally:
        response.close()


async def aiohttp(url: str, ca_file: str) -> AsyncIterator[bytes]:
    """Yield the bytes of `url`, read by aiohttp with its defaults."""
    import ssl

    import aiohttp

    def make() -> Any:
        tls = ssl.create_default_context(cafile=ca_file)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=tls), auto_decompress=False)

    async with _once("aiohttp", make).get(url) as response:
        async for chunk in response.content.iter_any():
            yield chunk


async def httpx(url: str, ca_file: str) -> AsyncIterator[bytes]:
    """Yield the bytes of `url`, read by httpx with its defaults (httpcore and h11)."""
    import ssl

    import httpx

    limits = httpx.Limits(max_connections=None)
    tls = ssl.create_default_context(cafile=ca_file)
    client = _once("httpx", lambda: httpx.AsyncClient(verify=tls, limits=limits, timeout=60))
    async with client.stream("GET", url) as response:
        async for chunk in response.aiter_raw():
            yield chunk


VARIANTS: dict[str, Callable[[str, str], AsyncIterator[bytes]]] = {"own": own, "aiohttp": aiohttp, "httpx": httpx}
_made: dict[str, Any] = {}


def _once(name: str, make: Callable[[], Any]) -> Any:
    if name not in _made:
        _made[name] = make()
    return _made[name]


def serve(variant: str, url: str, ca_file: str) -> None:
    """Run the relay, which answers every request with the bytes of `url`."""
    import uvicorn

    from serverpy.api.protocol import StreamProtocol

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # mypy cannot tell that each body is an async generator
        async with contextlib.aclosing(VARIANTS[variant](url, ca_file)) as body:  # type: ignore[type-var]
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                del chunk
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                if scope["extensions"].get("gone"):
                    return
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, port=0, loop="uvloop", http=StreamProtocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn sets no event when it has started
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving

    import uvloop

    uvloop.run(run())


@contextlib.contextmanager
def serving(variant: str, url: str, ca_file: str) -> Iterator[tuple[psutil.Process, int]]:
    command = [sys.executable, __file__, "--serve", variant, url, ca_file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield psutil.Process(child.pid), int(child.stdout.readline())
        finally:
            child.kill()


async def read(port: int, rate: float | None, seconds: float | None) -> int:
    """Read from the relay for `seconds`, or up to the end of the stream if `seconds` is None. Returns the number of
    bytes read. Reads at most `rate` bytes per second if `rate` is given."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    writer.write(b"GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
    begun, total = asyncio.get_running_loop().time(), 0
    while chunk := await reader.read(READ_BYTES):
        total += len(chunk)
        elapsed = asyncio.get_running_loop().time() - begun
        if seconds is not None and elapsed > seconds:
            break
        if rate is not None and total / rate > elapsed:
            await asyncio.sleep(total / rate - elapsed)
    writer.transport.abort()
    return total


def measure(variant: str, url: str, ca_file: str, clients: int) -> tuple[float, float]:
    """Return the memory in MB that the relay holds for each of `clients` slow streams, and the CPU seconds that it uses
    per GB for a fast stream."""
    with serving(variant, url, ca_file) as (process, port):
        # the first request loads modules and fills connection pools, so it is not measured
        asyncio.run(read(port, None, None))
        before = sum(process.cpu_times()[:2])
        read_bytes = asyncio.run(read(port, None, None)) + asyncio.run(read(port, None, None))
        cpu = (sum(process.cpu_times()[:2]) - before) / read_bytes * 1e9
        base = process.memory_full_info().pss
        held = asyncio.run(_slow(process, port, clients)) - base
        return held / clients / 1e6, cpu


async def _slow(process: psutil.Process, port: int, clients: int) -> int:
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(read(port, SLOW_RATE, SLOW_SECONDS))
        await asyncio.sleep(SLOW_SECONDS - 1)
        return int(process.memory_full_info().pss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--mib", type=int, default=180)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    with SampleSite(port=0, https_port=0) as site:
        print(f"{'client':10} {'scheme':6} {'MB per slow stream':>18} {'CPU s per GB':>12}")
        for origin in (site.http, site.https):
            for variant in VARIANTS:
                if variant != "own" and importlib.util.find_spec(variant) is None:
                    print(f"{variant:10} is not installed")
                    continue
                held, cpu = measure(
                    variant, f"{origin}/media/large-{options.mib}.mp4", str(site.ca_file), options.clients
                )
                print(f"{variant:10} {str(origin).partition(':')[0]:6} {held:18.3f} {cpu:12.2f}", flush=True)


if __name__ == "__main__":
    main()
