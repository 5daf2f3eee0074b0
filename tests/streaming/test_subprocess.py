"""Tests of the method `subprocess` with real yt-dlp children and the sample site, through a real egress proxy."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import trustme

from serverpy import extras
from serverpy.body import Source
from serverpy.errors import (
    Busy,
    DrmProtected,
    ExtractionFailed,
    ExtractionTimeout,
    FormatNotFound,
    GeoRestricted,
    InvalidParameter,
    InvalidUrl,
    ItemNotFound,
    LoginRequired,
    MediaNotFound,
    NotInstalled,
    NotMedia,
    ServerPYError,
    SiteForbidden,
    TargetForbidden,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.sites import Sites
from serverpy.net.egress import Egress
from serverpy.net.guard import Guard, parse_networks
from serverpy.options import Identity, Network, Timeouts
from serverpy.sample import PLUGIN_PATH
from serverpy.sample.site import SampleSite
from serverpy.streaming.child.command import PROGRAM, arguments, environment
from serverpy.streaming.child.errors import media_error, page_error, translate
from serverpy.streaming.child.files import DIRECTORY_PREFIX, ChildFiles
from serverpy.streaming.child.method import Subprocess
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.os_pipe import HandOver
from serverpy.tasks import spawn
from tests.aio import PATIENCE_SECONDS, eventually
from tests.net.origin import Origin
from tests.opening import opened, rest_of

QUICK = Timeouts(wait=0.05)


@asynccontextmanager
async def running(*, allow: str = "127.0.0.0/8", children: int = 2, **options: Any) -> AsyncIterator[Subprocess]:
    egress = Egress(Guard(parse_networks([allow])))
    await egress.start()
    try:
        child_options = ChildOptions(proxy_url=lambda: egress.url, **{"timeouts": QUICK, **options})
        yield Subprocess(child_options, HandOver(65536, 32768), max_children=children)
    finally:
        await egress.aclose()


async def read_for_ever(body: Any, received: list[bytes]) -> None:
    while piece := await body.read():
        received.append(piece)
    pytest.fail("the body ended without an error")


def children() -> list[psutil.Process]:
    """Return the child processes that the method has started, including zombies. Leaves out the servers of other
    tests."""
    return [each for each in psutil.Process().children() if each not in BEFORE]


BEFORE: list[psutil.Process] = []


@pytest.fixture(autouse=True)
def _before() -> None:
    BEFORE[:] = psutil.Process().children()


def descriptors_and_threads() -> tuple[int, int]:
    """Return the number of descriptors and the number of threads of this process, without the thread that starts all
    child processes."""
    threads = [each for each in threading.enumerate() if each.name != "start-process"]
    return len(os.listdir("/proc/self/fd")), len(threads)


def directories(tmp: Path) -> list[Path]:
    return list(tmp.glob("serverpy-child-*"))


@pytest.fixture(autouse=True)
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("serverpy.streaming.child.files.IN_MEMORY", str(tmp_path))
    return tmp_path


async def test_subprocess_streams_the_bytes_of_the_media_with_their_content_type_and_title(
    site: SampleSite, private_tmp: Path
) -> None:
    async with running() as method:
        before = descriptors_and_threads()
        body = await opened(method, Source(url=f"{site.http}/page/prog"))
        assert (body.head.content_type, body.head.ext) == ("video/mp4", "mp4")
        assert body.head.title
        assert body.head.length is None
        assert await rest_of(body) == site.path("prog.mp4").read_bytes()
        assert await body.read() == b""
        await body.aclose()
        assert children() == []
        assert directories(private_tmp) == []
        await eventually(lambda: site.open_connections == 0)
        await eventually(lambda: descriptors_and_threads() <= before)


async def test_subprocess_downloads_hls_natively_and_declares_it_as_mpeg_ts(
    site: SampleSite, private_tmp: Path
) -> None:
    async with running() as method:
        body = await opened(method, Source(url=f"{site.http}/hls/ts/master.m3u8"))
        assert body.head.content_type == "video/mp2t"
        whole = b"".join(site.path(f"hls/ts/high-{number}.ts").read_bytes() for number in range(5))
        assert await rest_of(body) == whole
        await body.aclose()
        assert directories(private_tmp) == []


@pytest.mark.parametrize(
    ("path", "fields", "kind"),
    [
        ("/page/prog", {"format": "nope"}, FormatNotFound),
        ("/page/prog", {"format": "((("}, InvalidParameter),
        ("/page/prog", {"item": 5}, ItemNotFound),
        ("/hls/audio/master.m3u8", {"format": "bv+ba"}, UnsupportedConversion),
        ("/fault/status=404/media/prog.mp4", {}, MediaNotFound),
        ("/media/not-media.mp4", {}, MediaNotFound),
    ],
    ids=["format", "selector", "item", "merge", "404", "html"],
)
async def test_open_raises_an_error_and_leaves_no_child_or_directory_if_the_child_fails_before_its_first_byte(
    site: SampleSite, private_tmp: Path, path: str, fields: dict[str, Any], kind: type[ServerPYError]
) -> None:
    async with running() as method:
        with pytest.raises(kind):
            await opened(method, Source(url=site.http + path, **fields))
        assert children() == []
        assert directories(private_tmp) == []
        assert ": 0/" in repr(method.slots)


async def test_a_truncated_body_is_resumed_by_a_range_request(site: SampleSite) -> None:
    async with running() as method:
        body = await opened(method, Source(url=f"{site.http}/fault/cut=2000000/media/prog.mp4"))
        assert await rest_of(body) == site.path("prog.mp4").read_bytes()
        await body.aclose()


async def test_a_truncated_body_that_cannot_be_resumed_raises_upstream_failed_and_never_ends_in_a_clean_eof(
    site: SampleSite,
) -> None:
    async with running() as method:
        body = await opened(method, Source(url=f"{site.http}/fault/cut=2000000,norange/media/prog.mp4"))
        received: list[bytes] = []
        with pytest.raises(UpstreamFailed):
            await read_for_ever(body, received)
        await body.aclose()
        assert site.path("prog.mp4").read_bytes().startswith(b"".join(received))


@pytest.mark.parametrize("cleanly", [True, False])
async def test_a_body_of_unknown_length_over_tls_is_complete_only_if_it_ends_with_close_notify(
    site: SampleSite, tmp_path: Path, cleanly: bool
) -> None:
    """If a TLS connection ends without close_notify, the body may be truncated (RFC 8446 §6.1)."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    film = site.path("prog.mp4").read_bytes()

    def handle(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + film)
        if cleanly and isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    with Origin(handle, context) as origin:
        async with running(network=Network(ca_file=str(tmp_path / "ca.pem"))) as method:
            body = await opened(method, Source(url=f"https://127.0.0.1:{origin.port}/film.mp4"))
            if cleanly:
                assert await rest_of(body) == film
            else:
                with pytest.raises(UpstreamFailed):
                    await rest_of(body)
            await body.aclose()


