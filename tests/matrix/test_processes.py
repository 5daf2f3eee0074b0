"""Tests of processes that are killed, stopped or terminated, and of machines without file descriptors, memory, name
lookups or disk space."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.matrix.beside import SMALL_BUFFER, nothing_left, unharmed
from tests.matrix.cells import METHODS, Cell, Expected, documented, judge, run_all
from tests.matrix.conftest import SETTINGS
from tests.processes import gone
from tests.server import STOP_SECONDS, Server, serving
from tests.wire import Answer, Exchange

STREAMS = 50
DRAIN_SECONDS = 4
RECOVERY_SECONDS = 150.0
DEAD_NAMES = 12
DESCRIPTORS, CONNECTIONS = 320, 64


@contextlib.contextmanager
def started(site: SampleSite, **settings: Any) -> Iterator[tuple[Server, Expected]]:
    """Run a server with all of its worker processes running. Yields the server and the expected bytes of its streams.
    The server may log errors, but no traceback."""
    values = {**SETTINGS, "extract_timeout": 20, "max_workers": 60, **settings}
    with serving(site, complaints=True, **values) as server:
        expected = Expected.of(server)
        assert server.get("/media/clip.mp4", method="embedded").complete
        yield server, expected
        assert "Traceback" not in server.log, server.log


def cell(name: str, method: str) -> Cell:
    return Cell(name, "times=0", method, fatal=False)


def opened(server: Server, each: Cell) -> Exchange:
    return server.open(each.url(server.site), receive_bytes=SMALL_BUFFER, **each.parameters)


# Processes


@pytest.mark.soak
def test_after_sigterm_each_of_fifty_streams_of_all_methods_is_complete_or_cut_after_a_correct_beginning(
    site: SampleSite,
) -> None:
    """Half of the clients read their streams to the end within DRAIN_SECONDS. The other clients read the rest of their
    streams only after the server has ended."""
    with started(site, drain_seconds=DRAIN_SECONDS) as (server, expected), contextlib.ExitStack() as stack:
        methods = [method for method in METHODS if method != "subprocess"]
        cells = [cell(f"sigterm {number}", methods[number % 3]) for number in range(STREAMS - 2)]
        cells += [cell(f"sigterm child {number}", "subprocess") for number in range(2)]
        streams = {each: stack.enter_context(opened(server, each)) for each in cells}
        for stream in streams.values():
            stream.read(1)
        children = server.children()
        server.process.send_signal(signal.SIGTERM)
        half = cells[::2]
        wrong = run_all(half, lambda each: judge(each, streams[each].rest(), expected))
        assert server.process.wait(STOP_SECONDS) == 0
        wrong += run_all(cells[1::2], lambda each: judge(each, streams[each].rest(), expected))
        assert not wrong, "\n".join(wrong)
        assert all(map(gone, children))


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
def test_a_killed_or_stopped_worker_or_child_process_is_replaced_and_the_streams_of_other_processes_continue(
    site: SampleSite, number: signal.Signals
) -> None:
    with started(site) as (server, expected), nothing_left(server):
        attacked: list[str] = []
        kinds: set[str] = set()
        while not attacked or kinds - set(attacked):
            attacked += [attack(server, expected, number, attacked, kinds)]
        assert len(kinds) >= 3, kinds


def attack(server: Server, expected: Expected, number: signal.Signals, attacked: list[str], kinds: set[str]) -> str:
    """Send the signal `number` to a child process of the server, while streams of all methods run. Chooses a child
    whose kind is not in `attacked`. Adds the kinds of all children to `kinds`. Returns the kind of the chosen child."""
    with contextlib.ExitStack() as stack:
        cells = [cell(f"{number.name} {len(attacked)}", method) for method in METHODS]
        streams = {each: stack.enter_context(opened(server, each)) for each in cells}
        for stream in streams.values():
            stream.read(1)
        victims = {kind_of(child): child for child in server.children()}
        kinds.update(victims)
        kind = next(kind for kind in sorted(victims) if kind not in attacked)
        with unharmed(server):
            victims[kind].send_signal(number)
            wrong = run_all(cells, lambda each: judge(each, streams[each].rest(), expected))
            assert not wrong, f"{kind}: {wrong}"
            recovers(server, kind)
        wait_for(lambda: gone(victims[kind]), lambda: f"the process {kind} has not ended", seconds=RECOVERY_SECONDS)
        return kind


def kind_of(process: psutil.Process) -> str:
    """Return the kind of a child process, which consists of the module that it runs and its role. These are the first
    two arguments that have only lower-case letters, dots and underscores."""
    words = [word for word in process.cmdline() if re.fullmatch(r"[a-z_.]+", word)]
    return " ".join(words[:2])


def recovers(server: Server, kind: str) -> None:
    """Wait until one stream by the method `relay` and one by the method `embedded` are complete. Both methods need the
    server's yt-dlp processes to be running."""
    for method in ("relay", "embedded"):
        turns = iter(range(1000))

        def works(method: str = method, turns: Iterator[int] = turns) -> bool:
            answer = read(server, cell(f"{kind} {next(turns)}", method))
            return answer.status == 200 and answer.complete

        wait_for(works, lambda: f"no stream after the end of {kind}", seconds=RECOVERY_SECONDS)


