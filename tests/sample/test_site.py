from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import sys
import threading
import urllib.request
from urllib.parse import urlsplit

import pytest

from serverpy import extras
from serverpy.errors import NotInstalled
from serverpy.sample import SampleSite, large_sha256
from serverpy.sample.catalogue import WATCH
from serverpy.sample.pages import PAGES
from tests.aio import PATIENCE_SECONDS, wait_for

from .raw import ask, connect


def test_the_site_serves_a_whole_file_with_validators(site: SampleSite) -> None:
    answer = ask(f"{site.http}/media/prog.mp4")
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    assert answer.body == site.path("prog.mp4").read_bytes()
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["last-modified"].endswith("GMT")


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("vp9.webm", "video/webm"),
        ("audio.mp3", "audio/mpeg"),
        ("audio.m4a", "audio/mp4"),
        ("audio-only.mp4", "audio/mp4"),
        ("photo-1.jpg", "image/jpeg"),
        ("subs.en.vtt", "text/vtt; charset=utf-8"),
        ("hls/ts/master.m3u8", "application/vnd.apple.mpegurl"),
        ("hls/ts/high-0.ts", "video/mp2t"),
        ("dash/manifest.mpd", "application/dash+xml"),
    ],
)
def test_the_site_serves_a_file_with_the_content_type_of_its_format(site: SampleSite, name: str, type: str) -> None:
    address = name if name.startswith(("hls/", "dash/")) else f"media/{name}"
    assert ask(f"{site.http}/{address}", method="HEAD").headers["content-type"] == type


def test_the_site_answers_a_range_request_with_that_part_of_the_file(site: SampleSite) -> None:
    whole = site.path("prog.mp4").read_bytes()
    size = len(whole)
    for asked, start, stop in (("100-199", 100, 200), ("5000000-", 5_000_000, size), ("-7", size - 7, size)):
        answer = ask(f"{site.http}/media/prog.mp4", f"Range: bytes={asked}")
        assert (answer.status, answer.body) == (206, whole[start:stop])
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"


def test_the_site_answers_a_range_beyond_the_end_of_the_file_with_416_and_the_size(site: SampleSite) -> None:
    size = site.path("prog.mp4").stat().st_size
    answer = ask(f"{site.http}/media/prog.mp4", f"Range: bytes={size}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")


def test_a_range_with_a_different_etag_in_if_range_returns_the_whole_file(site: SampleSite) -> None:
    url = f"{site.http}/media/audio.mp3"
    etag = ask(url, method="HEAD").headers["etag"]
    assert ask(url, "Range: bytes=0-9", f"If-Range: {etag}").status == 206
    assert ask(url, "Range: bytes=0-9", 'If-Range: "other"').status == 200


def test_head_has_the_headers_of_get_and_ignores_the_range_header(site: SampleSite) -> None:
    url = f"{site.http}/media/prog.mp4"
    head, get = ask(url, "Range: bytes=0-9", method="HEAD"), ask(url)
    assert head.status == 200
    assert head.headers == get.headers
    assert ask(url, method="HEAD", until_end=True, silence_seconds=1.0).body == b""


def test_the_site_answers_two_requests_on_one_connection(site: SampleSite) -> None:
    parts = urlsplit(site.http)
    with connect(site.http) as client:
        for _ in range(2):
            client.sendall(
                f"GET /media/audio.mp3 HTTP/1.1\r\nHost: {parts.netloc}\r\nRange: bytes=0-0\r\n\r\n".encode()
            )
            data = b""
            while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
                data += client.recv(65536)
            assert data.startswith(b"HTTP/1.1 206 ")


def test_the_large_file_has_its_known_hash(site: SampleSite) -> None:
    digest = hashlib.sha256()
    with urllib.request.urlopen(f"{site.http}/media/large-32.mp4") as answer:
        assert int(answer.headers["Content-Length"]) == 32 << 20
        while piece := answer.read(1 << 16):
            digest.update(piece)
    assert digest.hexdigest() == large_sha256(32)


