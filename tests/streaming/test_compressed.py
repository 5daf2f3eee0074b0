"""Tests of the three methods with media that the media server compresses although the request does not allow
compression."""

from __future__ import annotations

import gzip
import socket
import zlib
from collections.abc import Callable

import brotli
import pytest
from yt_dlp.networking.impersonate import ImpersonateTarget

from serverpy.body import Body, Source
from serverpy.errors import UpstreamFailed
from serverpy.extraction.values import Track
from serverpy.net.egress import Egress
from serverpy.net.guard import Guard, parse_networks
from serverpy.ranges import ByteRange
from serverpy.streaming.child.method import Subprocess
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.os_pipe import HandOver
from tests import opening
from tests.net.opening import OK, client
from tests.net.origin import Origin
from tests.streaming.segments.relaying import Page, drained, opened
from tests.ytdlp.streams import Running, progressive

SEGMENTS = [b"\x47" + bytes([number]) * 187 * 500 for number in range(3)]
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + b"".join(b"#EXTINF:2,\n%d.ts\n" % n for n in range(3))
FILES = {"/list.m3u8": PLAYLIST + b"#EXT-X-ENDLIST\n", **{f"/{n}.ts": data for n, data in enumerate(SEGMENTS)}}
FILM = b"\x1aE\xdf\xa3" + bytes(range(256)) * 2000
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    '"gzip"': gzip.compress,
    "GZIP": gzip.compress,
    "gzip, aws-chunked": gzip.compress,
    "aws-chunked": bytes,
    "UTF-8": bytes,
}


def compressing(coding: str) -> Callable[[socket.socket, bytes], None]:
    def handle(connection: socket.socket, head: bytes) -> None:
        body = ENCODERS[coding](FILES.get(head.split(b" ")[1].decode(), FILM))
        fields = f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\nAccept-Ranges: bytes\r\n\r\n"
        connection.sendall(OK + fields.encode() + body)

    return handle


def track(origin: Origin, path: str, **fields: str) -> Track:
    kinds = {"protocol": "http", "ext": "webm", "vcodec": "vp9", "acodec": "opus", **fields}
    # mypy cannot check an unpacked dict
    return Track(id="1", url=f"http://127.0.0.1:{origin.port}{path}", **kinds)  # type: ignore[arg-type]


@pytest.mark.parametrize("coding", ENCODERS)
async def test_compressed_playlists_and_segments_are_decoded(coding: str) -> None:
    with Origin(compressing(coding)) as origin:
        async with client() as made:
            page = Page(lambda _visit: track(origin, "/list.m3u8", protocol="m3u8_native", ext="mp4"))
            assert await drained(await opened(made, page)) == b"".join(SEGMENTS)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_compressed_vod_playlist_without_an_end_tag_is_complete(
    coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "/list.m3u8", PLAYLIST.replace(b"\n", b"\n#EXT-X-PLAYLIST-TYPE:VOD\n", 1))
    with Origin(compressing(coding)) as origin:
        async with client() as made:
            page = Page(lambda _visit: track(origin, "/list.m3u8", protocol="m3u8_native", ext="mp4"))
            assert await drained(await opened(made, page)) == b"".join(SEGMENTS)


@pytest.mark.parametrize("asked", [None, ByteRange(5, 10), ByteRange(None, 10)])
@pytest.mark.parametrize("coding", ["gzip", "br"])
async def test_a_compressed_file_is_decoded_and_has_no_length_and_no_range_support(
    coding: str, asked: ByteRange | None
) -> None:
    with Origin(compressing(coding)) as origin:
        async with client() as made:
            body = await opened(made, Page(lambda _visit: track(origin, "/film")), asked)
            assert promises(body) == (None, False, False)
            assert await drained(body) == FILM


async def test_a_word_in_content_encoding_that_names_no_content_coding_is_ignored() -> None:
    with Origin(compressing("aws-chunked")) as origin:
        async with client() as made:
            body = await opened(made, Page(lambda _visit: track(origin, "/film")))
            assert promises(body) == (len(FILM), False, False)
            assert await drained(body) == FILM