# Exhausted resources of the machine


@pytest.mark.soak
def test_without_free_file_descriptors_each_request_is_served_or_refused_with_a_documented_code(
    site: SampleSite, tmp_path: Path
) -> None:
    """Many clients connect at the same time, but the server has only enough file descriptors for half of them.
    docs/http-api.md, Connections, describes how the server serves or refuses the others."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nulimit -n {DESCRIPTORS}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    with started(site, python=str(program)) as (server, expected), nothing_left(server), unharmed(server):
        methods = ("relay", "embedded", "weave")
        cells = [cell(f"descriptors {number}", methods[number % 3]) for number in range(2 * CONNECTIONS)]
        wrong = run_all(cells, lambda each: judge(each, read(server, each), expected), at_once=2 * CONNECTIONS)
        assert not wrong, "\n".join(wrong)


def read(server: Server, each: Cell) -> Answer:
    return server.get(each.url(server.site), **each.parameters)


def test_with_a_full_memory_budget_each_request_is_served_or_refused_with_retry_after(site: SampleSite) -> None:
    with started(site, memory_budget="2MiB", wait_seconds=1) as (server, expected), nothing_left(server):
        with contextlib.ExitStack() as stack:
            cells = [cell(f"budget {number}", METHODS[number % 2]) for number in range(24)]
            streams = {each: stack.enter_context(opened(server, each)) for each in cells}
            refused = [stream.rest() for stream in streams.values() if stream.status != 200]
            assert refused, "no request was refused: the memory budget is not full"
            assert all(answer.status == 503 and documented(answer) for answer in refused)
            assert all("retry-after" in answer.headers for answer in refused)
            served = [each for each in cells if streams[each].status == 200]
            assert served
            wrong = run_all(served, lambda each: judge(each, streams[each].rest(), expected))
        assert not wrong, "\n".join(wrong)


@pytest.fixture
def unshared(tmp_path: Path) -> Path:
    """Return the path of a program that creates a mount namespace, executes the file `setup.sh` in the program's own
    folder in this namespace, and then runs Python. Skips the test if mount namespaces are not permitted."""
    unshare = shutil.which("unshare")
    if unshare is None or not _permitted(unshare):
        pytest.skip("mount namespaces are not permitted")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {unshare} --mount sh {tmp_path}/setup.sh {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def _permitted(unshare: str) -> bool:
    return subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.soak
def test_without_disk_space_each_request_is_served_or_refused_with_a_documented_code(
    site: SampleSite, unshared: Path
) -> None:
    """The file system of the directories for temporary files, state and caches is full while the server serves."""
    disk = unshared.with_name("disk")
    disk.mkdir()
    unshared.with_name("setup.sh").write_text(
        f"mount -t tmpfs -o size=512k tmpfs {disk}\nexport TMPDIR={disk} XDG_STATE_HOME={disk} XDG_CACHE_HOME={disk}\n"
        'exec "$@"\n'
    )
    with started(site, python=str(unshared)) as (server, expected), nothing_left(server), unharmed(server):
        inside = Path(f"/proc/{server.process.pid}/root{disk}/filler")
        with pytest.raises(OSError, match="No space left"):
            inside.write_bytes(bytes(1 << 20))
        cells = [cell(f"disk {number}", METHODS[number % 4]) for number in range(12)]
        wrong = run_all(cells, lambda each: judge(each, read(server, each), expected))
        assert not wrong, "\n".join(wrong)


@pytest.mark.soak
def test_streams_from_hosts_that_need_no_dns_lookup_are_served_while_the_dns_server_is_silent(
    site: SampleSite, unshared: Path
) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.77", 53))
        resolver = unshared.with_name("resolv.conf")
        resolver.write_text("nameserver 127.0.0.77\n")
        unshared.with_name("setup.sh").write_text(f'mount --bind {resolver} /etc/resolv.conf\nexec "$@"\n')
        with started(site, python=str(unshared)) as (server, expected), nothing_left(server), unharmed(server):
            dead = [cell(f"dead {number}", METHODS[number % 3]) for number in range(DEAD_NAMES)]
            known = [cell(f"known {number}", METHODS[number % 4]) for number in range(8)]

            def ask(each: Cell) -> str | None:
                if each in known:
                    answer = read(server, each)
                    return judge(each, answer, expected) or (None if answer.status == 200 else f"{answer.status}")
                name = each.name.replace(" ", "-")
                answer = server.get(f"http://{name}.example/film.mp4", **each.parameters)
                return None if documented(answer) else f"is not a documented error: {answer.status} {answer.body!r}"

            wrong = run_all([*dead, *known], ask)
            assert not wrong, "\n".join(wrong)
