"""Tests that no request leaves a stream, a connection or a process behind if its client disconnects or stops reading,
if the server stops, or if a process dies."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from serverpy.sample import large_sha256
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.processes import gone
from tests.server import STOP_SECONDS, Server, answers_under_way, serving
from tests.wire import Exchange

METHODS = ("relay", "embedded", "subprocess")
BIG = "/media/large-64.mp4"
SMALL_BUFFER = 4096
"""Size of a client's kernel receive buffer in bytes. The buffer is small, so that the server soon has to wait for the
client."""


@pytest.fixture(scope="module")
def narrow(site: SampleSite) -> Iterator[Server]:
    """Run a server that allows one stream at a time, one download thread and one yt-dlp child. Further requests wait up
    to 60 s."""
    with serving(site, max_streams=1, max_workers=1, max_children=1, wait_seconds=60) as running:
        yield running


def until_asked(site: SampleSite, path: str, before: int) -> None:
    """Wait until the sample site is sending a response, and until it has got a request for `path` after its first
    `before` requests."""
    wait_for(
        lambda: any(path in asked.path for asked in site.requests[before:]) and answers_under_way(site) > 0,
        lambda: f"no request for {path}",
    )


def until_health(server: Server, **expected: int) -> None:
    def state() -> dict[str, int]:
        health = server.health()
        return {name: health[name] for name in expected}

    wait_for(lambda: state() == expected, lambda: f"{state()} is not {expected}")


# Clients that leave


@pytest.mark.parametrize("method", METHODS)
def test_a_waiting_client_that_disconnects_is_removed_from_the_queue(narrow: Server, method: str) -> None:
    with narrow.open(BIG, receive_bytes=SMALL_BUFFER) as first:
        first.read(1)
        with narrow.open("/page/prog", method=method):
            until_health(narrow, waiting=1)
        wait_for(lambda: narrow.health()["waiting"] == 0)
        assert narrow.health()["streams"] == 1
    narrow.settled()


@pytest.mark.parametrize("method", METHODS)
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_during_the_extraction(
    server: Server, site: SampleSite, method: str
) -> None:
    before = len(site.requests)
    with server.open(f"/page/slow?seconds=60&for={method}", method=method):
        until_asked(site, "/page/slow", before)
    server.settled()


def test_no_stream_is_left_on_the_server_if_a_client_that_has_sent_a_body_disconnects(
    server: Server, site: SampleSite
) -> None:
    """The server discards the request body, and still notices that the client has disconnected."""
    before = len(site.requests)
    target = server.target("/page/slow?seconds=60&for=body")
    body = b"x" * 1_000_000
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with server.send(head.encode() + body):
        until_asked(site, "/page/slow", before)
    server.settled()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_before_the_first_byte(
    server: Server, site: SampleSite, method: str, verb: str
) -> None:
    before = len(site.requests)
    with server.open("/page/fault/delay=60/prog.mp4", method=method, verb=verb):
        until_asked(site, "/media/prog.mp4", before)
    server.settled()


@pytest.mark.parametrize("method", METHODS)
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_while_the_media_server_is_silent(
    server: Server, method: str
) -> None:
    with server.open("/page/fault/stall=1000000/prog.mp4", method=method) as exchange:
        assert len(exchange.read(100_000)) >= 100_000
    server.settled()


@pytest.mark.parametrize("method", METHODS)
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_while_the_server_waits_for_the_client_to_read(
    server: Server, site: SampleSite, method: str
) -> None:
    with server.open(BIG, method=method, receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(1)
        until_health(server, streams=1)
        assert answers_under_way(site) == 1
    server.settled()


@pytest.mark.parametrize("method", METHODS)
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_right_after_the_last_byte(
    server: Server, site: SampleSite, method: str
) -> None:
    length = site.path("vp9.webm").stat().st_size
    with server.open("/page/webm", method=method) as exchange:
        exchange.read(length)
    server.settled()


@pytest.mark.parametrize("method", ["auto", "embedded", "subprocess"])
def test_no_stream_is_left_on_the_server_if_a_client_disconnects_from_an_hls_stream(
    server: Server, method: str
) -> None:
    with server.open("/fault/throttle=1000000/hls/aes/master.m3u8", method=method) as exchange:
        assert exchange.read(1)
    server.settled()


def test_a_client_that_disconnects_does_not_end_the_extraction_that_another_client_waits_for(
    server: Server, site: SampleSite
) -> None:
    before = len(site.requests)
    page = "/page/slow?seconds=4&for=two"
    with server.open(page) as other:
        with server.open(page):
            until_asked(site, "/page/slow", before)
        assert other.rest().complete
    assert len([asked for asked in site.requests[before:] if asked.path == "/page/slow"]) == 1
    server.settled()


CROWD = (
    *("/page/prog", "/page/webm", "/page/hls-aes", BIG, "/tube/watch/chunked", "/tube/watch/post", "/page/none"),
    *("/page/slow?seconds=0.2", "/page/fault/delay=0.2/prog.mp4", "/page/fault/cut=1000000/prog.mp4"),
    *("/page/fault/rst=300000,norange/prog.mp4", "/page/fault/stall=500000/prog.mp4", "/tube/watch/crash"),
    "/page/fault/expire=1000000/prog.mp4",
)


def test_no_stream_or_connection_or_child_is_left_after_many_clients_have_disconnected(hurried: Server) -> None:
    """More clients connect than the server accepts at once, and each client disconnects at a random moment."""

    def come_and_go(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(20):
            method = chance.choice(["relay", "embedded", "auto"])
            with hurried.open(chance.choice(CROWD), method=method) as exchange:
                if chance.random() < 0.8:
                    exchange.head()
                    exchange.read(int(10 ** chance.uniform(0, 6.5)))

    with ThreadPoolExecutor(6) as crowd:
        for each in [crowd.submit(come_and_go, seed) for seed in range(6)]:
            each.result()
    hurried.settled()


# Clients that stop reading or sending


@pytest.mark.parametrize("method", METHODS)
def test_the_server_cuts_a_stream_whose_client_stops_reading_for_the_stall_timeout(
    hurried: Server, method: str
) -> None:
    with hurried.open(BIG, method=method, receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(100_000)
        hurried.settled()
        answer = exchange.rest()
        assert not answer.complete
        assert len(answer.body) < 16 << 20


def test_a_client_that_never_completes_its_request_holds_no_stream(server: Server) -> None:
    with server.send(b"GET /stream?url=http"):
        server.settled()


# Requests beyond the limits


@contextlib.contextmanager
def full(server: Server, streams: int) -> Iterator[list[Exchange]]:
    """Open `streams` streams that last longer than the test. Closes these streams at the end of the block."""
    with contextlib.ExitStack() as stack:
        exchanges = [stack.enter_context(server.open("/page/fault/throttle=50000/prog.mp4")) for _ in range(streams)]
        for exchange in exchanges:
            exchange.read(1)
        yield exchanges


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_a_request_beyond_max_streams_waits_and_is_then_refused_with_retry_after(hurried: Server, verb: str) -> None:
    with full(hurried, 2):
        answer = hurried.get("/page/webm", verb=verb)
        assert answer.status == 503
        assert 0.4 < answer.seconds < 20
        assert int(answer.headers["retry-after"]) >= 1
        if verb == "GET":
            assert answer.code == "busy"
    hurried.settled()


@pytest.mark.parametrize("method", METHODS)
def test_a_waiting_request_is_served_when_another_client_disconnects(narrow: Server, method: str) -> None:
    with full(narrow, 1) as streams, narrow.open("/page/webm", method=method) as waiting:
        until_health(narrow, waiting=1)
        streams[0].leave()
        assert waiting.rest().complete
    narrow.settled()


def test_a_second_subprocess_stream_is_refused_if_max_children_is_1(site: SampleSite) -> None:
    with serving(site, max_children=1, wait_seconds=0.5) as server:
        with server.open(BIG, method="subprocess", receive_bytes=SMALL_BUFFER) as first:
            first.read(1)
            answer = server.get("/page/webm", method="subprocess")
            assert (answer.status, answer.code) == (503, "busy")
            assert server.get("/page/webm", method="relay").status == 200
        server.settled()


# Processes that stop or die


def test_after_sigterm_running_streams_finish_and_new_streams_are_refused(site: SampleSite) -> None:
    with serving(site, drain_seconds=120) as server, contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(server.open("/media/large-16.mp4", method=method, receive_bytes=SMALL_BUFFER))
            for method in METHODS
        ]
        for stream in streams:
            stream.read(1)
        children = server.children()
        assert len(children) == 3  # two processes that run yt-dlp, and the child of the method subprocess
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.ask("/ready").status == 503)
        for verb in ("GET", "HEAD"):
            answer = server.get("/page/webm", verb=verb)
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert server.get("/page/webm").code == "draining"
        assert server.health()["status"] == "draining"
        for stream in streams:
            answer = stream.rest()
            assert answer.complete
            assert hashlib.sha256(answer.body).hexdigest() == large_sha256(16)
        assert server.process.wait(STOP_SECONDS) == 0
        assert all(map(gone, children))


def test_relayed_streams_continue_if_the_download_process_dies(site: SampleSite) -> None:
    with serving(site, complaints=True) as server, contextlib.ExitStack() as stack:
        relayed, embedded = (
            stack.enter_context(server.open("/media/large-32.mp4", method=method, receive_bytes=SMALL_BUFFER))
            for method in ("relay", "embedded")
        )
        relayed.read(1)
        embedded.read(1)
        (worker,) = server.ytdlp_processes("download")
        worker.kill()
        assert not embedded.rest().complete
        answer = relayed.rest()
        assert answer.complete
        assert hashlib.sha256(answer.body).hexdigest() == large_sha256(32)
        assert server.get("/page/webm", method="embedded").complete
        assert server.ytdlp_processes("download") != [worker]
        server.settled()
        assert "Traceback" not in server.log


@pytest.mark.parametrize("moment", ["streaming", "silent"])
def test_a_server_that_is_killed_leaves_no_process(site: SampleSite, moment: str) -> None:
    page = BIG if moment == "streaming" else "/page/fault/stall=1000000/prog.mp4"
    with serving(site) as server, contextlib.ExitStack() as stack:
        for method in METHODS:
            stack.enter_context(server.open(page, method=method, receive_bytes=SMALL_BUFFER)).read(1)
        children = server.children()
        assert len(children) == 3  # two processes that run yt-dlp, and the child of the method subprocess
        server.process.kill()
        server.process.wait(STOP_SECONDS)
        _, left = psutil.wait_procs(children, timeout=STOP_SECONDS)
        assert not left, left


def test_the_server_starts_a_worker_again_if_its_first_start_failed(site: SampleSite, tmp_path: Path) -> None:
    """The second start of the worker succeeds before the server reports that it is ready, so no client notices that the
    first start failed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "first = pathlib.Path(__file__).with_name('first')\n"
        "if 'serverpy.ytdlp.main' in sys.orig_argv and first.exists():\n"
        "    first.unlink()\n"
        "    os._exit(1)\n"
    )
    (tmp_path / "first").touch()
    with serving(site, complaints=True, python_path=tmp_path) as server:
        assert not (tmp_path / "first").exists()
        assert "the worker process does not start" in server.log
        assert server.ask("/ready").status == 200
        assert server.get("/page/mp3").complete
