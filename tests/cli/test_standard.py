"""Tests of commands that are started with standard streams that are closed or fail, with an ASCII locale, or with
blocked signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serverpy.access.key import Key
from serverpy.access.key_file import add, load
from serverpy.bench.measure.targets.base import free_port
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.cli.commands import SECONDS, command_line, environment, names, run
from tests.streaming.segments.shelf import Shelf
from tests.wire import Exchange, request

STDOUT, ALL = ">&-", "<&- >&- 2>&-"
CLOSED_STDOUT = 141
"""Exit status of a command if stdout is closed: 128 + SIGPIPE."""
FULL = b"serverpy: cannot write to stdout: No space left on device\n"
PRINTING: dict[str, tuple[str, ...]] = {
    "version": ("--version",),
    "help": ("--help",),
    "help of a command": ("get", "--help"),
    "doctor": ("doctor",),
    "info": ("info", "--json", "--allow-networks", "{site}", "http://{site}/page/prog"),
    "links sign": ("links", "sign", "http://a.example/", "--state-dir", "state"),
    "keys list": ("keys", "list", "--api-keys-file", "keys.toml"),
    "keys add": ("keys", "add", "bob", "--api-keys-file", "keys.toml"),
    "bench": ("bench", "--list"),
}
"""Command lines of commands that print to stdout."""


def closing(streams: str, command: list[str]) -> list[str]:
    """Return a command line that runs `command` with the given standard streams closed."""
    return ["sh", "-c", f'exec "$@" {streams}', "sh", *command]


@pytest.mark.parametrize(("streams", "more"), [(STDOUT, ()), (ALL, ("--isolate",))], ids=["stdout", "all"])
def test_get_downloads_a_file_even_if_its_standard_streams_are_closed(
    site: SampleSite, tmp_path: Path, streams: str, more: tuple[str, ...]
) -> None:
    command = closing(streams, command_line(site, "get", *more, f"{site.http}/page/prog"))
    assert subprocess.run(command, cwd=tmp_path, env=environment(), timeout=SECONDS).returncode == 0
    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == site.path("prog.mp4").read_bytes()


def test_get_to_stdout_exits_with_an_error_status_if_stdout_is_closed(site: SampleSite, tmp_path: Path) -> None:
    command = closing(STDOUT, command_line(site, "get", "-o", "-", f"{site.http}/page/prog"))
    assert subprocess.run(command, cwd=tmp_path, env=environment(), timeout=SECONDS).returncode == CLOSED_STDOUT


@contextlib.contextmanager
def failing(fault: str) -> Iterator[int]:
    """Yield a file descriptor that cannot be written to: of /dev/full, or of a pipe whose reading end is closed."""
    if fault == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, descriptor = os.pipe()
        os.close(reading)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ended(folder: Path, arguments: Iterable[str], closed: str = "", **streams: int) -> tuple[int, bytes, bytes]:
    """Run the command in `folder`. `closed` are redirections of the shell that close standard streams. `streams` are
    descriptors for other standard streams. Returns the exit status, and the bytes that the command wrote to stdout and
    stderr."""
    command = closing(closed, [sys.executable, "-m", "serverpy", *arguments])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    done = subprocess.run(command, cwd=folder, env=environment(), timeout=SECONDS, **pipes)  # type: ignore[call-overload]  # mypy takes the values for other parameters
    return done.returncode, done.stdout or b"", done.stderr or b""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a keys file that has one key."""
    add(tmp_path / "keys.toml", lambda _keys: Key(name="al", digest=b"1" * 32))
    return tmp_path


@pytest.mark.parametrize("name", PRINTING)
def test_a_command_that_cannot_write_to_stdout_says_why_or_ends_quietly_if_the_reader_has_left(
    site: SampleSite, folder: Path, name: str
) -> None:
    arguments = [each.format(site=site.http.removeprefix("http://")) for each in PRINTING[name]]
    with failing("full") as full, failing("reader gone") as gone, ThreadPoolExecutor() as pool:
        disk_full, left, closed = (
            pool.submit(ended, folder, arguments, stdout=full),
            pool.submit(ended, folder, arguments, stdout=gone),
            pool.submit(ended, folder, arguments, STDOUT),
        )
        assert disk_full.result() == (1, b"", FULL)
        assert left.result() == closed.result() == (CLOSED_STDOUT, b"", b"")
    assert [each.name for each in load(folder / "keys.toml")] == ["al"]  # the key could not be printed


@pytest.mark.parametrize("fault", ["full", "reader gone"])
def test_a_command_that_cannot_write_to_stderr_does_its_work_and_keeps_its_exit_status(
    site: SampleSite, folder: Path, fault: str
) -> None:
    get = ("get", "--allow-networks", site.http.removeprefix("http://"))
    pages = [f"{site.http}/page/{name}" for name in ("prog", "nothing", "mp3")]
    with failing(fault) as lost, ThreadPoolExecutor() as pool:
        files, isolated, media, key, usage, link = (
            pool.submit(ended, folder, arguments, stderr=lost)
            for arguments in (
                (*get, "-o", "here", *pages),
                (*get, "-o", "apart", "--isolate", pages[0]),
                (*get, "-o", "-", pages[0]),
                PRINTING["keys add"],
                ("nonsense",),
                ("links", "verify", "abc"),
            )
        )
        assert [each.result()[0] for each in (files, isolated, usage, link)] == [1, 0, 2, 1]
        assert media.result() == (0, site.path("prog.mp4").read_bytes(), b"")
        code, secret, _ = key.result()
        assert (code, len(secret)) == (0, 44)
    assert len(names(folder / "here")) == 2
    assert set(names(folder / "apart")) < set(names(folder / "here"))