@pytest.mark.parametrize("text", ["--exec=touch pwned", "-o", "--output=pwned", "--config-locations=/etc/passwd"])
async def test_neither_a_url_nor_a_format_selector_can_become_a_command_line_option_of_the_child(
    site: SampleSite, private_tmp: Path, text: str
) -> None:
    async with running() as method:
        with pytest.raises(InvalidUrl):
            await opened(method, Source(url=text))
        with pytest.raises((InvalidParameter, FormatNotFound)):
            await opened(method, Source(url=f"{site.http}/page/prog", format=text))
    assert list(private_tmp.rglob("pwned")) == []
    assert not Path("pwned").exists()


@pytest.mark.parametrize("more", ["?token=hush", "?a=1#hush", "?q=%20%23hush", "?hush=ä"])
async def test_the_url_of_a_page_is_not_among_the_arguments_of_its_child_which_other_users_can_read(
    site: SampleSite, more: str
) -> None:
    async with running() as method:
        body = await opened(method, Source(url=f"{site.http}/media/large-64.mp4{more}"))
        try:
            (child,) = children()
            assert PROGRAM in child.cmdline()
            assert not any("hush" in each or "large-64" in each for each in child.cmdline())
        finally:
            await body.aclose()


def test_a_child_gets_the_proxy_token_only_in_its_environment_and_gets_no_setting_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("SERVERPY_LINK_SECRET", "secret")
    options = ChildOptions(proxy_url=lambda: "http://user:token@127.0.0.1:1")
    files = ChildFiles(tmp_path)
    assert "token" not in " ".join(arguments(options, Source(url="http://x.test/?token"), "m", files))
    given = environment(options, files)
    assert given["http_proxy"] == given["https_proxy"] == given["all_proxy"] == "http://user:token@127.0.0.1:1"
    assert not any("no_proxy" in name.lower() or "SERVERPY" in name for name in given)
    files.write(options)
    assert os.listdir(given["PATH"]) == os.listdir(given["HOME"]) == []