def promises(body: Body) -> tuple[int | None, bool, bool]:
    return body.head.length, body.head.partial, body.head.seekable


async def test_a_truncated_compressed_file_raises_upstream_failed() -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        body = gzip.compress(FILM)[:-4]
        connection.sendall(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with Origin(handle) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed, match="ended the compressed body"):
                await drained(await opened(made, Page(lambda _visit: track(origin, "/film"))))


@pytest.mark.parametrize("coding", ENCODERS)
def test_embedded_decodes_compressed_media(coding: str) -> None:
    with Origin(compressing(coding)) as origin, Running(progressive(origin.url)) as download:
        assert (download.read_all(), download.error) == (FILM, None)


@pytest.mark.parametrize("coding", ["zstd", "compress", "X-Compress", "gzip, zstd", "dcb"])
def test_embedded_refuses_media_that_its_http_client_cannot_decode(coding: str) -> None:
    """The HTTP client would pass on the compressed bytes."""
    fields = f"Content-Encoding: {coding}\r\nContent-Length: {len(FILM)}\r\n\r\n".encode()
    answer = OK + fields + FILM
    with (
        Origin(lambda connection, _head: connection.sendall(answer)) as origin,
        Running(progressive(origin.url)) as download,
    ):
        assert download.read_all() == b""
    assert isinstance(download.error, UpstreamFailed)
    assert "compressed the media with" in str(download.error)


CUTS = (1, 4, 9)
"""Numbers of bytes that a truncated body lacks: with gzip, the last bytes are the checksum and the size (RFC 1952)."""
FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "no length": lambda body: b"\r\n" + body,
    "Content-Length": lambda body: b"Content-Length: %d\r\n\r\n" % len(body) + body,
    "chunked": lambda body: b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
}
LAST_SEGMENT = "/2.ts"


def cutting(coding: str, framing: str, lacks: int, times: int = 99) -> Callable[[socket.socket, bytes], None]:
    """Return a handler whose compressed bodies of FILM and of the last segment lack the last `lacks` bytes, in the
    first `times` responses."""
    left = times

    def handle(connection: socket.socket, head: bytes) -> None:
        nonlocal left
        path = head.split(b" ")[1].decode()
        body = ENCODERS[coding](FILES.get(path, FILM))
        if path in (LAST_SEGMENT, "/film.mkv") and left:
            left -= 1
            body = body[:-lacks]
        kind = b"application/vnd.apple.mpegurl" if path == "/list.m3u8" else b"video/x-matroska"
        head = b"Content-Type: %s\r\nContent-Encoding: %s\r\n" % (kind, coding.encode())
        connection.sendall(OK + head + FRAMINGS[framing](body))

    return handle


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serverpy.ytdlp.download.downloaders.BACK_OFF", (0.0, 0.0, 0.0))


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("lacks", CUTS)
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_embedded_cuts_a_file_and_a_segment_that_end_within_their_coding(coding: str, framing: str, lacks: int) -> None:
    with Origin(cutting(coding, framing, lacks)) as origin:
        base = f"http://127.0.0.1:{origin.port}"
        for info, whole in (
            (progressive(f"{base}/film.mkv"), FILM),
            (progressive(f"{base}/list.m3u8", protocol="m3u8_native"), b"".join(SEGMENTS)),
        ):
            with Running(info) as download:
                assert whole.startswith(download.read_all())
            assert isinstance(download.error, UpstreamFailed)
            assert "ended the compressed body too early" in str(download.error)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_embedded_requests_a_file_or_segment_that_ended_within_its_coding_again(coding: str, framing: str) -> None:
    for path, protocol, whole in (("/film.mkv", "http", FILM), ("/list.m3u8", "m3u8_native", b"".join(SEGMENTS))):
        with Origin(cutting(coding, framing, 4, times=2)) as origin:
            info = progressive(f"http://127.0.0.1:{origin.port}{path}", protocol=protocol)
            with Running(info) as download:
                assert (download.read_all(), download.error) == (whole, None)


