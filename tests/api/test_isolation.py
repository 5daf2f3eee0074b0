"""Tests that other clients get their streams in spite of a misbehaving page or process. The pages hold the interpreter
lock or send their bytes slowly. The processes are stopped (SIGSTOP) or killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serverpy.sample import PLUGIN_PATH
from serverpy.sample.content import large_sha256
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.extraction.workers import PROBES
from tests.processes import gone
from tests.server import STOP_SECONDS, Server, environment, serving
from tests.wire import Exchange

FILM = "/media/large-16.mp4"
LONG_FILM = "/media/large-64.mp4"
"""A file that is larger than the socket buffers of a connection."""
SMALL_BUFFER = 4096


@pytest.fixture(scope="module")
def probed(site: SampleSite) -> Iterator[Server]:
    """Run a server with short timeouts, and with the probe extractors, which misbehave on purpose."""
    with serving(
        site, complaints=True, python_path=PROBES, extract_timeout=10, stall_timeout=4, wait_seconds=60
    ) as running:
        yield running


@contextlib.contextmanager
def embedded_streams(server: Server, count: int, page: str = FILM) -> Iterator[list[Exchange]]:
    """Open `count` streams by the method `embedded`, and read the first byte of each. Closes the streams at the end of
    the block."""
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(server.open(page, method="embedded", receive_bytes=SMALL_BUFFER)) for _ in range(count)
        ]
        for each in streams:
            each.read(1)
        yield streams


def test_embedded_streams_continue_while_the_extraction_of_a_page_holds_the_interpreter_lock(probed: Server) -> None:
    with embedded_streams(probed, 3) as streams, probed.open("/probe/backtrack", path="/info") as catastrophic:
        wait_for(lambda: any(busy_percent(each) > 10 for each in probed.ytdlp_processes("extract")))
        for each in streams:
            answer = each.rest()
            assert answer.complete
            assert hashlib.sha256(answer.body).hexdigest() == large_sha256(16)
        assert catastrophic.rest().code == "extraction_timeout"
    assert probed.get("/page/webm", path="/info").status == 200
    probed.settled()


def busy_percent(process: psutil.Process) -> float:
    return process.cpu_percent(interval=0.1)


def test_the_streams_of_a_stopped_download_process_are_cut_and_the_process_is_replaced(probed: Server) -> None:
    with embedded_streams(probed, 2, LONG_FILM) as streams:
        (stopped,) = probed.ytdlp_processes("download")
        stopped.suspend()
        for each in streams:
            assert not each.rest().complete
    wait_for(lambda: gone(stopped))
    wait_for(lambda: "embedded: upstream_timeout" in probed.log)
    assert probed.get("/page/webm", method="embedded").complete
    probed.settled()


def test_a_subprocess_stream_is_cut_if_its_yt_dlp_child_is_stopped(probed: Server) -> None:
    with probed.open(LONG_FILM, method="subprocess", receive_bytes=SMALL_BUFFER) as stream:
        stream.read(1)
        (child,) = (each for each in probed.children() if "serverpy.ytdlp.commandline" in each.cmdline())
        child.suspend()
        assert not stream.rest().complete
    wait_for(lambda: gone(child))
    wait_for(lambda: "subprocess: upstream_timeout" in probed.log)
    probed.settled()


def test_embedded_streams_continue_while_the_extraction_process_is_stopped(probed: Server) -> None:
    with embedded_streams(probed, 1) as (stream,):
        stopped = probed.ytdlp_processes("extract")
        for each in stopped:
            each.suspend()
        with probed.open("/page/prog?stopped", path="/info") as page:
            assert stream.rest().complete
            assert page.rest().status == 200  # another process extracts this page
        wait_for(lambda: gone(stopped[0]))
    assert probed.get("/page/prog?again", path="/info").status == 200
    probed.settled()


def test_two_pages_that_send_their_bytes_slowly_do_not_block_extractions_of_other_pages(site: SampleSite) -> None:
    with (
        serving(site, complaints=True, extract_workers=1, wait_seconds=5, extract_timeout=20) as server,
        server.open("/page/slow?seconds=600&1", path="/info"),
        server.open("/page/slow?seconds=600&2", path="/info"),
    ):
        wait_for(lambda: "serverpy_extractions 2.0" in server.ask("/metrics").body.decode())
        for number in range(5):
            assert server.get(f"/page/prog?honest-{number}", path="/info").status == 200
        assert "serverpy_extractions 2.0" in server.ask("/metrics").body.decode()


def test_the_pages_of_one_host_may_use_a_quarter_of_max_extractions_and_a_further_extraction_is_refused_as_busy(
    site: SampleSite,
) -> None:
    with (
        serving(site, complaints=True, max_extractions=4, wait_seconds=0.3, extract_timeout=15) as server,
        server.open("/page/slow?seconds=600", path="/info"),
    ):
        wait_for(lambda: "serverpy_extractions 1.0" in server.ask("/metrics").body.decode())
        refused = server.get("/page/prog", path="/info")
        assert (refused.status, refused.code) == (503, "busy")
        assert int(refused.headers["retry-after"]) > 0
        assert "serverpy_extractions_refused_total 1.0" in server.ask("/metrics").body.decode()


def test_a_killed_supervisor_leaves_no_process(tmp_path: Path, site: SampleSite) -> None:
    command = [sys.executable, "-m", "serverpy", "serve", "--port", "0", "--workers", "2", "--drain-seconds", "1"]
    env = environment(site, {}, PLUGIN_PATH)
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as supervisor:
        try:
            parent = psutil.Process(supervisor.pid)
            wait_for(lambda: len(running(parent, "serverpy.ytdlp.main")) == 2, seconds=STOP_SECONDS)
            processes = parent.children(recursive=True)
        finally:
            supervisor.send_signal(signal.SIGKILL)
        wait_for(lambda: all(map(gone, processes)), seconds=STOP_SECONDS)


def running(parent: psutil.Process, module: str) -> list[psutil.Process]:
    found = []
    for each in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [each] if module in each.cmdline() else []
    return found


@pytest.mark.parametrize("selector", ["all+all+all", "b+" * 12 + "b", "x" * 2000, "b)", "b[format_id~='(a+)+$']"])
def test_a_format_selector_that_could_take_too_long_to_evaluate_is_refused_by_every_method(
    server: Server, selector: str
) -> None:
    for method in ("relay", "embedded", "subprocess"):
        answer = server.get("/tube/watch/full", method=method, format=selector)
        assert (answer.status, answer.code) == (400, "invalid_parameter"), (method, answer.body)


def test_a_yt_dlp_child_that_exceeds_its_memory_limit_fails_with_the_code_too_large_and_the_next_child_works(
    probed: Server,
) -> None:
    answer = probed.get("/probe/memory?to=3000000000", method="subprocess")
    assert (answer.status, answer.code) == (413, "too_large")
    with probed.open(FILM, method="subprocess", receive_bytes=SMALL_BUFFER) as stream:
        stream.read(1)
        (child,) = (each for each in probed.children() if "serverpy.ytdlp.commandline" in each.cmdline())
        assert child.rlimit(psutil.RLIMIT_DATA)[0] <= 1 << 30
        assert 0 < child.rlimit(psutil.RLIMIT_CPU)[0] < 1 << 20
    probed.settled()


def test_the_child_processes_of_a_killed_yt_dlp_process_end(probed: Server) -> None:
    """For example, yt-dlp starts a JavaScript runtime as a child process."""
    with probed.open("/probe/child?to=3600", path="/info"):
        wait_for(lambda: [each for worker in probed.ytdlp_processes("extract") for each in worker.children()])
        (child,) = (each for worker in probed.ytdlp_processes("extract") for each in worker.children())
        os.kill(child.ppid(), signal.SIGKILL)
        wait_for(lambda: gone(child))
    probed.settled()
