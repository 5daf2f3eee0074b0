"""Tests that the first bytes of a file determine its Content-Type. The relay reads them once for each extraction,
whichever range the client requests."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from serverpy.body import Body, Source
from serverpy.containers import SNIFF_BYTES
from serverpy.errors import NotMedia, RangeNotSatisfiable, UpstreamFailed
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Track
from serverpy.memory.budget import Budget
from serverpy.memory.room import NO_ROOM
from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.options import Timeouts
from serverpy.ranges import ByteRange
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.relay import Relay
from tests.aio import eventually
from tests.media.short_files import id3, written
from tests.net.origin import Origin
from tests.opening import rest_of
from tests.streaming.segments.relaying import PAGE, Page, hls
from tests.streaming.segments.shelf import Shelf, Tokens

WHOLE = ByteRange(0, None)
FILES = {
    "video/mp4": ("mp4", "libx264", "aac"),
    "audio/mp4": ("ipod", "aac"),
    "video/webm": ("webm", "libvpx"),
    "video/x-matroska": ("matroska", "libx264"),
    "video/mp2t": ("mpegts", "libx264"),
    "video/x-flv": ("flv", "flv"),
    "video/x-msvideo": ("avi", "mpeg4"),
    "audio/mpeg": ("mp3", "libmp3lame"),
    "audio/aac": ("adts", "aac"),
    "audio/flac": ("flac", "flac"),
    "audio/ogg": ("ogg", "libopus"),
    "audio/wav": ("wav", "pcm_s16le"),
    "audio/aiff": ("aiff", "pcm_s16be"),
    "image/gif": ("gif", "gif"),
}
RANGES = [ByteRange(0, 0), ByteRange(0, 1), ByteRange(0, 3), ByteRange(5, 9), ByteRange(700, None), ByteRange(None, 9)]
DECLARED = ["text/html; charset=utf-8", "application/octet-stream"]


@dataclass
class Rig:
    """A relay with a cache of extractions. The page lists files on the media server of these tests."""

    shelf: Shelf
    client: Client
    page: Page
    relay: Relay
    extractor: Extractor

    async def open(self, asked: ByteRange | None = None, *, head_only: bool = False) -> Body:
        """Open the last track of the page, as the server does for a client's request."""
        media = await self.extractor.extract(PAGE)
        plan = self.relay.capability.plan(media.tracks[-1:])
        return await self.relay.open(plan, Source(url=PAGE, media=media, range=asked, head_only=head_only), NO_ROOM)

    async def kind(self, asked: ByteRange | None = None) -> tuple[str, str]:
        """Read a range of the file. Returns the content type and the extension in the head of the body."""
        body = await self.open(asked)
        try:
            await rest_of(body)
        finally:
            await body.aclose()
        return body.head.content_type, body.head.ext

    @property
    def ranges(self) -> list[str | None]:
        """The ranges of all requests that the media server has received since this property was last read. None stands
        for a request without a range."""
        asked = [each.headers.get("Range") for each in self.shelf.asked if not each.target.endswith(".m3u8")]
        self.shelf.asked.clear()
        return asked


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


def plain(shelf: Shelf, data: bytes, content_type: str = "application/octet-stream", **fields: Any) -> Page:
    """Serve `data` as a file for which both the Content-Type and the extension are wrong. Returns a page with a track
    for this file."""
    shelf.files["/file"] = data
    shelf.headers["/file"] = {"Content-Type": content_type, "ETag": '"1"'}
    track = Track(
        id="0", url=f"{shelf.url}/file", protocol="http", ext="unknown_video", vcodec="unknown", acodec="unknown"
    )
    return Page(lambda _visit: replace(track, **fields))


@asynccontextmanager
async def rig(shelf: Shelf, page: Page, *, ttl: float = 300.0) -> AsyncIterator[Rig]:
    client = Client(Guard(allow=parse_networks(["127.0.0.0/8"])), timeouts=Timeouts(connect=30.0, stall=30.0))
    extractor = Extractor(page, ttl=ttl)
    fanout = Fanout(Budget(64 << 20, max_streams=50, wait_seconds=5.0))
    try:
        yield Rig(shelf, client, page, Relay(client, extractor, fanout, Timeouts(wait=2.0)), extractor)
        assert client.open_connections == 0
    finally:
        client.close()