def test_the_site_stops_reading_a_file_if_its_client_stops_reading_the_response(site: SampleSite) -> None:
    """The client requests 4 GiB and does not read the response. The site must have less than 256 KiB in the write
    buffer of the connection."""
    with connect(site.http) as client:
        client.sendall(b"GET /media/large-4096.mp4 HTTP/1.1\r\nHost: sample\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection = next(c for c in site.connections if c.client == client.getsockname())
        wait_for(lambda: connection.flow.write_paused)
        assert connection.transport.get_write_buffer_size() < 256 * 1024


def test_the_site_answers_an_unknown_address_with_404(site: SampleSite) -> None:
    for path in (
        "media/nothing.mp4",
        "media/../make.py",
        "media/%2e%2e/x",
        "media/%00",
        "media/large-1.mp4",
        "page/nothing",
        "other",
    ):
        assert ask(f"{site.http}/{path}").status == 404


def test_the_site_records_requests_with_their_query_and_headers(site: SampleSite) -> None:
    ask(f"{site.http}/media/subs.en.vtt?a=1&b=x%20y", "X-Mark: remembered")
    request = next(r for r in reversed(site.requests) if r.headers.get("x-mark") == "remembered")
    assert (request.method, request.path) == ("GET", "/media/subs.en.vtt")
    assert dict(request.query) == {"a": "1", "b": "x y"}


def test_the_site_counts_connections_until_they_close() -> None:
    with SampleSite() as site:
        assert site.open_connections == 0
        with connect(site.http):
            wait_for(lambda: site.open_connections == 1)
        wait_for(lambda: site.open_connections == 0)


def test_closing_the_site_ends_its_thread_at_once_even_if_responses_stall() -> None:
    before = threading.active_count()
    with SampleSite() as site:
        client = connect(site.http)
        client.sendall(b"GET /fault/stall=10/media/prog.mp4 HTTP/1.1\r\nHost: sample\r\n\r\n")
        assert client.recv(65536)
    assert threading.active_count() == before
    with client:
        client.settimeout(PATIENCE_SECONDS)
        while True:
            try:
                if not client.recv(65536):
                    break
            except ConnectionResetError:
                break


def test_starting_the_site_on_a_port_in_use_raises_os_error_in_the_calling_thread(site: SampleSite) -> None:
    port = urlsplit(site.http).port
    assert port
    with pytest.raises(OSError, match="in use"), SampleSite(port):
        pass


def test_the_https_certificate_of_the_site_is_signed_by_its_own_authority() -> None:
    with SampleSite(https_port=0) as site:
        assert site.https
        assert site.ca_file
        ca_file = site.ca_file
        trust = ssl.create_default_context(cafile=ca_file)
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{urlsplit(site.https).port}/media/audio.mp3"
            with urllib.request.urlopen(url, context=trust) as answer:
                assert answer.read() == site.path("audio.mp3").read_bytes()
    assert not ca_file.exists()


@pytest.mark.parametrize(("spec", "clean"), [("cut=70000", True), ("rst=70000", False)])
def test_over_https_the_fault_cut_sends_close_notify_and_the_fault_reset_does_not(spec: str, clean: bool) -> None:
    with SampleSite(https_port=0) as site:
        data, has_close_notify = read_over_tls(site, f"/fault/{spec}/media/audio.mp3")
        assert has_close_notify is clean
        assert data.partition(b"\r\n\r\n")[2] == site.path("audio.mp3").read_bytes()[:70_000]


def read_over_tls(site: SampleSite, path: str) -> tuple[bytes, bool]:
    """Return all bytes of the response, and whether the connection ended with close_notify. OpenSSL does not always
    distinguish a reset from an end without close_notify, so False may also mean a reset."""
    assert site.https
    trust = ssl.create_default_context(cafile=site.ca_file)
    data = bytearray()
    with trust.wrap_socket(connect(site.https), server_hostname="127.0.0.1", suppress_ragged_eofs=False) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: sample\r\n\r\n".encode())
        try:
            while piece := client.recv(65536):
                data += piece
        except (ConnectionResetError, ssl.SSLEOFError):
            return bytes(data), False
    return bytes(data), True


def test_the_closed_port_of_the_sample_site_refuses_connections(site: SampleSite) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect(f"http://127.0.0.1:{site.closed_port}")


def test_the_error_for_https_without_the_package_trustme_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "trustme")
    with (
        pytest.raises(NotInstalled, match=r"needs trustme: install serverpy-stream\[sample\]"),
        SampleSite(https_port=0),
    ):
        pass


def test_each_page_of_the_sample_site_has_the_content_that_its_name_states(site: SampleSite) -> None:
    for name in PAGES:
        if name != "slow":
            answer = ask(f"{site.http}/page/{name}")
            assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 400_000 < len(ask(f"{site.http}/page/heavy").body) < 410_000
    assert ask(f"{site.http}/page/empty").body == b""
    assert ask(f"{site.http}/media/empty.mp4").headers["content-length"] == "0"
    assert ask(f"{site.http}/media/not-media.mp4").headers["content-type"].startswith("text/html")


def test_the_front_page_of_the_sample_site_links_to_pages_and_films_and_a_broadcast(site: SampleSite) -> None:
    links = set(re.findall(r'href="([^"]+)"', ask(f"{site.http}/").body.decode()))
    assert links == {f"/page/{name}" for name in PAGES} | {f"/tube/watch/{name}" for name in WATCH} | {
        "/tube/live/on-air"
    }
    assert {ask(f"{site.http}{link}", method="HEAD").status for link in links if "slow" not in link} == {200}


def test_the_slow_page_responds_after_the_requested_number_of_seconds(site: SampleSite) -> None:
    assert ask(f"{site.http}/page/slow?seconds=0.3").seconds >= 0.3


def test_redirect_pages_have_the_expected_location(site: SampleSite) -> None:
    assert ask(f"{site.http}/page/redirect").headers["location"] == "/page/prog"
    assert ask(f"{site.http}/redirect?to=http://10.0.0.1/x").headers["location"] == "http://10.0.0.1/x"
    loop = ask(f"{site.http}/page/loop")
    again = ask(f"{site.http}{loop.headers['location']}")
    assert (loop.status, again.status) == (302, 302)
    assert loop.headers["location"] != again.headers["location"]


def test_the_sample_command_prints_its_pages_and_ends_on_a_signal() -> None:
    code = "from serverpy.sample import main; main(0, None)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        lines = iter(child.stdout.readline, "")
        printed = [next(lines)]
        while not printed[-1].startswith("Press Ctrl+C"):
            printed.append(next(lines))
        child.terminate()
        assert child.wait(timeout=60) == 0
    assert printed[0].startswith("The sample site is at http://127.0.0.1:")
    assert sum("/page/" in line for line in printed) == len(PAGES)
