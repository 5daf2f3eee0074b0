"""Tests of the weaver. It reads each source (a video or audio file) forwards and with few requests, and never mixes two
versions of a source."""

from __future__ import annotations

import asyncio
import io
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serverpy.errors import NotMedia, RangeNotSatisfiable, TooLarge, UnsupportedConversion, UpstreamFailed
from serverpy.media.mp4.boxes import boxes, write
from serverpy.media.weave.weaver import Weaver
from serverpy.ranges import ByteRange
from serverpy.sample.cut import FRAGMENTED, copy
from tests.aio import eventually
from tests.media.mp4.films import own_boxes, packets
from tests.media.weaving import loom
from tests.streaming.segments.shelf import Shelf

KIB = 1024


@pytest.fixture
def shelf(media: Path) -> Iterator[Shelf]:
    """Run a media server that serves a video file and an audio file, each with an ETag."""
    with Shelf() as shelf:
        put(shelf, media / "video-only.mp4", media / "audio-only.mp4")
        yield shelf


def put(shelf: Shelf, video: Path, audio: Path, etag: str = "1") -> None:
    for name, path in (("/video", video), ("/audio", audio)):
        shelf.files[name] = path.read_bytes()
        shelf.headers[name] = {"ETag": f'"{name} {etag}"'}


def ranges(shelf: Shelf, path: str) -> list[str]:
    return [asked.headers["Range"] for asked in shelf.asked if asked.target == path]


async def test_the_weaver_sends_each_source_one_request_for_its_first_bytes_and_one_for_its_other_bytes(
    shelf: Shelf,
) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        assert packets(film, "video") == packets(bytes(shelf.files["/video"]), "video")  # type: ignore[arg-type]
        for path in ("/video", "/audio"):
            first, second = ranges(shelf, path)
            assert first == "bytes=0-65535"
            assert second.startswith("bytes=")


@pytest.mark.parametrize("declared", ["text/plain", "text/html", "application/json"])
async def test_the_bytes_of_a_source_and_not_its_content_type_determine_whether_it_is_media(
    shelf: Shelf, declared: str
) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        for name in ("/video", "/audio"):
            shelf.headers[name]["Content-Type"] = declared
        shelf.asked.clear()
        begin = len(film) // 2
        assert await weaving.read(ByteRange(begin, begin + 99_999)) == film[begin : begin + 100_000]
        assert (len(ranges(shelf, "/video")), len(ranges(shelf, "/audio"))) == (1, 1)
    async with loom(shelf) as weaving:  # this weaver has not cached the layout
        assert await weaving.read() == film


async def test_head_for_the_stream_of_a_merged_mp4_whose_layout_is_cached_requests_one_byte_of_each_source(
    shelf: Shelf,
) -> None:
    async with loom(shelf) as weaving:
        whole = await weaving.open()
        await whole.aclose()
        shelf.asked.clear()
        head = await weaving.open(head_only=True)
        await head.aclose()
        assert replace(head.body.head, timings={}) == replace(whole.body.head, timings={})
        for path in ("/video", "/audio"):
            (asked,) = ranges(shelf, path)
            first, last = asked.removeprefix("bytes=").split("-")
            assert first == last


async def test_a_web_page_in_place_of_a_source_is_refused_as_not_media(shelf: Shelf) -> None:
    shelf.files["/audio"] = b"<!DOCTYPE html>" * 100
    async with loom(shelf) as weaving:
        with pytest.raises(NotMedia):
            await weaving.read()