async def test_a_media_url_that_the_guard_refuses_raises_target_forbidden(site: SampleSite) -> None:
    async with running(allow="192.0.2.0/24") as method:
        before = len(site.requests)
        for origin in (site.http, site.https):
            with pytest.raises(TargetForbidden):
                await opened(method, Source(url=f"{origin}/media/prog.mp4"))
        assert len(site.requests) == before


@pytest.mark.parametrize("path", ["/redirect?to={inside}", "/page/dead", "/playlist.m3u8"])
@pytest.mark.parametrize("impersonate", [None, "chrome"])
async def test_a_forbidden_http_url_in_a_redirect_or_in_a_page_or_in_a_playlist_raises_target_forbidden(
    site: SampleSite, path: str, impersonate: str | None
) -> None:
    """yt-dlp requests http URLs from the egress proxy without a tunnel. The refusal of a tunnel would have a different
    status."""
    inside = f"http://127.0.0.1:{site.closed_port}/media/prog.mp4"

    def playlist(connection: socket.socket, head: bytes) -> None:
        body = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inside}\n#EXT-X-ENDLIST\n".encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)

    with Origin(playlist) as origin:
        base = f"http://127.0.0.1:{origin.port}" if path.endswith(".m3u8") else site.http
        async with running(allow=base.removeprefix("http://"), identity=Identity(impersonate=impersonate)) as method:
            with pytest.raises(TargetForbidden):
                await opened(method, Source(url=base + path.format(inside=quote(inside, safe=""))))


async def test_a_child_trusts_the_certificates_in_ca_file(site: SampleSite) -> None:
    async with running(network=Network(ca_file=str(site.ca_file))) as method:
        body = await opened(method, Source(url=f"{site.https}/media/prog.mp4"))
        assert await rest_of(body) == site.path("prog.mp4").read_bytes()
        await body.aclose()


async def test_a_child_gets_the_cookies_of_the_cookie_file_but_cannot_change_the_file(
    site: SampleSite, tmp_path: Path
) -> None:
    jar = tmp_path / "jar.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsecret\t1\n")
    written = jar.read_text()
    async with running(identity=Identity(cookies_file=str(jar))) as method:
        before = len(site.requests)
        body = await opened(method, Source(url=f"{site.http}/media/prog.mp4"))
        await body.aclose()
        assert any("secret=1" in request.headers.get("cookie", "") for request in site.requests[before:])
    assert jar.read_text() == written


async def test_media_that_requires_impersonation_is_streamed_by_requests_with_bounded_ranges(site: SampleSite) -> None:
    async with running(identity=Identity(impersonate="chrome")) as method:
        body = await opened(method, Source(url=f"{site.http}/media/prog.mp4"))
        assert await rest_of(body) == site.path("prog.mp4").read_bytes()
        await body.aclose()


async def test_a_child_that_impersonates_a_browser_refuses_a_body_with_too_many_bytes_of_framing() -> None:
    def handle(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65536)

    with Origin(handle) as origin:
        async with running(allow=f"127.0.0.1:{origin.port}", identity=Identity(impersonate="chrome")) as method:
            with pytest.raises(ServerPYError):
                await opened(method, Source(url=f"http://127.0.0.1:{origin.port}/film.mp4"))


async def test_a_stream_beyond_the_limit_of_children_waits_and_is_then_refused_as_busy(site: SampleSite) -> None:
    async with running(children=1) as method:
        body = await opened(method, Source(url=f"{site.http}/media/large-64.mp4"))
        assert len(children()) == 1
        with pytest.raises(Busy):
            await opened(method, Source(url=f"{site.http}/media/large-64.mp4"))
        await body.aclose()


async def test_a_child_that_sends_no_byte_within_the_extraction_timeout_is_killed(
    site: SampleSite, private_tmp: Path
) -> None:
    async with running(timeouts=Timeouts(wait=0.05, extract=1.0)) as method:
        with pytest.raises(ExtractionTimeout):
            await opened(method, Source(url=f"{site.http}/fault/delay=600/media/prog.mp4"))
        assert children() == []
        assert directories(private_tmp) == []


