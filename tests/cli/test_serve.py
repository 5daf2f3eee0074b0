"""Tests of `serverpy serve` as a process. The server answers requests, finishes running streams after SIGTERM, and
leaves no process behind, however it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import pytest
from click.testing import CliRunner

from serverpy.cli import serve
from serverpy.cli.main import cli
from serverpy.errors import ConfigurationError
from serverpy.sample.site import SampleSite
from serverpy.settings import load_settings
from tests.aio import wait_for
from tests.processes import gone


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    address: str
    lines: list[str]
    """The lines that the server has printed. The first line contains the address of the server."""

    @contextlib.contextmanager
    def get(self, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                yield response

    def status(self, path: str, **headers: str) -> int:
        with self.get(path, **headers) as response:
            return response.status


@contextlib.contextmanager
def serving(directory: Path, *arguments: str, lines: int = 1) -> Iterator[Running]:
    """Start a server on a free port. Yields the server once it has printed `lines` lines. Kills the server at the end
    of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serverpy", "serve", "--port", "0", "--workers", "1", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline().rstrip("\n") for _ in range(lines)]
            match = re.search(r"http://([^/]+)/", "\n".join(said))
            assert match, f"the server did not start: {said}"
            yield Running(process, match[1], said)
        finally:
            if process.poll() is None:
                process.kill()


def ended(process: subprocess.Popen[str]) -> int:
    return process.wait(60)


def test_the_curl_command_that_serve_demo_prints_works_and_the_sample_site_ends_with_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, "--demo", lines=3) as server:
        assert server.status("/ready") == 200
        page = re.search(r"http://127\.0\.0\.1:\d+/page/prog", server.lines[1])
        assert page
        assert server.lines[2] == (
            f"curl -sS -o prog.mp4 'http://{server.address}/stream?url={quote(page[0], safe='')}'"
        )
        subprocess.run(shlex.split(server.lines[2]), cwd=tmp_path, check=True, timeout=60)
        assert (tmp_path / "prog.mp4").read_bytes()[4:8] == b"ftyp"
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert any("sample" in child.cmdline() for child in children)
        server.process.send_signal(signal.SIGTERM)
        assert ended(server.process) == 0
        assert all(map(gone, children))


def test_the_curl_command_that_serve_demo_prints_has_a_placeholder_for_the_key_if_the_server_requires_one() -> None:
    line = serve.curl_line("127.0.0.1:8000", "http://127.0.0.1:8001/page/prog", needs_key=True)
    assert line.startswith("curl -fsS -H 'Authorization: Bearer KEY' -o prog.mp4 'http://127.0.0.1:8000/stream?url=")


def test_serve_creates_no_key_if_it_refuses_to_listen_on_a_public_address(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    arguments = ["serve", "--host", "0.0.0.0", "--port", "0", "--create-key", "--api-keys-file", str(path)]
    done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, ConfigurationError)
    assert "can be reached from outside" in str(done.exception)
    assert (path.exists(), done.stdout) == (False, "")


def test_the_sample_site_of_serve_demo_ends_when_the_server_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, "--demo", lines=3) as server:
        children = psutil.Process(server.process.pid).children()
        server.process.kill()
        ended(server.process)
        wait_for(lambda: all(map(gone, children)), lambda: f"still there: {children}")


def test_serve_demo_allows_requests_to_the_sample_site_but_to_no_other_loopback_port(
    tmp_path: Path, site: SampleSite
) -> None:
    with serving(tmp_path, "--demo", lines=3) as server:
        assert server.status(f"/stream?url={quote(site.http + '/page/prog', safe='')}") == 403


@pytest.mark.parametrize("workers", [1, 2])
def test_after_sigterm_a_running_stream_finishes_while_new_requests_are_refused(
    tmp_path: Path, site: SampleSite, workers: int
) -> None:
    allowed = site.http.removeprefix("http://")
    arguments = ("--workers", str(workers), "--allow-networks", allowed, "--drain-seconds", "30")
    with serving(tmp_path, *arguments) as server:
        url = f"/stream?url={quote(site.http + '/media/large-32.mp4', safe='')}"
        with server.get(url) as response:
            assert response.status == 200
            taken = len(response.read(1024))
            server.process.send_signal(signal.SIGTERM)
            if workers == 1:  # there are two server processes, and the one without a stream has ended already
                wait_for(lambda: server.status("/ready") == 503)
                assert server.status(url) == 503
            while data := response.read(1 << 16):
                taken += len(data)
        assert taken == 32 << 20
        assert ended(server.process) == 0


