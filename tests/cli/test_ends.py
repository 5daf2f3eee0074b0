"""Tests of how `serverpy serve` ends: after signals, and as process 1 of a PID namespace."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.api.test_leaving import SMALL_BUFFER
from tests.cli.test_serve import Running, ended, serving
from tests.players.tools import tool
from tests.processes import gone
from tests.wire import Exchange, request


@contextlib.contextmanager
def streaming(server: Running, site: SampleSite) -> Iterator[Exchange]:
    """Open a stream whose client reads only the first byte. Closes the stream at the end of the block."""
    host, _, port = server.address.partition(":")
    target = f"/stream?url={quote(site.http + '/media/large-64.mp4', safe='')}"
    with Exchange((host, int(port)), request(target, server.address), receive_bytes=SMALL_BUFFER) as exchange:
        exchange.read(1)
        yield exchange


def arguments(site: SampleSite, *more: str) -> list[str]:
    return ["--allow-networks", site.http.removeprefix("http://"), "--drain-seconds", "200", *more]


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGINT), ("2", signal.SIGTERM)])
def test_a_second_sigint_or_sigterm_cuts_running_streams_at_once(
    tmp_path: Path, site: SampleSite, workers: str, number: signal.Signals
) -> None:
    with serving(tmp_path, *arguments(site, "--workers", workers)) as server, streaming(server, site) as exchange:
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(number)
        if workers == "1":
            wait_for(lambda: server.status("/ready") == 503)
        else:  # the server process without a stream ends after the first signal
            wait_for(lambda: sum(map(gone, children)) > 1)
        server.process.send_signal(number)
        assert ended(server.process) == 0
        assert not exchange.rest().complete
        assert exchange.was_reset
        wait_for(lambda: all(map(gone, children)))


def test_after_sighup_a_single_server_process_finishes_its_streams_and_ends(tmp_path: Path, site: SampleSite) -> None:
    with serving(tmp_path, *arguments(site)) as server, streaming(server, site) as exchange:
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.status("/ready") == 503)
        server.process.send_signal(signal.SIGHUP)
        answer = exchange.rest()
        assert (answer.complete, len(answer.body)) == (True, 64 << 20)
        assert ended(server.process) == 0


def test_after_sighup_a_supervisor_replaces_its_server_processes(tmp_path: Path, site: SampleSite) -> None:
    with serving(tmp_path, *arguments(site, "--workers", "2")) as server:
        children = psutil.Process(server.process.pid).children()
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: sum(map(gone, children)) >= 2, seconds=120)
        assert server.status("/robots.txt") == 200
        server.process.send_signal(signal.SIGTERM)
        assert ended(server.process) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to create a PID namespace")
def test_a_server_that_is_process_1_reaps_orphans_and_finishes_its_stream_after_sigterm(
    tmp_path: Path, site: SampleSite
) -> None:
    unshare = [
        tool("unshare"),
        "--pid",
        "--fork",
        "--mount-proc",
        sys.executable,
        "-m",
        "serverpy",
        "serve",
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*unshare, *arguments(site, "--workers", "1")],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            match = re.search(r"http://([^/]+)/", process.stdout.readline())
            assert match
            server = Running(process, match[1], [])
            (init,) = psutil.Process(process.pid).children()
            orphan = _make_orphan(init)
            orphan.kill()
            wait_for(lambda: not orphan.is_running())
            with streaming(server, site) as exchange:
                init.send_signal(signal.SIGTERM)
                wait_for(lambda: server.status("/ready") == 503)
                assert exchange.rest().complete
            assert ended(process) == 0
        finally:
            if process.poll() is None:
                psutil.Process(process.pid).children()[0].kill()


def _make_orphan(init: psutil.Process) -> psutil.Process:
    """Start a process in the PID namespace of the process `init`. The parent of the new process ends at once, so the
    new process is an orphan. Returns the new process."""
    enter = ["nsenter", "--target", str(init.pid), "--pid", "--mount"]
    subprocess.run([*enter, "sh", "-c", "sleep 600 & exit 0"], check=True, timeout=60)

    def orphans() -> list[psutil.Process]:
        return [each for each in init.children() if each.name() == "sleep"]

    # The shell ends when it has forked: its child may not have executed `sleep` yet.
    wait_for(lambda: bool(orphans()))
    return orphans()[0]