@pytest.mark.parametrize("expected", FILES)
async def test_every_range_of_a_file_has_the_content_type_of_the_whole_file(shelf: Shelf, expected: str) -> None:
    muxer, *codecs = FILES[expected]
    data = written(muxer, *codecs)
    for declared in (*DECLARED, "text/plain", "application/json", "audio/flac") if muxer == "adts" else DECLARED:
        async with rig(shelf, plain(shelf, data, declared)) as whole:
            kind = await whole.kind()
        assert kind[0] == expected
        for asked in RANGES:
            async with rig(shelf, plain(shelf, data, declared)) as fresh:  # this extraction has no cached container yet
                assert await fresh.kind(asked) == kind, (declared, asked)


async def test_the_first_bytes_of_a_file_are_requested_once_for_each_extraction(shelf: Shelf) -> None:
    data = written("adts", "aac")
    async with rig(shelf, plain(shelf, data)) as it:
        for asked in RANGES:
            assert await it.kind(asked) == ("audio/aac", "aac")
        assert it.ranges == ["bytes=0-511", *(str(each) for each in RANGES)]
        await it.extractor.extract(PAGE, fresh=True)
        await it.kind(ByteRange(5, 9))
        assert it.ranges == ["bytes=0-511", "bytes=5-9"]


async def test_a_suffix_range_is_requested_by_its_absolute_first_byte_once_the_first_response_states_the_file_length(
    shelf: Shelf,
) -> None:
    data = written("adts", "aac")
    async with rig(shelf, plain(shelf, data)) as it:
        for asked in (ByteRange(None, 200), ByteRange(None, 2 * len(data))):
            body = await it.open(asked)
            assert await rest_of(body) == data[-(asked.last or 0) :]
            await body.aclose()
            await it.extractor.extract(PAGE, fresh=True)
        assert it.ranges == ["bytes=0-511", f"bytes={len(data) - 200}-", "bytes=0-511", "bytes=0-"]


async def test_a_requested_range_that_contains_the_first_bytes_needs_no_additional_request(shelf: Shelf) -> None:
    data = written("adts", "aac")
    for asked in (None, WHOLE, ByteRange(0, SNIFF_BYTES - 1)):
        async with rig(shelf, plain(shelf, data)) as it:
            await it.kind(asked)
            await it.kind(ByteRange(600, 700))
            assert it.ranges == [str(asked or WHOLE), "bytes=600-700"]


async def test_a_file_shorter_than_512_bytes_is_identified_by_its_first_bytes(shelf: Shelf) -> None:
    data = written("adts", "aac")[:300]
    async with rig(shelf, plain(shelf, data)) as it:
        for asked in (ByteRange(0, 1), ByteRange(200, None), None, ByteRange(0, 600)):
            assert await it.kind(asked) == ("audio/aac", "aac")


async def test_a_media_server_without_range_support_gets_at_most_one_additional_request(shelf: Shelf) -> None:
    shelf.knows_ranges = False
    async with rig(shelf, plain(shelf, written("flac", "flac"))) as it:
        for asked in (ByteRange(0, 1), ByteRange(5, 9), ByteRange(5, 9)):
            body = await it.open(asked)
            assert (body.head.content_type, body.head.partial) == ("audio/flac", False)
            await body.aclose()
        assert len(it.ranges) == 4


@pytest.mark.parametrize("fields", [{"request_data": "a=b"}, {"no_resume": True}])
async def test_media_that_is_streamed_without_range_support_is_requested_only_once(
    shelf: Shelf, fields: dict[str, Any]
) -> None:
    async with rig(shelf, plain(shelf, written("flac", "flac"), **fields)) as it:
        assert await it.kind(ByteRange(5, 9)) == ("audio/flac", "flac")
        assert it.ranges == [None]


@pytest.mark.parametrize("declared", ["video/mp4", "text/html"])
@pytest.mark.parametrize("asked", [None, ByteRange(0, 1), ByteRange(100, 199), ByteRange(None, 5)])
async def test_a_range_of_a_web_page_is_refused_as_not_media(
    shelf: Shelf, declared: str, asked: ByteRange | None
) -> None:
    for page in (b"<!DOCTYPE html><title>Not found</title>" * 30, b'{"error": "gone"}' * 12):
        async with rig(shelf, plain(shelf, page, declared)) as it:
            with pytest.raises(NotMedia):
                await it.open(asked)


async def test_a_web_page_in_place_of_a_file_whose_container_is_cached_is_refused_as_not_media(shelf: Shelf) -> None:
    async with rig(shelf, plain(shelf, written("flac", "flac"))) as it:
        await it.kind()
        shelf.files["/file"] = b"<!DOCTYPE html>" * 100
        with pytest.raises(NotMedia):
            await it.open()


