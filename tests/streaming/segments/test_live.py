"""Tests of live playlists. The reader gets every segment once and in order, from near the live edge to the end, or an
error. No segment is skipped without an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
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
from serverpy.streaming.segments.reloads import Reloads
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


def test_every_segment_of_a_live_playlist_is_streamed_once_until_the_playlist_ends(shelf: Shelf) -> None:
    head, data = stream(shelf, Show(shelf).track())
    assert data == pieces(*range(12))
    assert (head.length, head.seekable) == (None, False)


def test_a_live_stream_begins_three_target_durations_before_the_end_of_its_playlist(shelf: Shelf) -> None:
    assert stream(shelf, Show(shelf, window=20, total=25).track())[1] == pieces(*range(14, 25))


@pytest.mark.parametrize(
    ("start", "first"),
    [(0.0, 0), (0.25, 2), (-1.0, 10), (-100.0, 0), (-0.05, 14), (100.0, 14)],
    ids=["oldest", "after it", "back from the end", "before the oldest", "beyond the edge", "not published yet"],
)
def test_the_parameter_start_selects_the_segment_with_which_a_live_stream_begins(
    shelf: Shelf, start: float, first: int
) -> None:
    assert stream(shelf, Show(shelf, window=20, total=25).track(), start=start)[1] == pieces(*range(first, 25))


def test_the_parameter_start_also_applies_to_a_live_playlist_that_has_an_end_tag(shelf: Shelf) -> None:
    head, data = stream(shelf, Show(shelf, window=20, total=20).track(), start=-1.0)
    assert data == pieces(*range(10, 20))
    assert (head.length, head.seekable) == (None, False)


def test_the_parameter_start_is_refused_for_media_that_is_not_live(shelf: Shelf) -> None:
    with pytest.raises(InvalidParameter):
        stream(shelf, hls(shelf, "#EXTINF:1,\n0.ts"), start=0.0)


def test_a_live_playlist_that_has_ended_is_streamed_from_its_beginning(shelf: Shelf) -> None:
    assert stream(shelf, Show(shelf, window=20, total=20).track())[1] == pieces(*range(20))


@pytest.mark.parametrize(
    "number", [lambda _: 0, lambda first: first // 2, lambda first: 100 - first], ids=["0", "slow", "falling"]
)
@pytest.mark.parametrize("pace", [1, 2])
def test_every_segment_is_streamed_once_if_the_media_sequence_numbers_are_wrong(
    shelf: Shelf, number: Callable[[int], int], pace: int
) -> None:
    assert stream(shelf, Show(shelf, total=8, pace=pace, number=number).track())[1] == pieces(*range(8))


def test_a_live_stream_ends_at_once_if_its_playlist_ends_without_segments(shelf: Shelf) -> None:
    show = Show(shelf, ends_empty=True)
    assert stream(shelf, show.track())[1] == pieces(*range(12))
    assert show.looks == 10


def test_an_initialization_section_is_streamed_once_if_all_playlists_repeat_it_unchanged(shelf: Shelf) -> None:
    shelf.files["/init.mp4"] = init = b"\x47\x40\x00\x10" + bytes(8)
    show = Show(shelf, window=20, total=23)
    show.before = '#EXT-X-MAP:URI="init.mp4"'
    assert stream(shelf, show.track())[1] == init + pieces(*range(14, 23))
    assert len(shelf.targets("/init.mp4")) == 1


def test_encrypted_live_segments_use_their_media_sequence_numbers_as_ivs(shelf: Shelf) -> None:
    show = Show(shelf, before='#EXT-X-KEY:METHOD=AES-128,URI="key"')
    shelf.files["/key"] = key = b"0123456789abcdef"
    for number in range(show.total):
        cipher = AES.new(key, AES.MODE_CBC, number.to_bytes(16, "big"))
        shelf.files[f"/{number}.ts"] = cipher.encrypt(pad(piece(number), 16))
    assert stream(shelf, show.track())[1] == pieces(*range(12))
    assert len(shelf.targets("/key")) == 1


def test_a_live_stream_ends_in_an_error_if_segments_leave_its_playlist_faster_than_they_are_read(shelf: Shelf) -> None:
    with pytest.raises(UpstreamFailed, match="fell behind the live window"):
        stream(shelf, Show(shelf, window=2, pace=4).track())


def test_a_live_stream_ends_in_an_error_if_the_media_server_removes_a_segment_before_it_is_read(shelf: Shelf) -> None:
    show = Show(shelf)
    del shelf.files["/5.ts"]
    with pytest.raises(UpstreamFailed):
        stream(shelf, show.track())


async def test_a_live_stream_times_out_if_its_playlist_gets_no_new_segments(shelf: Shelf) -> None:
    page = Page(lambda _: Show(shelf, ends=False).track())
    async with client_for(shelf, stall_timeout=3.0) as client:
        body = await opened(client, page)
        with pytest.raises(UpstreamTimeout, match="no new segment"):
            await drained(body)


def test_a_playlist_url_whose_token_has_expired_is_renewed_by_a_new_extraction(shelf: Shelf) -> None:
    show = Show(shelf)
    shelf.refuse = Tokens(good_for=3)
    page = Page(lambda visit: show.track(f"?{visit}"))
    assert stream(shelf, page)[1] == pieces(*range(12))
    assert page.visits >= 3


async def test_no_connection_is_left_if_a_reader_leaves_while_it_waits_for_new_segments(shelf: Shelf) -> None:
    show = Show(shelf, ends=False)

    async def whole(client: Client) -> bytes:
        return await drained(await opened(client, Page(lambda _: show.track())))

    async with client_for(shelf) as client:
        task = spawn(whole(client), name="reader")
        await eventually(lambda: show.looks > 10)
        await cancel(task)
        assert task.cancelled()


def test_an_event_playlist_is_read_from_its_beginning_unless_the_page_says_that_the_media_is_live(shelf: Shelf) -> None:
    show = Show(shelf, window=20, total=22, before="#EXT-X-PLAYLIST-TYPE:EVENT")
    page = Page(lambda _: hls(shelf, path="/live.m3u8"))
    assert stream(shelf, page)[1] == pieces(*range(22))
    assert show.looks == 3


# The live cursor without a relay


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
        duration=None,
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


async def test_the_time_between_two_read_calls_of_a_reader_does_not_count_as_waiting_for_segments() -> None:
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


async def test_a_live_playlist_whose_segments_have_no_duration_is_read_from_the_oldest_segment() -> None:
    async def load(*, renews: bool = True) -> HlsManifest:
        return manifest("0.ts", "#EXTINF:nothing,", "1.ts", "#EXT-X-ENDLIST")

    cursor = LiveCursor(manifest("0.ts"), load, patience=1.0)
    found = [await cursor.next() for _ in range(3)]
    assert [None if each is None else each.number for each in found] == [0, 1, None]


# Live playlists with wrong media sequence numbers


def of(first: int | None, *names: str, end: bool = False, seconds: int = 1) -> HlsManifest:
    """Return a playlist that lists the segments `names`. `first` is its media sequence number, or None if the playlist
    does not state one."""
    head = [] if first is None else [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    lines = [line if line.startswith("#") else f"#EXTINF:{seconds},\n{line}" for line in names]
    return manifest(*head, *lines, *(["#EXT-X-ENDLIST"] if end else []))


async def followed(*versions: HlsManifest | UpstreamFailed) -> list[str]:
    """Read a live playlist from its oldest segment. Each load of the playlist returns the next of `versions`, or raises
    it if it is an error. Further loads return the last version. Returns the names of the segments that were read."""
    left = list(versions)

    async def load(*, renews: bool = True) -> HlsManifest:
        version = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(version, UpstreamFailed):
            raise version
        return version

    cursor, found = LiveCursor(await load(), load, patience=1.0, start=0.0), []
    while (segment := await cursor.next()) is not None:
        found.append(segment.url.removeprefix("https://media.example/"))
    return found


def rolling(name: str, number: Callable[[int], int]) -> list[HlsManifest]:
    """Return three versions of a playlist that rolls by one segment. `name` is formatted with the number of a segment
    and that of the version. `number` returns the media sequence number of a version."""
    names = [[name.format(n, version) for n in range(version, version + 3)] for version in range(3)]
    return [of(number(version), *listed, end=version == 2) for version, listed in enumerate(names)]


A, B = ("a0.ts", "a1.ts", "a2.ts", "a3.ts", "a4.ts"), ("b0.ts", "b1.ts", "b2.ts")
ANEW = [
    ("the number is 0 again", [of(7, *A[:3]), of(8, *A[1:4]), of(0, *B, end=True)], [*A[:4], *B]),
    ("the tag is gone", [of(7, *A[:3]), of(None, *B, end=True)], [*A[:3], *B]),
    ("it goes on", [of(7, *A[:2]), of(0, *B[:1]), of(0, *B[:2]), of(1, *B[1:], end=True)], [*A[:2], *B]),
    ("one back", [of(7, *A[:3]), of(6, *B, end=True)], [*A[:3], *B]),
    ("the first number stays", [of(7, *A[:3]), of(7, *B[:2], end=True)], [*A[:3], *B[:2]]),
    ("numbers that are false only once", [of(7, *A[:3]), of(7, *A[1:4]), of(9, *A[2:], end=True)], list(A)),
    ("silence before", [of(7, *A[:2]), of(7, *A[:2]), of(7, *A[:2]), of(3, *B, end=True)], [*A[:2], *B]),
    ("errors before", [of(7, *A[:2]), UpstreamFailed("gone"), of(0, *B, end=True)], [*A[:2], *B]),
    ("twice", [of(7, *A[:2]), of(0, *B[:2]), of(0, "c0.ts", end=True)], [*A[:2], *B[:2], "c0.ts"]),
]
OLD = [
    ("an old copy", [of(7, *A[:3]), of(6, "z.ts", *A[:2]), of(8, *A[1:4], end=True)], list(A[:4])),
    ("with fresh tokens", [of(7, "a.ts?t=1", "b.ts?t=1"), of(6, "z.ts", "a.ts?t=2"), of(8, "b.ts", "c.ts", end=True)],
     ["a.ts?t=1", "b.ts?t=1", "c.ts"]),
    ("cut short", [of(7, *A[:3]), of(7, *A[:1]), of(7), of(7, *A, end=True)], list(A)),
]  # fmt: skip
UNNUMBERED = [
    ("rolling", [of(None, *A[:3]), of(None, *A[1:4]), of(None, *A[2:], end=True)], list(A)),
    ("rolling by two", [of(None, *A[:3]), of(None, *A[2:], end=True)], list(A)),
    ("the same list again", [of(None, *A[:2]), of(None, *A[:2]), of(None, *A[1:4], end=True)], list(A[:4])),
    ("growing", [of(None, *A[:1]), of(None, *A[:3]), of(None, *A, end=True)], list(A)),
    ("names that return", [of(None, "0", "1", "2"), of(None, "1", "2", "0"), of(None, "0", "1", "2"),
                           of(None, "2", "0", "1", end=True)], ["0", "1", "2", "0", "1", "2", "0", "1"]),
    ("named by a query", [of(None, "s?n=1", "s?n=2"), of(None, "s?n=2", "s?n=3", end=True)],
     ["s?n=1", "s?n=2", "s?n=3"]),
    ("with fresh tokens", [of(None, "1.ts?t=1", "2.ts?t=1"), of(None, "2.ts?t=2", "3.ts?t=2", end=True)],
     ["1.ts?t=1", "2.ts?t=1", "3.ts?t=2"]),
]  # fmt: skip
FALSE = [
    ("always 0", [of(0, *A[:3]), of(0, *A[1:4]), of(0, *A[2:], end=True)], list(A)),
    ("always 0, by two", [of(0, *A[:3]), of(0, *A[2:], end=True)], list(A)),
    ("always 0, another length", [of(0, *A[:3]), of(0, *A[2:4]), of(0, *A[3:], end=True)], list(A)),
    ("always 0, not yet rolled", [of(0, *A[:2]), of(0, *A[:3]), of(0, *A[1:4]), of(0, *A[2:], end=True)], list(A)),
    ("always 0, then nothing", [of(0, *A[:3]), of(0, *A[1:4]), of(0), of(0, *A[2:], end=True)], list(A)),
    ("always 0, an old copy", [of(0, *A[:3]), of(0, *A[1:4]), of(0, *A[:3]), of(0, *A[2:], end=True)], list(A)),
    ("by one though two left", [of(5, *A[:3]), of(6, *A[2:], end=True)], list(A)),
    ("by two though one left", [of(5, *A[:4]), of(7, *A[1:], end=True)], list(A)),
    ("back though it rolls", [of(5, *A[:3]), of(3, *A[1:4]), of(4, *A[2:], end=True)], list(A)),
    ("far ahead", [of(5, *A[:3]), of(100, *A[1:4]), of(101, *A[2:], end=True)], list(A)),
    ("always 0, named by a query", [of(0, "s?n=1", "s?n=2"), of(0, "s?n=2", "s?n=3", end=True)],
     ["s?n=1", "s?n=2", "s?n=3"]),
    ("always 0, with fresh tokens", [of(0, "1.ts?t=1", "2.ts?t=1"), of(0, "2.ts?t=2", "3.ts?t=2", end=True)],
     ["1.ts?t=1", "2.ts?t=1", "3.ts?t=2"]),
    ("always 0, tokens in the path", rolling("t{1}/{0}.ts", lambda version: 0), ["t0/0.ts", "t0/1.ts", "t0/2.ts",
                                                                                 "t1/3.ts", "t2/4.ts"]),
    ("falling, tokens and names in a query", rolling("s?n={0}&t={1}", lambda version: 9 - version),
     ["s?n=0&t=0", "s?n=1&t=0", "s?n=2&t=0", "s?n=3&t=1", "s?n=4&t=2"]),
    ("ahead, named by a query", [of(5, "s?n=1", "s?n=2", "s?n=3"), of(99, "s?n=2", "s?n=3", "s?n=4", end=True)],
     ["s?n=1", "s?n=2", "s?n=3", "s?n=4"]),
    ("always 0, a repeated advert", [of(0, "a", "ad", "ad"), of(0, "ad", "ad", "b"), of(0, "ad", "b", "ad", end=True)],
     ["a", "ad", "ad", "b", "ad"]),
]  # fmt: skip
TRUE = [
    ("fresh tokens in the query", [of(0, "1.ts?t=1", "2.ts?t=1"), of(1, "2.ts?t=2", "3.ts?t=2", end=True)],
     ["1.ts?t=1", "2.ts?t=1", "3.ts?t=2"]),
    ("fresh tokens in the path", [of(0, "t1/1.ts", "t1/2.ts"), of(1, "t2/2.ts", "t2/3.ts", end=True)],
     ["t1/1.ts", "t1/2.ts", "t2/3.ts"]),
    ("fresh tokens and names in the path", [of(0, "x/1/s.ts", "x/2/s.ts"), of(1, "y/2/s.ts", "y/3/s.ts", end=True)],
     ["x/1/s.ts", "x/2/s.ts", "y/3/s.ts"]),
    ("fresh tokens and names in a query", [of(0, "s?n=1&t=1", "s?n=2&t=1"), of(1, "s?n=2&t=2", "s?n=3&t=2", end=True)],
     ["s?n=1&t=1", "s?n=2&t=1", "s?n=3&t=2"]),
    ("fresh tokens in the names", [of(0, "w1_1.ts", "w1_2.ts"), of(0, "w2_1.ts", "w2_2.ts", "w2_3.ts", end=True)],
     ["w1_1.ts", "w1_2.ts", "w2_3.ts"]),
    ("names that return", [of(0, "0", "1", "2"), of(2, "2", "0", "1"), of(5, "2", "0", "1", end=True)],
     ["0", "1", "2", "0", "1", "2", "0", "1"]),
    ("all names return", [of(0, "0", "1", "2"), of(3, "0", "1", "2", end=True)], ["0", "1", "2", "0", "1", "2"]),
    ("one repeated segment", [of(0, "x", "x"), of(1, "x", "x"), of(3, "x", "x", end=True)], ["x"] * 5),
    ("another URL for one segment", [of(0, *A[:3]), of(1, A[1], "other.ts", A[3], end=True)], list(A[:4])),
    ("contiguous", [of(0, *A[:2]), of(2, *A[2:4], end=True)], list(A[:4])),
]  # fmt: skip
FOLLOWED = ANEW + OLD + UNNUMBERED + FALSE + TRUE


@pytest.mark.parametrize(("versions", "expected"), [row[1:] for row in FOLLOWED], ids=[row[0] for row in FOLLOWED])
async def test_every_segment_is_read_once_even_if_the_playlist_has_wrong_media_sequence_numbers(
    versions: list[HlsManifest | UpstreamFailed], expected: list[str]
) -> None:
    assert await followed(*versions) == expected


@pytest.mark.parametrize(
    "versions",
    [
        [of(None, *A[:2]), of(None, *B, end=True)],
        [of(None, *A[:3]), of(None, *A[4:], end=True)],
        [of(7, *A[:2]), of(10, *A[3:], end=True)],
        [of(0, *A[:2]), of(0, *A[3:], end=True)],
        [of(0, *A[:2]), of(0, *A[1:3]), of(0, *A[4:], end=True)],
        [of(0, A[0]), of(0, A[2], end=True)],
        [of(0, "0", "1", "2"), of(6, "0", "1", "2", end=True)],
        [of(7, *A[:2]), of(10, end=True)],
        [of(7, *A[:2]), of(9, end=False), of(10, A[4], end=True)],
    ],
    ids=[
        "nothing in common",
        "rolled away",
        "numbers are missing",
        "always 0",
        "always 0, later",
        "always 0, one segment",
        "names that return",
        "ended without segments",
        "empty before",
    ],
)
async def test_a_live_playlist_that_skips_unread_segments_raises_an_error(versions: list[HlsManifest]) -> None:
    with pytest.raises(UpstreamFailed, match=r"fell behind|none of the segments"):
        await followed(*versions)


@pytest.mark.parametrize(
    "last",
    [of(9, end=True), of(0, end=True), of(None, end=True), of(8, end=True), of(9, A[2], end=True)],
    ids=["the next number", "0", "no number", "an earlier number", "a last segment"],
)
async def test_a_live_playlist_that_ends_without_new_segments_ends_the_stream_at_once(last: HlsManifest) -> None:
    listed = [A[2]] if last.count else []
    assert await followed(of(7, *A[:2]), last) == [*A[:2], *listed]


async def test_a_playlist_that_has_ended_need_not_be_loaded_again_after_its_last_segment() -> None:
    async def load(*, renews: bool = True) -> HlsManifest:
        raise UpstreamFailed("gone")

    cursor = LiveCursor(of(7, *A[:2], end=True), load, patience=0.0, start=0.0)
    first = await cursor.next()
    last = await cursor.next()
    assert first is not None
    assert last is not None
    with pytest.raises(UpstreamFailed):  # the media server refuses the last segment, so the playlist is loaded again
        await cursor.again(last)
    assert await cursor.next() is None


MAP_A, MAP_B = '#EXT-X-MAP:URI="a.mp4"', '#EXT-X-MAP:URI="b.mp4"'


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([of(0, MAP_A, *A[:2]), of(1, MAP_A, *A[1:3], MAP_B, *B[:1]), of(2, MAP_A, A[2], MAP_B, *B[:2], end=True)],
         ["a.mp4", *A[:3], "b.mp4", *B[:2]]),
        ([of(0, MAP_A, *A[:2]), of(2, MAP_B, *B[:2]), of(2, MAP_B, *B[:2], MAP_A, A[2], end=True)],
         ["a.mp4", *A[:2], "b.mp4", *B[:2], "a.mp4", A[2]]),
        ([of(0, MAP_A, *A[:2]), of(1, MAP_A.replace(".mp4", ".mp4?t=2"), *A[1:3], end=True)], ["a.mp4", *A[:3]]),
        ([of(5, MAP_A, *A[:2]), of(0, MAP_A, *B[:2], end=True)], ["a.mp4", *A[:2], "a.mp4", *B[:2]]),
    ],
    ids=["an advert at the end", "there and back", "a fresh token", "anew"],
)  # fmt: skip
async def test_a_new_initialization_section_is_read_before_its_first_segment(
    versions: list[HlsManifest], expected: list[str]
) -> None:
    assert await followed(*versions) == expected


async def test_an_unread_gap_segment_that_leaves_the_playlist_raises_no_error() -> None:
    gap = "#EXT-X-GAP"
    assert await followed(of(0, *A[:2]), of(1, A[1], gap, A[2]), of(3, A[3], end=True)) == list(A[:4])


async def test_a_live_playlist_that_cannot_be_loaded_is_requested_again_until_the_time_limit() -> None:
    loads = 0

    async def load(*, renews: bool = True) -> HlsManifest:
        nonlocal loads
        loads += 1
        raise UpstreamFailed("gone")

    cursor = LiveCursor(of(0, *A[:1]), load, patience=1.5)
    assert await cursor.next() is not None
    with pytest.raises(UpstreamFailed, match="gone"):
        await cursor.next()
    assert 2 < loads < 8


def test_a_playlist_without_a_target_duration_is_loaded_at_most_once_a_second_while_it_does_not_change() -> None:
    """Such a playlist is loaded more often only while each load returns new segments."""
    now = 0.0
    reloads = Reloads(lambda: now)

    def waits(count: int, *, has_changed: bool) -> list[float]:
        nonlocal now
        found = []
        for _ in range(count):
            reloads.loaded(of(0, *A), has_changed=has_changed)
            found.append(reloads.wait_seconds())
            now += found[-1]
        return found

    assert waits(4, has_changed=False) == pytest.approx([0.4, 0.8, 1.0, 1.0])
    assert waits(4, has_changed=True) == pytest.approx([0.5, 0.25, 0.2, 0.2])


@pytest.mark.parametrize(
    ("declared", "seconds", "target"),
    [(6.0, 2, 6.0), (None, 3, 3.0), (None, 0, 6.0), (0.0, 2, 0.2), (1e9, 2, 60.0), (0.5, 2, 0.5)],
)
def test_the_target_duration_is_that_of_the_playlist_or_else_of_its_longest_segment(
    declared: float | None, seconds: int, target: float
) -> None:
    reloads = Reloads(lambda: 0.0)
    reloads.loaded(replace(of(0, "a.ts", seconds=seconds), target_seconds=declared), has_changed=True)
    assert reloads.target_seconds == target
    assert reloads.wait_seconds() == pytest.approx(max(target, 0.2))


def test_a_failed_load_of_a_playlist_is_repeated_soon_but_the_page_is_extracted_again_only_rarely() -> None:
    reloads, renewals, waits = Reloads(lambda: 0.0), [], []
    for number in range(12):
        renewals += [number] if reloads.may_renew else []
        reloads.failed()
        waits.append(reloads.wait_seconds())
    assert renewals == [1, 9]
    assert waits[:5] == pytest.approx([0.4, 0.8, 1.6, 3.0, 3.0])


# Live streams from the real server


@pytest.mark.parametrize("kind", ["ts", "fmp4", "aes"])
def test_the_server_streams_a_live_broadcast_to_its_end(server: Server, site: SampleSite, kind: str) -> None:
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
def test_the_server_streams_a_live_broadcast_from_the_requested_start(
    server: Server, site: SampleSite, start: int, first: int
) -> None:
    page = f"/tube/live/clock=request,target=0,window=8,ends=10,quality=low,id=start{start}"
    answer = server.get(page, start=start)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == b"".join(site.path(f"hls/ts/low-{number % 5}.ts").read_bytes() for number in range(first, 10))


@pytest.mark.parametrize("asked", [{"start": 0, "method": "embedded"}, {"start": "nan"}, {"end": 5}], ids=str)
def test_the_server_refuses_an_unsupported_start_or_end_parameter_for_a_live_broadcast(
    server: Server, asked: dict[str, Any]
) -> None:
    answer = server.get("/tube/live/clock=step,ends=3,quality=low,id=uncut", **asked)
    assert (answer.status, answer.code) == (400, "invalid_parameter")