@pytest.mark.parametrize("path", ["/media/large-64.mp4", "/fault/stall=100000/media/prog.mp4"])
async def test_closing_a_body_early_leaves_no_child_or_directory_or_descriptor(
    site: SampleSite, private_tmp: Path, path: str
) -> None:
    async with running() as method:
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        body = await opened(method, Source(url=site.http + path))
        await body.read()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(body.aclose(), body.aclose())
        assert children() == []
        assert directories(private_tmp) == []
        assert ": 0/" in repr(method.slots)
        await eventually(lambda: site.open_connections == 0)
        await eventually(lambda: descriptors_and_threads() <= before)


async def test_cancelling_open_leaves_no_child_or_directory_or_descriptor(site: SampleSite, private_tmp: Path) -> None:
    async with running() as method:
        opening = spawn(opened(method, Source(url=f"{site.http}/fault/delay=600/media/prog.mp4")), name="open")
        await eventually(lambda: children())
        assert len(directories(private_tmp)) == 1
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert children() == []
        assert directories(private_tmp) == []
        assert ": 0/" in repr(method.slots)


async def test_a_killed_child_raises_an_error(site: SampleSite) -> None:
    async with running() as method:
        body = await opened(method, Source(url=f"{site.http}/media/large-64.mp4"))
        children()[0].kill()
        with pytest.raises(ServerPYError):
            await read_for_ever(body, [])
        await body.aclose()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("ERROR: Unsupported URL: http://x.test/?secret", MediaNotFound),
        ("ERROR: [x] The uploader has not made this video available in your country", GeoRestricted),
        ("ERROR: [x] This video is DRM protected", DrmProtected),
        ("ERROR: [x] 1: Sign in to confirm you're not a bot. Use --cookies", LoginRequired),
        ("ERROR: something new http://x.test/?secret", ExtractionFailed),
    ],
)
def test_an_error_message_of_the_yt_dlp_child_is_translated_to_an_error_of_serverpy(
    line: str, kind: type[ServerPYError]
) -> None:
    error = translate(f"noise\n{line}\n", ExtractionFailed("It failed."))
    assert type(error) is kind
    assert "secret" not in str(error)


def test_an_error_of_serverpy_in_the_child_keeps_its_message_if_it_is_the_last_line() -> None:
    error = translate("noise\nserverpy: not_media: A page came.\n", ExtractionFailed("It failed."))
    assert (type(error), str(error)) == (NotMedia, "A page came.")
    for text in ("serverpy: not_media: A page came.\nERROR: something new", "serverpy: busy: no", "serverpy: x: no"):
        assert type(translate(text, ExtractionFailed("It failed."))) is ExtractionFailed


NO_TARGET = (
    "ERROR: [x] 1: The extractor is attempting impersonation, but no impersonate target is available. "
    "See  https://github.com/yt-dlp/yt-dlp#impersonation  for information on installing the required dependencies"
)


def test_the_error_for_a_page_that_needs_curl_cffi_names_the_extra_only_if_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert type(page_error(NO_TARGET)) is ExtractionFailed
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "curl_cffi")
    assert type(page_error(NO_TARGET)) is NotInstalled


def test_an_error_message_is_read_to_its_end_even_if_it_contains_a_carriage_return() -> None:
    error = media_error("ERROR: \r[download] Got error: HTTPConnectionPool(host='x.test', port=80): Read timed out.\n")
    assert type(error) is UpstreamTimeout


def test_the_same_yt_dlp_message_means_different_errors_for_a_page_and_for_its_media() -> None:
    line = "ERROR: HTTP Error 404: Not Found\n"
    assert (type(page_error(line)), type(media_error(line))) == (MediaNotFound, UpstreamFailed)
    line = "ERROR: Read timed out.\n"
    assert (type(page_error(line)), type(media_error(line))) == (ExtractionTimeout, UpstreamTimeout)


async def test_only_the_first_of_several_selected_formats_is_streamed(site: SampleSite) -> None:
    async with running() as method:
        body = await opened(method, Source(url=f"{site.http}/page/dash", format="ba,bv"))
        data = await rest_of(body)
        await body.aclose()
        assert data.count(b"ftyp") == 1


