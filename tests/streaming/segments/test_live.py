"""Live playlists: every segment once and in order, from near the live edge to the end, or an error; never a gap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import pad

from serverpy.errors import InvalidParameter, UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Client
from serverpy.sample.site import SampleSite
from serverpy.streaming.segments.hls import MediaPlaylist
from serverpy.streaming.segments.live import LiveCursor
from serverpy.streaming.segments.manifest import HlsManifest
from serverpy.streaming.segments.packed_lines import PackedLines
from serverpy.streaming.segments.segment import Rules
from serverpy.tasks import cancel, spawn
from tests.aio import eventually
from tests.server import Server
from tests.streaming.segments.relaying import Page, client_for, drained, hls, opened, stream
from tests.streaming.segments.shelf import Shelf, Tokens
from tests.streaming.segments.show import Show, piece, pieces


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


def test_every_segment_is_streamed_once_until_the_playlist_ends(shelf: Shelf) -> None:
    head, data = stream(shelf, Show(shelf).track())
    assert data == pieces(*range(12))
    assert (head.length, head.seekable) == (None, False)


def test_a_client_begins_three_target_durations_before_the_end(shelf: Shelf) -> None:
    assert stream(shelf, Show(shelf, window=20, total=25).track())[1] == pieces(*range(14, 25))


@pytest.mark.parametrize(
    ("start", "first"),
    [(0.0, 0), (0.25, 2), (-1.0, 10), (-100.0, 0), (-0.05, 14), (100.0, 14)],
    ids=["oldest", "after it", "back from the end", "before the oldest", "beyond the edge", "not published yet"],
)
def test_a_client_may_set_where_to_begin(shelf: Shelf, start: float, first: int) -> None:
    assert stream(shelf, Show(shelf, window=20, total=25).track(), start=start)[1] == pieces(*range(first, 25))


def test_start_applies_to_a_live_playlist_that_has_ended_too(shelf: Shelf) -> None:
    head, data = stream(shelf, Show(shelf, window=20, total=20).track(), start=-1.0)
    assert data == pieces(*range(10, 20))
    assert (head.length, head.seekable) == (None, False)


def test_start_is_refused_for_media_that_is_not_live(shelf: Shelf) -> None:
    with pytest.raises(InvalidParameter):
        stream(shelf, hls(shelf, "#EXTINF:1,\n0.ts"), start=0.0)


def test_a_playlist_that_has_ended_is_read_from_its_beginning(shelf: Shelf) -> None:
    assert stream(shelf, Show(shelf, window=20, total=20).track())[1] == pieces(*range(20))


def test_an_initialization_section_is_streamed_once(shelf: Shelf) -> None:
    shelf.files["/init.mp4"] = init = b"\x47\x40\x00\x10" + bytes(8)
    show = Show(shelf, window=20, total=23)
    show.before = '#EXT-X-MAP:URI="init.mp4"'
    assert stream(shelf, show.track())[1] == init + pieces(*range(14, 23))
    assert len(shelf.targets("/init.mp4")) == 1


def test_the_sequence_number_is_the_iv_of_encrypted_segments(shelf: Shelf) -> None:
    show = Show(shelf, before='#EXT-X-KEY:METHOD=AES-128,URI="key"')
    shelf.files["/key"] = key = b"0123456789abcdef"
    for number in range(show.total):
        cipher = AES.new(key, AES.MODE_CBC, number.to_bytes(16, "big"))
        shelf.files[f"/{number}.ts"] = cipher.encrypt(pad(piece(number), 16))
    assert stream(shelf, show.track())[1] == pieces(*range(12))
    assert len(shelf.targets("/key")) == 1


def test_a_playlist_that_moves_on_too_far_is_an_error(shelf: Shelf) -> None:
    with pytest.raises(UpstreamFailed, match="fell behind the live window"):
        stream(shelf, Show(shelf, window=2, pace=4).track())


def test_a_segment_that_is_gone_before_it_is_read_is_an_error(shelf: Shelf) -> None:
    show = Show(shelf)
    del shelf.files["/5.ts"]
    with pytest.raises(UpstreamFailed):
        stream(shelf, show.track())


async def test_a_playlist_without_new_segments_is_given_up(shelf: Shelf) -> None:
    page = Page(lambda _: Show(shelf, ends=False).track())
    async with client_for(shelf, stall_timeout=3.0) as client:
        body = await opened(client, page)
        with pytest.raises(UpstreamTimeout, match="no more segments"):
            await drained(body)


def test_a_playlist_address_with_an_expired_token_is_renewed_from_the_page(shelf: Shelf) -> None:
    show = Show(shelf)
    shelf.refuse = Tokens(good_for=3)
    page = Page(lambda visit: show.track(f"?{visit}"))
    assert stream(shelf, page)[1] == pieces(*range(12))
    assert page.visits >= 3


async def test_a_reader_may_leave_while_it_waits_for_new_segments(shelf: Shelf) -> None:
    show = Show(shelf, ends=False)

    async def whole(client: Client) -> bytes:
        return await drained(await opened(client, Page(lambda _: show.track())))

    async with client_for(shelf) as client:
        task = spawn(whole(client), name="reader")
        await eventually(lambda: show.looks > 10)
        await cancel(task)
        assert task.cancelled()


def test_an_event_that_the_page_does_not_call_live_is_read_from_its_beginning(shelf: Shelf) -> None:
    show = Show(shelf, window=20, total=22, before="#EXT-X-PLAYLIST-TYPE:EVENT")
    page = Page(lambda _: hls(shelf, path="/live.m3u8"))
    assert stream(shelf, page)[1] == pieces(*range(22))
    assert show.looks == 3


# The cursor alone


def manifest(*lines: str) -> HlsManifest:
    packed, playlist = PackedLines(), MediaPlaylist("https://media.example/live.m3u8", Rules())
    for line in packed.write("\n".join(("#EXTM3U", *lines, "")).encode()) + packed.finish():
        playlist.feed(line)
    return HlsManifest(
        lines=packed,
        url=playlist.url,
        rules=Rules(),
        count=playlist.count,
        length=None,
        seconds=playlist.seconds,
        longest_seconds=playlist.longest_seconds,
        first_number=playlist.first_number,
        end_number=playlist.end_number,
        has_sequence=playlist.has_sequence,
        target_seconds=0.0,
        last=playlist.last,
        is_complete=playlist.is_complete,
        begins_at_edge=True,
    )


async def test_the_time_that_a_reader_is_busy_does_not_count_as_waiting() -> None:
    now, looks = 0.0, 0

    async def load(*, renews: bool = True) -> HlsManifest:
        nonlocal looks
        looks += 1
        return manifest("#EXTINF:1,", "0.ts", "#EXTINF:1,", "1.ts")

    cursor = LiveCursor(manifest("#EXTINF:1,", "0.ts"), load, patience=1.0, clock=lambda: now)
    first = await cursor.next()
    now += 100.0
    second = await cursor.next()
    assert first is not None
    assert second is not None
    assert (first.number, second.number, looks) == (0, 1, 1)


async def test_segments_without_a_duration_are_given_from_the_oldest() -> None:
    async def load(*, renews: bool = True) -> HlsManifest:
        return manifest("0.ts", "#EXTINF:nothing,", "1.ts", "#EXT-X-ENDLIST")

    cursor = LiveCursor(manifest("0.ts"), load, patience=1.0)
    found = [await cursor.next() for _ in range(3)]
    assert [None if each is None else each.number for each in found] == [0, 1, None]


# The real server


@pytest.mark.parametrize("kind", ["ts", "fmp4", "aes"])
def test_a_broadcast_is_streamed_to_its_end(server: Server, site: SampleSite, kind: str) -> None:
    page = f"/page/live/clock=request,target=0,window=4,ends=12,kind={kind},quality=low,id=live-{kind}"
    answer = server.get(page)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["x-serverpy-method"] == "relay"
    folder, suffix = ("fmp4", "m4s") if kind == "fmp4" else ("ts", "ts")
    parts = [site.path(f"hls/{folder}/low-{number % 5}.{suffix}").read_bytes() for number in range(12)]
    head = site.path("hls/fmp4/low-init.mp4").read_bytes() if kind == "fmp4" else b""
    begins = {first: head + b"".join(parts[first:]) for first in range(12)}
    assert answer.body in begins.values()
    assert len(answer.body) > len(begins[8])


@pytest.mark.parametrize(("start", "first"), [(0, 0), (3, 1), (-4, 6)])
def test_a_broadcast_may_be_streamed_from_a_given_start(
    server: Server, site: SampleSite, start: int, first: int
) -> None:
    page = f"/tube/live/clock=request,target=0,window=8,ends=10,quality=low,id=start{start}"
    answer = server.get(page, start=start)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == b"".join(site.path(f"hls/ts/low-{number % 5}.ts").read_bytes() for number in range(first, 10))


@pytest.mark.parametrize("asked", [{"start": 0, "method": "embedded"}, {"start": "nan"}, {"end": 5}], ids=str)
def test_an_unsupported_start_or_end_of_a_broadcast_is_refused(server: Server, asked: dict[str, Any]) -> None:
    answer = server.get("/tube/live/clock=step,ends=3,quality=low,id=uncut", **asked)
    assert (answer.status, answer.code) == (400, "invalid_parameter")