@pytest.mark.parametrize("asked", [ByteRange(100, 199), ByteRange(5, None), ByteRange(None, 50), ByteRange(0, 1)])
async def test_a_range_of_a_web_page_in_place_of_a_file_whose_container_is_cached_is_refused_as_not_media(
    shelf: Shelf, asked: ByteRange
) -> None:
    """The media server honours ranges of the page, too. Only the length of the page shows that it is another file."""
    async with rig(shelf, plain(shelf, written("flac", "flac"))) as it:
        await it.kind()
        shelf.files["/file"] = b"<!DOCTYPE html>" * 100
        with pytest.raises(NotMedia):
            await it.open(asked)


async def test_a_range_of_a_file_whose_length_has_changed_has_the_content_type_of_the_new_file(shelf: Shelf) -> None:
    async with rig(shelf, plain(shelf, written("flac", "flac"))) as it:
        await it.kind()
        shelf.files["/file"] = written("adts", "aac")
        assert await it.kind(ByteRange(500, 599)) == ("audio/aac", "aac")
        assert it.ranges[-2:] == ["bytes=500-599", "bytes=0-511"]
        assert await it.kind(ByteRange(600, 699)) == ("audio/aac", "aac")
        assert it.ranges == ["bytes=600-699"]


async def test_a_range_in_the_middle_of_a_file_is_streamed_even_if_its_bytes_look_like_text(shelf: Shelf) -> None:
    data = written("flac", "flac") + b"some words at the end of the file" * 9
    async with rig(shelf, plain(shelf, data, "text/plain")) as it:
        assert await it.kind(ByteRange(None, 200)) == ("audio/flac", "flac")


async def test_a_range_beyond_the_end_of_the_file_raises_range_not_satisfiable_with_the_length(shelf: Shelf) -> None:
    data = written("flac", "flac")
    async with rig(shelf, plain(shelf, data)) as it:
        with pytest.raises(RangeNotSatisfiable) as caught:
            await it.open(ByteRange(len(data), None))
        assert caught.value.size == len(data)


@pytest.mark.parametrize("tag_bytes", [53, 900, 20_000, 40_000])
async def test_a_file_with_an_id3_tag_and_its_ranges_have_the_same_content_type(shelf: Shelf, tag_bytes: int) -> None:
    data = id3(tag_bytes) + written("adts", "aac")
    expected = ("audio/mpeg", "mp3") if tag_bytes > 32_000 else ("audio/aac", "aac")
    for asked in (None, ByteRange(0, 1), ByteRange(0, 700), ByteRange(2000, None), ByteRange(None, 5)):
        async with rig(shelf, plain(shelf, data, ext="mp3")) as it:
            assert await it.kind(asked) == expected
            assert len(it.ranges) <= 3


async def test_an_expired_url_is_renewed_once_for_both_the_range_and_the_first_bytes(shelf: Shelf) -> None:
    shelf.refuse = Tokens(good_for=2)
    page = plain(shelf, written("flac", "flac"))
    track = page.track(1)
    page.track = lambda visit: replace(track, url=f"{shelf.url}/file?{visit}")
    async with rig(shelf, page) as it:
        await it.kind()
        await it.kind()
        it.extractor._cache._entries[PAGE].containers.clear()
        assert await it.kind(ByteRange(5, 9)) == ("audio/flac", "flac")
        assert page.visits == 2


# HEAD requests


@pytest.mark.parametrize("expected", FILES)
async def test_head_requests_only_the_first_bytes_of_the_media(shelf: Shelf, expected: str) -> None:
    muxer, *codecs = FILES[expected]
    async with rig(shelf, plain(shelf, written(muxer, *codecs), "text/plain")) as it:
        head = (await it.open(head_only=True)).head
        assert it.ranges == ["bytes=0-511"]
        assert head.content_type == expected
        body = await it.open()
        await body.aclose()
        assert replace(head, timings={}) == replace(body.head, timings={})
        await it.kind(ByteRange(5, 9))
        assert it.ranges == ["bytes=0-", "bytes=5-9"]


async def test_reading_the_body_of_a_response_to_head_raises_an_error(shelf: Shelf) -> None:
    async with rig(shelf, plain(shelf, written("flac", "flac"))) as it:
        body = await it.open(head_only=True)
        with pytest.raises(UpstreamFailed, match="only the head"):
            await body.read()
        await body.aclose()


async def test_any_range_of_an_empty_file_raises_range_not_satisfiable(shelf: Shelf) -> None:
    async with rig(shelf, plain(shelf, b"")) as it:
        for asked in (ByteRange(0, 1), ByteRange(5, None)):
            with pytest.raises(RangeNotSatisfiable):
                await it.open(asked)