def test_a_running_stream_is_cut_drain_seconds_after_sigterm(tmp_path: Path, site: SampleSite) -> None:
    allowed = site.http.removeprefix("http://")
    url = f"/stream?url={quote(site.http + '/media/large-64.mp4', safe='')}"
    arguments = ("--allow-networks", allowed, "--drain-seconds", "0.2")
    with serving(tmp_path, *arguments) as server, server.get(url) as response:
        response.read(1024)
        server.process.send_signal(signal.SIGTERM)
        _, log = server.process.communicate(timeout=60)
        assert server.process.returncode == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    assert "relay: shutdown, " in log
    assert "Traceback" not in log


def test_serve_reports_a_port_that_is_in_use_on_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"^cannot listen on 127.0.0.1 port {port}: Address already in use$"
        ):
            serve.listen(load_settings(port=port))


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_serve_prints_an_address_that_a_client_on_the_same_machine_can_use(host: str, shown: str) -> None:
    with serve.listen(load_settings(host=host, port=0, open=True)) as listener:
        assert serve.address_of(listener) == f"{shown}:{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_that_listens_on_an_address_other_than_loopback_must_set_require_key_or_open(
    host: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        serve.listen(load_settings(host=host, port=0))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"HOST {host} can be reached from outside: set REQUIRE_KEY")
    assert "--open" in line
    for settings in ({"open": True}, {"require_key": True, "api_keys_file": tmp_path / "keys.toml"}):
        serve.listen(load_settings(host=host, port=0, **settings)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_server_that_listens_on_loopback_needs_no_api_key(host: str) -> None:
    serve.listen(load_settings(host=host, port=0)).close()


def test_serve_prints_a_first_admin_key_once_and_requires_this_key_afterwards(tmp_path: Path) -> None:
    arguments = ("--require-key", "--create-key", "--api-keys-file", "keys.toml")
    with serving(tmp_path, *arguments, lines=2) as server:
        match = re.fullmatch(r"The first admin key, which is not shown again: (\S{43})", server.lines[0])
        assert match
        assert server.status("/stream") == 401
        assert server.status("/ready") == 200
        assert server.status("/stream", Authorization=f"Bearer {match[1]}") == 400
    with serving(tmp_path, *arguments) as server:
        assert server.lines[0].startswith("ServerPY is ready")
        assert server.status("/stream", Authorization=f"Bearer {match[1]}") == 400


def test_the_yt_dlp_processes_of_a_server_with_several_processes_inherit_no_secret_of_the_server(
    tmp_path: Path, site: SampleSite
) -> None:
    """The server processes get the settings in their environment, which only the same user and root can read."""
    allowed = site.http.removeprefix("http://")
    arguments = ("--workers", "2", "--allow-networks", allowed, "--link-secret", "hush-" * 8)
    with serving(tmp_path, *arguments) as server:
        page = quote(f"{site.http}/page/prog", safe="")
        streams = [f"/stream?method={method}&url={page}" for method in ("embedded", "subprocess")]
        with server.get(streams[0]) as first, server.get(streams[1]) as second:
            assert first.status == second.status == 200
            of_yt_dlp = [
                each
                for each in psutil.Process(server.process.pid).children(recursive=True)
                if any("serverpy.ytdlp" in argument for argument in each.cmdline())
            ]
            assert len({each.cmdline()[2] for each in of_yt_dlp}) == 2
            for each in of_yt_dlp:
                assert not any(
                    name.startswith("SERVERPY") or "hush-" in value for name, value in each.environ().items()
                )
                assert not any("hush-" in argument for argument in each.cmdline())


def test_without_a_state_directory_each_process_of_a_server_accepts_the_links_of_the_other_processes(
    tmp_path: Path, site: SampleSite
) -> None:
    arguments = ("--workers", "2", "--state-dir", "none", "--allow-networks", site.http.removeprefix("http://"))
    with serving(tmp_path, *arguments) as server:
        connection = http.client.HTTPConnection(server.address, timeout=60)
        document = json.dumps({"url": f"{site.http}/page/prog"})
        connection.request("POST", "/links", document, {"Content-Type": "application/json"})
        url = json.load(connection.getresponse())["url"]
        connection.close()
        assert {server.status(urlsplit(url).path) for _ in range(20)} == {200}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_keys_file_is_missing_does_not_start(tmp_path: Path, workers: str) -> None:
    path = tmp_path / "keys.toml"
    done = subprocess.run(
        [sys.executable, "-m", "serverpy", "serve", "--port", "0", "--api-keys-file", path, "--workers", workers],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    expected = f"serverpy: API_KEYS_FILE: {path} cannot be read: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_serve_exits_with_the_reason_if_the_worker_refuses_a_setting() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serverpy", "serve", "--port", "0", "--impersonate", "nonsense"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    assert "IMPERSONATE" in done.stderr.splitlines()[-1]
