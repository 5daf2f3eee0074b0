"""Tests of commands that are started with closed standard streams, with an ASCII locale, or with blocked signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serverpy.bench.measure.targets.base import free_port
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.cli.commands import SECONDS, command_line, environment, run
from tests.streaming.segments.shelf import Shelf
from tests.wire import Exchange, request

STDOUT, ALL = ">&-", "<&- >&- 2>&-"
CLOSED_STDOUT = 141
"""Exit status of `serverpy get` if stdout is closed: 128 + SIGPIPE."""


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


def is_ready(port: int) -> bool:
    try:
        with Exchange(("127.0.0.1", port), request("/ready", f"127.0.0.1:{port}")) as exchange:
            return exchange.rest().status == 200
    except OSError:
        return False
