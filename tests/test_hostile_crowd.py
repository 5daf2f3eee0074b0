"""Tests of the memory and the host name look-ups of a server that streams from many hostile media servers at once. The
server runs in its own process."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.net.origin import Origin, read_head
from tests.server import Server, serving
from tests.wire import Exchange

FEW, MANY = 12, 200
"""Numbers of hostile streams: FEW in `make test`, and MANY in `make soak`."""
BODY = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(30_000)
SLACK_BYTES = 12 * 1024 * 1024
"""Bytes of memory that a server may hold in addition to its reservations, after its first streams: the modules that it
has imported by then, and free heap memory."""


def body_of(head: bytes, chunk: Callable[[bytes], bytes] = lambda data: data) -> Callable[[socket.socket, bytes], None]:
    """Return a handler that sends `head` and an endless file. `chunk` is a function that frames each block of the file
    for its transfer coding."""

    begin, more = head + b"\r\n" + chunk(BODY), chunk(bytes(16384))

    def handle(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(more)

    return handle


def chunked(data: bytes) -> bytes:
    pieces = (data[at : at + 64] for at in range(0, len(data), 64))
    return b"".join(b"%x;x=%s\r\n%s\r\n" % (len(piece), b"y" * 40, piece) for piece in pieces)


def redirecting(connection: socket.socket, asked: bytes) -> None:
    """Redirect four times, with fifty cookies in each response, and then send an endless file."""
    while b"/done" not in asked.partition(b"\r\n")[0]:
        hops = asked.partition(b" HTTP/")[0].count(b"+")
        there = b"/done.mp4" if hops == 3 else b"/%s.mp4?%s" % (b"+" * (hops + 1), b"x" * 2000)
        cookies = b"".join(b"Set-Cookie: c%d-%d=%s\r\n" % (hops, each, b"v" * 100) for each in range(50))
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n%s\r\n" % (there, cookies))
        asked = read_head(connection)
    body_of(PLAIN)(connection, asked)


PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
FAT = PLAIN + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 600) for number in range(90))
KEPT = PLAIN + b"".join(b"Content-Type: %s%d\r\n" % (b"x" * 600, number) for number in range(90))
KINDS: dict[str, Callable[[socket.socket, bytes], None]] = {
    "long header fields": body_of(FAT),
    "repeated fields": body_of(KEPT),
    "interim responses": body_of(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 16 + PLAIN),
    "tiny chunks with extensions": body_of(PLAIN + b"Transfer-Encoding: chunked\r\n", chunked),
    "redirects with cookies": redirecting,
}


def proportional_bytes(server: Server) -> int:
    """Return the PSS of the serving process in bytes, without that of its worker processes."""
    lines = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text(encoding="utf-8")
    found = re.search(r"^Pss:\s+(\d+) kB", lines, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@contextlib.contextmanager
def crowd(server: Server, urls: list[str]) -> Iterator[list[Exchange]]:
    """Open a stream of each of `urls`, and read only the head of each response. Closes the streams at the end of the
    block."""
    with contextlib.ExitStack() as stack:
        streams = []
        for url in urls:
            streams.append(stack.enter_context(server.open(url, receive_bytes=4096, method="relay")))
            assert streams[-1].status == 200, streams[-1].rest().body
        yield streams


def check_memory(site: SampleSite, name: str, count: int) -> None:
    with (
        Origin(KINDS[name]) as origin,
        serving(site, allow_networks="127.0.0.0/8", max_streams=count, cache_ttl=60) as server,
    ):
        with crowd(server, [f"http://127.0.0.1:{origin.port}/warm.mp4"]):
            pass
        server.settled()
        before = proportional_bytes(server)
        with crowd(server, [f"http://127.0.0.1:{origin.port}/{number}.mp4" for number in range(count)]):
            reserved = server.health()["budget"]["used"]
            assert reserved
            grown = proportional_bytes(server) - before
        assert grown <= 1.5 * reserved + SLACK_BYTES, (
            f"{grown / count:.0f} bytes of memory for each stream, but only {reserved / count:.0f} are reserved"
        )


@pytest.mark.parametrize("name", ["redirects with cookies"])
def test_a_few_hostile_streams_use_little_more_memory_than_they_have_reserved(site: SampleSite, name: str) -> None:
    check_memory(site, name, FEW)


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_many_hostile_streams_use_little_more_memory_than_they_have_reserved(site: SampleSite, name: str) -> None:
    check_memory(site, name, MANY)


# Host names that no DNS server answers for

NAMESERVER = "127.0.0.99"
PYTHON = """#!/bin/sh
exec unshare --mount sh -c 'mount --bind {resolv} /etc/resolv.conf && exec "$0" "$@"' {python} "$@"
"""
"""Script that runs Python in a mount namespace in which /etc/resolv.conf is the file `resolv`. `unshare` needs root."""


@dataclass
class Silence:
    """A DNS server that never answers. The script `python` runs Python with this DNS server."""

    sock: socket.socket
    python: str
    names: set[str] = field(default_factory=set)

    def listen(self) -> None:
        while not (question := self.sock.recv(512)).startswith(b"end"):
            self.names.add(question[13 : 13 + question[12]].decode())  # the first label of the name (RFC 1035 §4.1)


@pytest.fixture
def silence(tmp_path: Path) -> Iterator[Silence]:
    resolv, python = tmp_path / "resolv.conf", tmp_path / "python"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((NAMESERVER, 53))
            subprocess.run(["unshare", "--mount", "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs root, for port 53 and a mount namespace: {error}")
        resolv.write_text(f"nameserver {NAMESERVER}\n")
        python.write_text(PYTHON.format(resolv=resolv, python=sys.executable))
        python.chmod(0o755)
        found = Silence(sock, str(python))
        thread = threading.Thread(target=found.listen)
        thread.start()
        yield found
        sock.sendto(b"end", (NAMESERVER, 53))
        thread.join()


def test_streams_whose_host_names_get_no_dns_answer_do_not_delay_other_streams(
    site: SampleSite, silence: Silence
) -> None:
    """The stream that must not be delayed needs a look-up, too: that of `localhost`, which the hosts file answers."""

    def dead(connection: socket.socket, asked: bytes) -> None:
        number = asked.split(b"/")[1].split(b".")[0]
        lines = b"".join(b"#EXTINF:2,\nhttp://x%s-%d.dead.example/a.ts\n" % (number, each) for each in range(5))
        text = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + lines + b"#EXT-X-ENDLIST\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: %d\r\n"
        connection.sendall(head % len(text) + b"Connection: close\r\n\r\n" + text)

    honest = f"http://localhost:{site.http.rpartition(':')[2]}/media/prog.mp4"
    settings: dict[str, Any] = {"allow_networks": "127.0.0.0/8,::1", "stall_timeout": 60, "connect_timeout": 30}
    with (
        Origin(dead) as origin,
        serving(site, python=silence.python, **settings) as server,
        contextlib.ExitStack() as stack,
    ):
        pages = [f"http://127.0.0.1:{origin.port}/{number}.m3u8" for number in range(FEW)]
        streams = [stack.enter_context(server.open(page, method="relay")) for page in pages]
        wait_for(lambda: len(silence.names) >= FEW, lambda: (silence.names, server.log))
        answer = server.get(honest)
        assert (answer.status, answer.complete, len(answer.body)) == (200, True, site.path("prog.mp4").stat().st_size)
        assert not any(
            _has_answered(stream) for stream in streams[FEW // 2 :]
        )  # the streams that began last still wait for their look-ups


def _has_answered(stream: Exchange) -> bool:
    readable, _, _ = select.select([stream], [], [], 0)
    return bool(readable)