@pytest.mark.parametrize(("name", "fault"), [("serve", "full"), ("serve", "reader gone"), ("sample", "full")])
def test_a_server_that_cannot_print_its_address_answers_requests(tmp_path: Path, name: str, fault: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serverpy", name, "--port", str(port)]
    path = {"serve": "/ready", "sample": "/page/prog"}[name]
    with (
        failing(fault) as lost,
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=lost, stderr=subprocess.PIPE) as process,
    ):
        try:
            wait_for(lambda: is_ready(port, path), lambda: f"exit status {process.poll()}", seconds=SECONDS)
            process.terminate()
            _, log = process.communicate(timeout=SECONDS)
            assert (process.returncode, b"Traceback" in log) == (0, False)
        finally:
            process.kill()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_waits_for_a_slow_reader_of_a_non_blocking_pipe(tmp_path: Path, stream: str) -> None:
    """A parent such as Node.js makes the pipes of its children non-blocking."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    arguments = {"stdout": ["serve", "--help"], "stderr": ["get", *("x" * 9000 for _ in range(2))]}[stream]
    command = [sys.executable, "-m", "serverpy", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **{stream: writing}) as process:  # type: ignore[call-overload]  # as in `ended`
        os.close(writing)
        with open(reading, "rb") as pipe:
            text = pipe.read()
        assert process.wait(SECONDS) == (0 if stream == "stdout" else 2)
    assert len(text) > 9000
    assert text.endswith(b"\n")
    assert b"Traceback" not in text


def test_serve_creates_no_first_admin_key_that_it_cannot_print(tmp_path: Path) -> None:
    arguments = ["serve", "--port", "0", "--create-key", "--api-keys-file", "keys.toml"]
    with failing("full") as full:
        assert ended(tmp_path, arguments, stdout=full) == (1, b"", FULL)
    assert not (tmp_path / "keys.toml").exists() or not list(load(tmp_path / "keys.toml"))


def test_a_server_started_without_standard_streams_serves_several_streams_one_after_another(
    site: SampleSite, tmp_path: Path
) -> None:
    port = free_port()
    command = closing(ALL, command_line(site, "serve", "--port", str(port), "--state-dir", str(tmp_path)))
    with subprocess.Popen(command, cwd=tmp_path, env=environment()) as process:
        try:
            wait_for(lambda: is_ready(port), lambda: f"exit status {process.poll()}", seconds=SECONDS)
            page = f"/stream?method=relay&url={site.http}/page/prog"
            for _ in range(3):
                with Exchange(("127.0.0.1", port), request(page, f"127.0.0.1:{port}")) as exchange:
                    assert exchange.rest().body == site.path("prog.mp4").read_bytes()
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}


def test_in_an_ascii_locale_info_prints_a_title_with_replacement_characters_and_json_in_utf_8(
    site: SampleSite, tmp_path: Path
) -> None:
    with Shelf() as shelf:
        shelf.files["/page"] = f'<title>Größe ♥</title><video src="{site.http}/media/prog.mp4"></video>'.encode()
        shelf.headers["/page"] = {"Content-Type": "text/html; charset=utf-8"}
        allowed = ("--allow-networks", f"{site.http},{shelf.url}".replace("http://", ""))
        text, json_ = (
            run(site, "info", *allowed, *more, f"{shelf.url}/page", cwd=tmp_path, **ASCII) for more in ((), ("--json",))
        )
    assert (text.returncode, text.stderr, json_.returncode, json_.stderr) == (0, b"", 0, b"")
    assert text.stdout.startswith(b"Gr??e ?")
    assert json.loads(json_.stdout)["title"].startswith("Größe ♥")
    assert "Größe ♥".encode() in json_.stdout


def test_help_texts_are_printed_in_an_ascii_locale(site: SampleSite, tmp_path: Path) -> None:
    done = run(site, "get", "--help", cwd=tmp_path, **ASCII)
    assert (done.returncode, done.stderr) == (0, b"")


def test_sigterm_stops_a_server_even_if_the_server_was_started_with_all_signals_blocked(
    site: SampleSite, tmp_path: Path
) -> None:
    port = free_port()
    blocking = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = command_line(site, "serve", "--port", str(port), "--state-dir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", blocking, *command], cwd=tmp_path, env=environment()) as process:
        try:
            wait_for(lambda: is_ready(port), lambda: f"exit status {process.poll()}", seconds=SECONDS)
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


def is_ready(port: int, path: str = "/ready") -> bool:
    try:
        with Exchange(("127.0.0.1", port), request(path, f"127.0.0.1:{port}")) as exchange:
            return exchange.rest().status == 200
    except OSError:
        return False
