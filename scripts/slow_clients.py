"""Test of many slow clients on one server: a check of every byte, and a measurement of the server's memory.

    python scripts/slow_clients.py [--clients 200] [--rate 65536] [--methods relay,embedded]

The script starts `serverpy serve --demo` with MAX_WORKERS set to the number of clients. Each client reads the sample
file at `--rate` bytes per second, and compares every byte with the file. The script prints the peak memory (PSS) of
server and worker, sampled twice a second, and exits with 1 if a client did not get exactly the bytes of the file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

import psutil

SAMPLE_SECONDS = 0.5
READ_BYTES = 32 * 1024


@dataclass
class Running:
    """A server under test: its port, a page to stream, and its processes (without the sample site)."""

    port: int
    page: str
    process: psutil.Process

    def pss(self) -> list[int]:
        """Return the PSS in bytes of the server's process, then the total PSS of its worker and other children."""
        children = [each for each in self.process.children(recursive=True) if "sample" not in each.cmdline()]
        return [each.memory_full_info().pss for each in [self.process, *children]]

    def health(self) -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10) as answer:
            found: dict[str, object] = json.load(answer)
        return found


@dataclass
class Outcome:
    complete: int = 0
    faults: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(clients: int) -> Iterator[Running]:
    command = [sys.executable, "-m", "serverpy", "serve", "--demo", "--port", "0", "--max-workers", str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        try:
            said = ""
            while "curl" not in said:
                line = child.stdout.readline()
                if not line:
                    raise SystemExit("the server did not start: run `serverpy serve --demo` to see its error")
                said += line
            port, page = re.search(r"127\.0\.0\.1:(\d+)/stream", said), re.search(r"sample page: (\S+)", said)
            assert port is not None
            assert page is not None
            yield Running(int(port[1]), page[1], psutil.Process(child.pid))
        finally:
            child.terminate()
            child.wait(60)


async def read(running: Running, method: str, rate: int, film: bytes, outcome: Outcome) -> None:
    """Run one client, which reads the whole sample file at `rate` bytes per second, and compares every byte with the
    file."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=READ_BYTES)
    try:
        path = f"/stream?url={quote(running.page, safe='')}&method={method}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split()[1])
        if status != 200:
            outcome.faults.append(f"status {status}")
            return
        position, begun = 0, asyncio.get_running_loop().time()
        while piece := await _piece(reader, chunked=b"transfer-encoding: chunked" in head):
            if film[position : position + len(piece)] != piece:
                outcome.faults.append(f"wrong bytes at {position}")
                return
            position += len(piece)
            await asyncio.sleep(max(0.0, position / rate - (asyncio.get_running_loop().time() - begun)))
        if position == len(film):
            outcome.complete += 1
        else:
            outcome.faults.append(f"ended at {position} of {len(film)}")
    except (OSError, EOFError) as error:
        outcome.faults.append(f"{type(error).__name__}: {error}")
    finally:
        writer.transport.abort()


async def _piece(reader: asyncio.StreamReader, *, chunked: bool) -> bytes:
    """Read and return the next bytes of the body, or `b""` at its end. Raises IncompleteReadError, an EOFError, if the
    connection closes within a chunk."""
    if not chunked:
        return await reader.read(READ_BYTES)
    size = int(await reader.readuntil(b"\r\n"), 16)
    data = await reader.readexactly(size)
    await reader.readexactly(2)
    return data


async def crowd(running: Running, method: str, clients: int, rate: int, film: bytes) -> bool:
    base, peak, parts = sum(running.pss()), 0, list[int]()
    outcome = Outcome()
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(running, method, rate, film, outcome)) for _ in range(clients)]
        while not all(reader.done() for reader in readers):
            now = await asyncio.to_thread(running.pss)
            if sum(now) > peak:
                peak, parts = sum(now), now
            await asyncio.sleep(SAMPLE_SECONDS)
    each = (peak - base) / clients / 1e6
    print(f"{method}: {outcome.complete} of {clients} clients got all {len(film)} bytes correctly")
    print(f"  peak PSS {peak / 1e6:.1f} MB {[round(part / 1e6, 1) for part in parts]}, base {base / 1e6:.1f} MB")
    print(f"  {each:.3f} MB per client")
    for fault in sorted(set(outcome.faults)):
        print(f"  {outcome.faults.count(fault)} × {fault}")
    return outcome.complete == clients


async def run(clients: int, rate: int, methods: list[str]) -> bool:
    with serving(clients) as running:
        film = await asyncio.to_thread(_film, running)
        # The first stream of each method makes the server load modules. Their memory is part of the base, not of the
        # streams.
        for method in methods:
            await read(running, method, 1 << 40, film, Outcome())
        right = [await crowd(running, method, clients, rate, film) for method in methods]
        await asyncio.sleep(1)
        health = running.health()
        print("afterwards:", {name: health[name] for name in ("streams", "waiting", "upstreams", "threads", "budget")})
        return all(right)


def _film(running: Running) -> bytes:
    """Return the bytes of the sample file, downloaded from the sample site."""
    url = running.page.replace("/page/prog", "/media/prog.mp4")
    with urllib.request.urlopen(url, timeout=30) as answer:
        film: bytes = answer.read()
    return film


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=int, default=64 * 1024, help="bytes per second that each client reads")
    parser.add_argument("--methods", default="relay,embedded", help="streaming methods to test, separated by commas")
    options = parser.parse_args()
    if not asyncio.run(run(options.clients, options.rate, options.methods.split(","))):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