@pytest.mark.parametrize("path", ["/film.mkv", "/list.m3u8"])
@pytest.mark.parametrize("status", [b"200 OK", b"206 Partial Content\r\nContent-Range: bytes 0-99999/*"])
@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_embedded_refuses_compressed_media_that_requires_impersonation(coding: str, status: bytes, path: str) -> None:
    """curl_cffi decodes the body, and does not find that the body ends within its coding."""

    def handle(connection: socket.socket, head: bytes) -> None:
        asked = head.split(b" ")[1].decode()
        body = ENCODERS[coding](FILES.get(asked, FILM))
        if asked == "/list.m3u8":
            connection.sendall(OK + FRAMINGS["Content-Length"](FILES[asked]))
        else:
            fields = b"HTTP/1.1 %s\r\nContent-Encoding: %s\r\n" % (status, coding.encode())
            connection.sendall(fields + FRAMINGS["Content-Length"](body[: len(body) // 2]))

    protocol = "m3u8_native" if path == "/list.m3u8" else "http"
    with Origin(handle) as origin:
        info = progressive(f"http://127.0.0.1:{origin.port}{path}", protocol=protocol)
        with Running(info, impersonate=ImpersonateTarget("chrome")) as download:
            assert download.read_all() == b""
    assert isinstance(download.error, UpstreamFailed)
    assert "the media server compressed it" in str(download.error)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_the_end_of_the_coding_of_a_vod_playlist_is_its_certain_end_for_embedded(
    coding: str, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "/list.m3u8", PLAYLIST.replace(b"\n", b"\n#EXT-X-PLAYLIST-TYPE:VOD\n", 1))
    with Origin(cutting(coding, framing, 4, times=0)) as origin:
        url = f"http://127.0.0.1:{origin.port}/list.m3u8"
        with Running(progressive(url, protocol="m3u8_native")) as download:
            assert (download.read_all(), download.error) == (b"".join(SEGMENTS), None)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_embedded_cuts_a_compressed_body_with_invalid_data(coding: str) -> None:
    def handle(connection: socket.socket, _head: bytes) -> None:
        body = b"<html>" + ENCODERS[coding](FILM)
        connection.sendall(OK + b"Content-Encoding: %s\r\n" % coding.encode() + FRAMINGS["Content-Length"](body))

    with Origin(handle) as origin, Running(progressive(origin.url)) as download:
        assert download.read_all() == b""
    assert isinstance(download.error, UpstreamFailed)
    assert "invalid compressed data" in str(download.error)


def test_embedded_decodes_bodies_with_several_codings_and_several_members() -> None:
    body = brotli.compress(gzip.compress(FILM[:9999]) + gzip.compress(FILM[9999:]))

    def handle(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(OK + b"Content-Encoding: gzip, br\r\n" + FRAMINGS["chunked"](body))

    with Origin(handle) as origin, Running(progressive(origin.url)) as download:
        assert (download.read_all(), download.error) == (FILM, None)


@pytest.mark.parametrize(
    ("coding", "framing", "path"),
    [
        ("gzip", "Content-Length", "/film.mkv"),
        ("deflate", "no length", "/list.m3u8"),
        ("br", "chunked", "/list.m3u8"),
    ],
)
async def test_subprocess_cuts_a_file_and_a_segment_that_end_within_their_coding(
    coding: str, framing: str, path: str
) -> None:
    egress = Egress(Guard(parse_networks(["127.0.0.0/8"])))
    await egress.start()
    try:
        with Origin(cutting(coding, framing, 4)) as origin:
            options = ChildOptions(proxy_url=lambda: egress.url)
            method = Subprocess(options, HandOver(65536, 32768), max_children=1)
            body = await opening.opened(method, Source(url=f"http://127.0.0.1:{origin.port}{path}"))
            with pytest.raises(UpstreamFailed, match="ended the compressed body"):
                await opening.rest_of(body)
            await body.aclose()
    finally:
        await egress.aclose()