async def test_the_whole_file_is_requested_if_the_media_server_refuses_the_range_of_the_first_bytes(
    shelf: Shelf,
) -> None:
    data = written("flac", "flac")
    shelf.refuse = lambda _target: 416 if shelf.asked[-1].headers.get("Range") == "bytes=0-511" else None
    async with rig(shelf, plain(shelf, data)) as it:
        assert await it.kind(ByteRange(5, 9)) == ("audio/flac", "flac")
        assert (await it.open(head_only=True)).head.length == len(data)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>" * 50])
async def test_head_for_a_file_that_is_not_media_raises_the_same_error_as_the_whole_file(
    shelf: Shelf, data: bytes
) -> None:
    async with rig(shelf, plain(shelf, data)) as it:
        errors = []
        for head_only in (True, False):
            with pytest.raises((NotMedia, UpstreamFailed)) as caught:
                await it.open(head_only=head_only)
            errors.append((caught.value.code, str(caught.value)))
        assert errors[0] == errors[1]


@pytest.mark.parametrize("framing", ["Content-Length: 9000000000", "Transfer-Encoding: chunked", "Connection: close"])
async def test_head_closes_the_connection_to_a_media_server_that_has_no_range_support(
    shelf: Shelf, framing: str
) -> None:
    media = written("mpegts", "libx264")[: 188 * 100]
    sent = 0

    def pour(connection: socket.socket, _head: bytes) -> None:
        nonlocal sent
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}\r\n\r\n".encode())
        chunk = b"%x\r\n%s\r\n" % (len(media), media) if "chunked" in framing else media
        while True:
            connection.sendall(chunk)
            sent += len(chunk)

    page = plain(shelf, b"")
    with Origin(pour) as origin:
        track = page.track(1)
        page.track = lambda _visit: replace(track, url=origin.url)
        async with rig(shelf, page) as it:
            head = (await it.open(head_only=True)).head
            assert (head.content_type, head.seekable) == ("video/mp2t", False)
            assert head.length == (9_000_000_000 if "Length" in framing else None)
            await eventually(origin.left.is_set)
    assert len(origin.heads) == 1
    assert sent < 16 << 20  # the kernel buffers of the two sockets have room for less


# Segmented media (HLS)


def in_one_file(shelf: Shelf, *segments: bytes, content_type: str = "video/mp4", **fields: Any) -> Page:
    """Return a page with an HLS track whose segments are ranges of one file."""
    shelf.files["/all"] = b"".join(segments)
    shelf.headers["/all"] = {"Content-Type": content_type}
    lines, offset = [], 0
    for segment in segments:
        lines += [f"#EXTINF:2,\n#EXT-X-BYTERANGE:{len(segment)}@{offset}", "all"]
        offset += len(segment)
    track = hls(shelf, "\n".join(lines), **fields)
    return Page(lambda _visit: track)


@pytest.mark.parametrize(
    ("made", "fields", "kind"),
    [
        (("mpegts", "libx264"), {}, ("video/mp2t", "ts")),
        (("mpegts", "aac"), {"vcodec": None}, ("video/mp2t", "ts")),
        (("adts", "aac"), {"vcodec": None}, ("audio/aac", "aac")),
        (("mp4", "aac"), {"vcodec": None}, ("audio/mp4", "m4a")),
        (("mp4", "libx264"), {}, ("video/mp4", "mp4")),
    ],
)
@pytest.mark.parametrize("declared", ["text/html", "video/mp4"])
async def test_ranges_of_an_hls_stream_have_the_content_type_of_its_first_segment(
    shelf: Shelf, made: tuple[str, str], fields: dict[str, Any], kind: tuple[str, str], declared: str
) -> None:
    data = id3() + written(*made) if made[0] == "adts" else written(*made)
    segments = data, data
    for asked in (None, *RANGES, ByteRange(3500, 3600)):
        async with rig(shelf, in_one_file(shelf, *segments, content_type=declared, **fields)) as it:
            assert await it.kind(asked) == kind, asked
            assert it.ranges.count("bytes=0-511") == (asked is not None)
            if asked:
                assert await it.kind(ByteRange(3100, 3200)) == kind
                assert it.ranges == ["bytes=3100-3200"]


async def test_head_for_an_hls_stream_closes_the_request_for_the_first_segment(shelf: Shelf) -> None:
    async with rig(shelf, in_one_file(shelf, *[written("mpegts", "libx264")] * 3)) as it:
        head = (await it.open(head_only=True)).head
        assert (head.content_type, head.length) == ("video/mp2t", len(shelf.files["/all"]))  # type: ignore[arg-type]
        assert len(it.ranges) == 1
        assert it.client.open_connections == 0