@pytest.mark.parametrize(
    ("sites", "page", "tube"),
    [
        (Sites(generic=False), False, True),
        (Sites(deny=("sampletube",)), True, False),
        (Sites(allow=("youtube",)), False, False),
        (Sites(allow=("youtube", "generic")), True, False),
        (Sites(allow=("SampleTube",)), False, True),
    ],
    ids=repr,
)
async def test_the_method_subprocess_allows_and_denies_the_same_sites_as_the_worker(
    site: SampleSite, sites: Sites, page: bool, tube: bool
) -> None:
    """If the extractor of a site is denied, yt-dlp's generic extractor must not extract the page instead."""

    async def served(method: Subprocess, path: str) -> bool:
        try:
            body = await opened(method, Source(url=site.http + path))
        except SiteForbidden:
            return False
        await body.aclose()
        return True

    async with running(sites=sites, plugin_paths=(str(PLUGIN_PATH),)) as method:
        assert (await served(method, "/page/prog"), await served(method, "/tube/watch/headers")) == (page, tube)


async def test_media_longer_than_max_duration_is_refused_as_too_large(site: SampleSite, private_tmp: Path) -> None:
    async with running(max_duration=1.5, plugin_paths=(str(PLUGIN_PATH),)) as method:
        with pytest.raises(TooLarge, match=r"longer than the 1\.5 seconds"):
            await opened(method, Source(url=f"{site.http}/tube/watch/headers"))
        assert children() == []
        assert directories(private_tmp) == []
        # yt-dlp does not know the duration of this file, so it is not refused
        body = await opened(method, Source(url=f"{site.http}/media/prog.mp4"))
        await body.aclose()


async def test_subprocess_refuses_a_live_stream_with_the_error_unsupported_conversion(site: SampleSite) -> None:
    async with running(plugin_paths=(str(PLUGIN_PATH),)) as method:
        with pytest.raises(UnsupportedConversion):
            await opened(method, Source(url=f"{site.http}/tube/live/now"))


async def test_a_request_for_a_playlist_without_an_item_number_streams_the_first_item(site: SampleSite) -> None:
    async with running(plugin_paths=(str(PLUGIN_PATH),)) as method:
        titles = []
        for item in (None, 1, 2):
            body = await opened(method, Source(url=f"{site.http}/tube/playlist/list-12", item=item, format="b/bv*"))
            titles.append(body.head.title)
            await body.aclose()
        assert titles[0] == titles[1] != titles[2]


@pytest.mark.parametrize("step", ["os.pidfd_open", "resource.prlimit", "subprocess.Popen"])
@pytest.mark.parametrize(("number", "kind"), [(errno.EMFILE, Busy), (errno.EPERM, UpstreamFailed)])
async def test_a_child_that_fails_to_start_leaves_no_process_or_directory_or_descriptor(
    site: SampleSite,
    private_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    kind: type[ServerPYError],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async with running() as method:
        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(f"serverpy.streaming.child.process.{step}", fail)
            with pytest.raises(kind):
                await opened(method, Source(url=f"{site.http}/media/prog.mp4"))
        assert children() == []
        assert directories(private_tmp) == []
        assert len(os.listdir("/proc/self/fd")) == before
        assert ": 0/" in repr(method.slots)


async def test_the_directory_of_a_killed_server_is_removed_before_the_first_child_starts(
    site: SampleSite, private_tmp: Path
) -> None:
    async with running() as method:
        left = private_tmp / f"{DIRECTORY_PREFIX}left"
        left.mkdir()
        (left / "cookies.txt").write_text("secret")
        body = await opened(method, Source(url=f"{site.http}/media/prog.mp4"))
        try:
            assert len(directories(private_tmp)) == 1
            assert not left.exists()
        finally:
            await body.aclose()


async def test_a_title_longer_than_the_limit_of_the_child_is_truncated(site: SampleSite) -> None:
    """In JSON, each character of the page's title takes twelve bytes."""
    media = site.path("prog.mp4").read_bytes()

    def serve(connection: socket.socket, head: bytes) -> None:
        page = f"<html><title>{title}</title><video src=/prog.mp4></video>".encode()
        kind, body = (b"video/mp4", media) if b"/prog.mp4 " in head else (b"text/html; charset=utf-8", page)
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (kind, len(body)) + body)

    title = "\N{GRINNING FACE}\N{QUOTATION MARK}" * 50_000
    with Origin(serve) as origin:
        async with running() as method:
            body = await opened(method, Source(url=f"{origin.url}page"))
            assert body.head.title == title[:300]
            assert await rest_of(body) == media
            await body.aclose()


async def test_a_selector_with_a_nul_character_is_refused_before_a_child_starts(site: SampleSite) -> None:
    async with running() as method:
        with pytest.raises(InvalidParameter):
            await opened(method, Source(url=f"{site.http}/media/prog.mp4", format="b\0"))