async def test_a_read_of_the_stream_of_a_merged_mp4_returns_no_more_bytes_than_requested(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        whole = await weaving.read()
        woven = await weaving.open()
        chunks = []
        while chunk := await woven.body.read(7001):
            chunks.append(chunk)
        await woven.aclose()
        assert max(map(len, chunks)) == 7001
        assert b"".join(chunks) == whole


async def test_the_weaver_sends_one_additional_request_to_a_source_whose_moov_is_at_the_end(
    shelf: Shelf, media: Path
) -> None:
    put(shelf, media / "video-last.mp4", media / "audio-last.mp4")
    async with loom(shelf) as weaving:
        await weaving.read()
        assert len(ranges(shelf, "/video")) == 3


async def test_a_second_stream_of_the_same_merged_mp4_reuses_the_cached_layout(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        shelf.asked.clear()
        assert await weaving.read() == film
        assert (len(ranges(shelf, "/video")), len(ranges(shelf, "/audio"))) == (1, 1)


async def test_concurrent_streams_of_a_merged_mp4_share_one_layout(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        films = await asyncio.gather(*(weaving.read(ByteRange(0, 200_000)) for _ in range(10)))
        assert len(set(films)) == 1
        assert ranges(shelf, "/video").count("bytes=0-65535") == 1


async def test_a_range_of_the_stream_of_a_merged_mp4_requests_only_its_own_bytes_from_the_sources(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        shelf.asked.clear()
        begin = len(film) // 2
        assert await weaving.read(ByteRange(begin, begin + 99)) == film[begin : begin + 100]
        (asked,) = ranges(shelf, "/video") + ranges(shelf, "/audio")
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        assert last - first == 99


async def test_a_range_inside_the_header_of_a_merged_mp4_sends_no_request_to_the_sources(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        shelf.asked.clear()
        assert await weaving.read(ByteRange(0, 99)) == film[:100]
        assert shelf.asked == []


async def test_the_weaver_skips_bytes_of_other_tracks_by_reading_them_instead_of_sending_a_new_request(
    shelf: Shelf, media: Path
) -> None:
    """Video and audio are in a single muxed file. One second of its audio has so few bytes that a separate request for
    them would not be worthwhile."""
    put(shelf, media / "prog.mp4", media / "prog.mp4")
    async with loom(shelf) as weaving:
        film = await weaving.read()
        assert packets(film, "audio") == packets((media / "prog.mp4").read_bytes(), "audio")
        assert len(ranges(shelf, "/video")) == 2


async def test_the_weaver_resumes_the_read_of_a_source_whose_connection_is_aborted(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        shelf.cuts["/video"] = 1_000_000
        assert await weaving.read() == film
        assert shelf.cuts == {}


@pytest.mark.parametrize("status", [202, 204, 304, 400, 403, 404, 405, 410, 416, 451, 501, 503, 520, 599])
async def test_a_status_without_media_does_not_cut_the_stream_of_a_merged_mp4_if_it_comes_once(
    shelf: Shelf, status: int
) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
        left = [status]
        shelf.refuse = lambda target: left.pop() if target == "/audio" and left else None
        assert await weaving.read() == film
        assert left == []
        assert ranges(shelf, "/audio").count("bytes=0-65535") == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 416, 501])
async def test_a_status_without_media_does_not_prevent_a_merge_if_it_comes_once(shelf: Shelf, status: int) -> None:
    async with loom(shelf) as weaving:
        film = await weaving.read()
    left = {"/video": [status], "/audio": [status]}
    shelf.refuse = lambda target: left[target].pop() if left[target] else None
    async with loom(shelf) as weaving:  # this weaver has not cached the layout
        assert await weaving.read() == film
    assert left == {"/video": [], "/audio": []}


async def test_a_source_that_changes_between_two_streams_gets_a_new_layout(shelf: Shelf, media: Path) -> None:
    async with loom(shelf) as weaving:
        first = await weaving.open()
        await first.aclose()
        put(shelf, media / "video-180.mp4", media / "audio-only.mp4", etag="2")
        second = await weaving.open()
        film = await second.rest()
        await second.aclose()
        assert first.body.head.etag != second.body.head.etag
        assert packets(film, "video") == packets((media / "video-180.mp4").read_bytes(), "video")


DATES = ("Mon, 02 Nov 2026 10:00:00 GMT", "Tue, 03 Nov 2026 10:00:00 GMT")


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [(DATES[0], DATES[0], True), (DATES[0], DATES[1], False), (None, None, False)],
    ids=["same date", "other date", "no date"],
)
async def test_if_a_source_redirects_to_another_server_its_last_modified_is_compared_but_not_its_etag(
    shelf: Shelf, media: Path, first: str | None, second: str | None, *, is_same: bool
) -> None:
    """The URL of each source redirects to one of two servers, whose ETags differ."""
    with Shelf() as one, Shelf() as other:
        for server, etag, date in ((one, "1", first), (other, "2", second)):
            put(server, media / "video-only.mp4", media / "audio-only.mp4", etag)
            for name in server.headers:
                server.headers[name] |= {"Last-Modified": date or ""}
        async with loom(shelf) as weaving:
            shelf.redirects |= {name: one.url + name for name in ("/video", "/audio")}
            film = await weaving.read()
            shelf.redirects |= {name: other.url + name for name in ("/video", "/audio")}
            assert await weaving.read() == film
            assert await weaving.read(ByteRange(1_000_000, 1_000_099)) == film[1_000_000:1_000_100]
        has_probed = "bytes=0-65535" in ranges(other, "/video")
        assert has_probed is not is_same


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"2"'}, False),
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"1"'}, True),
        ({"ETag": 'W/"1"'}, {}, True),
        ({"ETag": 'W/"1"', "Last-Modified": DATES[0]}, {"ETag": 'W/"2"', "Last-Modified": DATES[0]}, True),
        ({"ETag": 'W/"1"', "Last-Modified": DATES[0]}, {"ETag": 'W/"1"', "Last-Modified": DATES[1]}, False),
    ],
)
async def test_a_source_whose_weak_etag_changes_counts_as_changed_unless_its_date_is_the_same(
    shelf: Shelf, first: dict[str, str], second: dict[str, str], *, is_same: bool
) -> None:
    """A changed source gets a new layout, for which its first bytes are requested again."""
    async with loom(shelf) as weaving:
        shelf.headers["/video"] = first
        film = await weaving.read()
        shelf.headers["/video"] = second
        shelf.asked.clear()
        assert await weaving.read(ByteRange(1_000_000, 1_000_099)) == film[1_000_000:1_000_100]
        assert ("bytes=0-65535" in ranges(shelf, "/video")) is not is_same


async def test_a_source_that_changes_during_a_stream_raises_upstream_failed(shelf: Shelf, media: Path) -> None:
    async with loom(shelf) as weaving:
        await weaving.read()
        shelf.cuts["/video"] = 1_000_000
        woven = await weaving.open()
        put(shelf, media / "video-180.mp4", media / "audio-only.mp4", etag="2")
        for _ in range(2):  # the second read raises as well, and does not report a clean EOF
            with pytest.raises(UpstreamFailed):
                await woven.rest()
        await woven.aclose()


async def test_a_source_without_validators_that_becomes_shorter_gets_a_new_layout(shelf: Shelf, media: Path) -> None:
    """The weaver requests a range that lies inside the old file, but beyond the end of the new file."""
    shelf.headers.clear()
    async with loom(shelf) as weaving:
        await weaving.read(ByteRange(0, 0))
        shelf.files["/video"] = (media / "video-180.mp4").read_bytes()
        end = await weaving.read(ByteRange(None, 500_000))
        assert (await weaving.read())[-500_000:] == end


@pytest.mark.parametrize("path", ["/video", "/audio"])
async def test_an_empty_source_raises_upstream_failed(shelf: Shelf, path: str) -> None:
    shelf.files[path] = b""
    async with loom(shelf) as weaving:
        with pytest.raises(UpstreamFailed, match="empty"):
            await weaving.open()


async def test_sources_without_range_support_cannot_be_merged(shelf: Shelf) -> None:
    shelf.knows_ranges = False
    async with loom(shelf) as weaving:
        with pytest.raises(UnsupportedConversion):
            await weaving.open()


async def test_after_a_range_beyond_the_end_of_the_stream_of_a_merged_mp4_no_connection_and_no_bytes_are_in_use(
    shelf: Shelf,
) -> None:
    async with loom(shelf) as weaving:
        with pytest.raises(RangeNotSatisfiable):
            await weaving.open(ByteRange(1 << 40, None))


async def test_after_the_stream_of_a_merged_mp4_is_cancelled_no_connection_and_no_bytes_are_in_use(
    shelf: Shelf,
) -> None:
    """The test cancels the stream after 0 to 117 iterations of the event loop."""
    for turns in range(0, 120, 3):
        async with loom(shelf) as weaving:
            opening = asyncio.ensure_future(weaving.read(ByteRange(0, 300_000)))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            await eventually(lambda: not weaving.client.open_connections)


async def test_the_layout_of_a_merged_mp4_is_charged_to_the_budget_while_it_is_in_use_and_is_spare_afterwards(
    shelf: Shelf,
) -> None:
    async with loom(shelf) as weaving:
        woven = await weaving.open()
        layout_bytes = weaving.budget.used_bytes - woven.reservation.nbytes
        assert woven.reservation.nbytes == weaving.weaver.stream_bytes
        assert layout_bytes > 4 * KIB
        other = await weaving.open()
        assert weaving.budget.used_bytes == 2 * weaving.weaver.stream_bytes + layout_bytes
        await woven.aclose()
        await other.aclose()
        assert weaving.budget.used_bytes == 0


async def test_spare_layouts_are_discarded_to_make_room_for_a_new_stream(shelf: Shelf) -> None:
    async with loom(shelf) as weaving:
        await weaving.read(ByteRange(0, 0))
        reservation = await weaving.budget.reserve(weaving.budget.total_bytes)
        reservation.release()


async def test_a_layout_that_exceeds_the_budget_is_refused_as_too_large(shelf: Shelf) -> None:
    async with loom(shelf, budget_bytes=Weaver.stream_bytes + 100 * KIB) as weaving:
        with pytest.raises(TooLarge):
            await weaving.open()


def test_the_stream_of_a_merged_mp4_reserves_at_most_half_a_mebibyte_besides_its_layout() -> None:
    assert Weaver.stream_bytes <= 512 * KIB


async def test_every_range_of_a_merged_fragmented_mp4_is_a_slice_of_the_whole_file(shelf: Shelf, media: Path) -> None:
    put(shelf, media / "video-sidx.mp4", media / "audio-based.mp4")
    async with loom(shelf) as weaving:
        film, dice = await weaving.read(), random.Random(3)
        assert packets(film, "video") == packets((media / "video-sidx.mp4").read_bytes(), "video")
        assert packets(film, "audio") == packets((media / "audio-based.mp4").read_bytes(), "audio")
        for _ in range(100):
            first, last = sorted(dice.sample(range(len(film)), 2))
            last = min(last, first + 100_000)
            assert await weaving.read(ByteRange(first, last)) == film[first : last + 1]


def regrouped(film: bytes, fragments: int) -> bytes:
    """Return the fragmented MP4 with additional boxes between its fragments, and with a sidx that has one reference for
    every group of `fragments` fragments."""
    data = memoryview(film)
    head = own_boxes(film)
    first = next(box.start for box in head if box.kind == b"moof")
    moov = next(box for box in head if box.kind == b"moov")
    parts = [film[box.start : box.end] for box in boxes(data, first, len(film)) if box.kind in (b"moof", b"mdat")]
    whole = [
        write(b"styp", b"msdh", bytes(4))
        + write(b"sidx", bytes(32))
        + parts[at]
        + write(b"free", b"x" * 9)
        + parts[at + 1]
        for at in range(0, len(parts), 2)
    ]
    blocks = [b"".join(whole[at : at + fragments]) for at in range(0, len(whole), fragments)]
    entries = [struct.pack(">III", len(block), 2000 * fragments, 0x90000000) for block in blocks]
    sidx = struct.pack(">IIIII", 0, 1, 1000, 0, 0) + struct.pack(">HH", 0, len(blocks)) + b"".join(entries)
    return b"".join((film[: moov.end], write(b"sidx", sidx), *blocks))


async def test_a_sidx_reference_may_cover_several_fragments_and_other_boxes(shelf: Shelf, media: Path) -> None:
    """The additional boxes move the data of the fragments by 17 bytes away from the data offset in their truns. No test
    notices this, because none decodes the file."""
    put(shelf, media / "video-sidx.mp4", media / "audio-sidx.mp4")
    shelf.files["/video"] = regrouped((media / "video-sidx.mp4").read_bytes(), 2)
    async with loom(shelf) as weaving:
        film, dice = await weaving.read(), random.Random(5)
        numbers = [numbers_of(film[box.start : box.end]) for box in own_boxes(film) if box.kind == b"moof"]
        assert [track for _, track in numbers] == [1, 1, 2, 2, 1, 1, 2, 2, 1, 2][: len(numbers)]
        assert [sequence for sequence, _ in numbers] == sorted({sequence for sequence, _ in numbers})
        assert sum(box.kind == b"sidx" for box in own_boxes(film)) == 2
        for _ in range(60):
            first, last = sorted(dice.sample(range(len(film)), 2))
            last = min(last, first + 50_000)
            assert await weaving.read(ByteRange(first, last)) == film[first : last + 1]


def with_an_index_before_each_fragment(film: Path) -> bytes:
    out = io.BytesIO()
    copy(film, out, "mp4", "video", {"movflags": f"{FRAGMENTED}+dash"})
    return out.getvalue()


async def test_a_sidx_that_covers_only_the_first_fragment_is_not_used_as_the_index_of_the_whole_file(
    shelf: Shelf, media: Path
) -> None:
    put(shelf, media / "video-sidx.mp4", media / "audio-sidx.mp4")
    shelf.files["/video"] = video = with_an_index_before_each_fragment(media / "video-sidx.mp4")
    assert [box.kind for box in own_boxes(video)].count(b"sidx") > 1
    async with loom(shelf) as weaving:
        assert packets(await weaving.read(), "video") == packets(video, "video")
        shelf.files["/video"] = video = video[: next(box.start for box in own_boxes(video) if box.kind == b"mfra")]
        shelf.headers["/video"] = {"ETag": '"without"'}
        assert packets(await weaving.read(), "video") == packets(video, "video")


def numbers_of(moof: bytes) -> tuple[int, int]:
    """Return the sequence number and the track number in a moof."""
    mfhd, tfhd = moof.index(b"mfhd"), moof.index(b"tfhd")
    return int.from_bytes(moof[mfhd + 8 : mfhd + 12], "big"), int.from_bytes(moof[tfhd + 8 : tfhd + 12], "big")
