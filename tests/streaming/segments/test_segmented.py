"""Tests of segments from a real media server that the relay streams as one file. The reader gets every byte once and in
order, or an error."""

from __future__ import annotations

import asyncio
import itertools
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import pad

from serverpy.errors import (
    Busy,
    DrmProtected,
    NotMedia,
    RangeNotSatisfiable,
    ServerPYError,
    TargetForbidden,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.extraction.values import AesKey, Cookie, Fragment, Track
from serverpy.net.client import Client
from serverpy.net.connection import SMALL_STEP
from serverpy.ranges import ByteRange
from serverpy.tasks import cancel, spawn
from tests.aio import run
from tests.streaming.segments.relaying import Page, client_for, drain_into, drained, hls, opened, stream
from tests.streaming.segments.shelf import Shelf, Tokens, in_turn

pytestmark = pytest.mark.usefixtures("short_back_off")

KEY = b"0123456789abcdef"
PIECES = [b"\x47" + random.Random(seed).randbytes(size) for seed, size in enumerate((70_000, 40_000, 333, 90_000))]
FILE = b"".join(PIECES)
PLAYLIST = "\n".join(f"#EXTINF:4,\n{number}.ts" for number in range(len(PIECES)))


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf({f"/{number}.ts": piece for number, piece in enumerate(PIECES)}) as shelf:
        yield shelf


def encrypted(plain: bytes, iv: int, key: bytes = KEY) -> bytes:
    return AES.new(key, AES.MODE_CBC, iv.to_bytes(16, "big")).encrypt(pad(plain, 16))


def encrypt(shelf: Shelf, first: int = 0) -> None:
    for number, piece in enumerate(PIECES):
        shelf.files[f"/{number}.ts"] = encrypted(piece, first + number)
    shelf.files["/key"] = KEY


# Ranges of one file


def ranges_of_one_file(shelf: Shelf, versions: list[dict[str, str]], *, ends: bool = True) -> Track:
    """Return a track whose segments are ranges of one file. Each response with a range of the file has the next header
    fields in `versions`. Once the last of these has been used, all further responses have it too."""
    asked = iter([*versions, *[versions[-1]] * 100])

    def file() -> bytes:
        shelf.headers["/all.ts"] = next(asked)
        return FILE

    shelf.files["/all.ts"] = file
    lines = [line for piece in PIECES for line in ("#EXTINF:1,", f"#EXT-X-BYTERANGE:{len(piece)}", "all.ts")]
    return hls(shelf, "\n".join(["#EXT-X-TARGETDURATION:1", *lines]))


V1 = {"ETag": '"1"', "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
V2 = {"ETag": '"2"', "Last-Modified": "Tue, 03 Nov 2026 10:00:00 GMT"}


@pytest.mark.parametrize(
    "changed",
    [
        {**V1, "ETag": '"2"'},
        {"ETag": 'W/"2"'},
        {**V1, "Last-Modified": V2["Last-Modified"]},
        {"Content-Range": "bytes {span}/999999"},
    ],
    ids=["ETag", "weak ETag without a date", "date", "total"],
)
def test_ranges_of_two_versions_of_a_file_are_not_joined(shelf: Shelf, changed: dict[str, str]) -> None:
    first = len(PIECES[0])
    span = f"{first}-{first + len(PIECES[1]) - 1}"
    changed = {name: value.replace("{span}", span) for name, value in changed.items()}
    given = bytearray()

    async def read() -> None:
        async with client_for(shelf) as client:
            track = ranges_of_one_file(shelf, [V1, changed])
            await drain_into(given, await opened(client, Page(lambda _visit: track)))

    with pytest.raises(UpstreamFailed):
        run(read)
    assert bytes(given) == PIECES[0]


@pytest.mark.parametrize(
    "versions",
    [
        [V1, V2, V1],
        [V1, {**V1, "ETag": 'W/"2"'}],
        [V1, {}],
        [{}, V1],
        [V1, {**V1, "Last-Modified": "2 Nov 2026 10:00"}],
    ],
    ids=["another version once", "weak", "without", "only later", "another date format"],
)
def test_ranges_of_one_version_of_a_file_are_joined(shelf: Shelf, versions: list[dict[str, str]]) -> None:
    assert stream(shelf, ranges_of_one_file(shelf, versions))[1] == FILE


def test_after_the_url_of_a_file_was_renewed_its_ranges_may_have_a_different_etag(shelf: Shelf) -> None:
    shelf.refuse = Tokens(good_for=1)
    shelf.headers["/all.ts"] = V1
    shelf.files["/all.ts"] = FILE

    def track(visit: int) -> Track:
        shelf.headers["/all.ts"] = {**V1, "ETag": f'"{visit}"'}
        lines = [line for piece in PIECES for line in (f"#EXT-X-BYTERANGE:{len(piece)}", f"all.ts?{visit}")]
        return hls(shelf, manifest_data="\n".join(["#EXTM3U", *lines, "#EXT-X-ENDLIST"]))

    assert stream(shelf, Page(track))[1] == FILE


# Reading segments


def test_all_segments_are_streamed_as_one_file_over_one_connection(shelf: Shelf) -> None:
    head, data = stream(shelf, hls(shelf, PLAYLIST))
    assert data == FILE
    assert (head.length, head.seekable, head.partial) == (None, False, False)
    assert shelf.connections == 1
    assert shelf.targets() == ["/high.m3u8", "/0.ts", "/1.ts", "/2.ts", "/3.ts"]


async def test_a_read_takes_no_more_bytes_from_the_socket_than_its_caller_requests(shelf: Shelf) -> None:
    """A chunk may be larger than requested only by the rest of a cipher block. The first chunk of a segment may also be
    larger, because it arrives together with the response head."""
    encrypt(shelf)
    async with client_for(shelf) as client:
        track = hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="/key"\n{PLAYLIST}')
        body = await opened(client, Page(lambda _: track))
        chunks = []
        while chunk := await body.read(5000):
            chunks.append(chunk)
        await body.aclose()
        assert b"".join(chunks) == FILE
        assert max(map(len, chunks)) <= SMALL_STEP
        assert sum(len(chunk) > 5000 + 16 for chunk in chunks) <= len(PIECES)


async def test_no_connection_is_left_if_opening_a_body_is_cancelled_or_fails(shelf: Shelf) -> None:
    async with client_for(shelf) as client:
        page = Page(lambda _: hls(shelf, PLAYLIST))
        for turns in range(200):
            opening = spawn(opened(client, page), name="open")
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancel(opening)
            if opening.cancelled():
                continue
            await opening.result().aclose()
            break
        with pytest.raises(ServerPYError):
            await opened(client, Page(lambda _: hls(shelf, "gone.ts")))


def test_segment_uris_are_relative_to_the_playlist_url_after_redirects(shelf: Shelf) -> None:
    shelf.redirects["/moved.m3u8"] = "/deep/down/high.m3u8"
    shelf.files |= {f"/deep/down/{number}.ts": piece for number, piece in enumerate(PIECES)}
    hls(shelf, PLAYLIST, path="/deep/down/high.m3u8")
    assert stream(shelf, hls(shelf, path="/moved.m3u8"))[1] == FILE


def test_a_playlist_that_the_extraction_contains_is_not_requested(shelf: Shelf) -> None:
    track = hls(shelf, manifest_data=f"#EXTM3U\n{PLAYLIST}\n#EXT-X-ENDLIST")
    assert stream(shelf, track)[1] == FILE
    assert shelf.targets("/high") == []


def test_the_best_variant_of_a_master_playlist_is_streamed(shelf: Shelf) -> None:
    hls(shelf, "0.ts", path="/low.m3u8")
    hls(shelf, PLAYLIST, path="/best.m3u8")
    variants = "#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nbest.m3u8"
    assert stream(shelf, hls(shelf, variants))[1] == FILE


def test_the_fragments_of_several_dash_periods_are_streamed_as_one_file(shelf: Shelf) -> None:
    track = Track(
        id="v",
        url=f"{shelf.url}/film.mpd",
        protocol="http_dash_segments",
        ext="mp4",
        fragments=tuple(Fragment(url=f"{shelf.url}/{number}.ts") for number in (0, 1, 0, 3)),
        segment_query="token=5",
    )
    assert stream(shelf, track)[1] == PIECES[0] + PIECES[1] + PIECES[0] + PIECES[3]
    assert set(shelf.targets()) == {f"/{number}.ts?token=5" for number in (0, 1, 3)}


def test_segments_that_are_marked_as_gaps_are_not_requested(shelf: Shelf) -> None:
    gaps = PLAYLIST.replace("2.ts", "2.ts\n#EXT-X-GAP\n#EXTINF:4,\ngone.ts")
    assert stream(shelf, hls(shelf, f"{gaps}\n#EXT-X-GAP\ngone.ts"))[1] == FILE
    assert shelf.targets("/gone") == []
    with pytest.raises(UpstreamFailed, match="empty"):
        stream(shelf, hls(shelf, "#EXT-X-GAP\ngone.ts"))


# Encryption


def test_segments_are_decrypted_and_their_key_is_requested_only_once(shelf: Shelf) -> None:
    encrypt(shelf, first=7)
    head = '#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-KEY:METHOD=AES-128,URI="/key"\n'
    assert stream(shelf, hls(shelf, head + PLAYLIST))[1] == FILE
    assert len(shelf.targets("/key")) == 1


def test_segments_may_have_different_keys_and_keys_may_be_data_urls(shelf: Shelf) -> None:
    encrypt(shelf)
    other = b"another key, yes"
    shelf.files["/1.ts"], shelf.files["/key2"] = encrypted(PIECES[1], 1, other), other
    shelf.files["/3.ts"] = PIECES[3]
    inline = "data:text/plain;base64,MDEyMzQ1Njc4OWFiY2RlZg=="
    keys = ["key", "key2", inline]
    tags = [f'#EXT-X-KEY:METHOD=AES-128,URI="{key}"\n{number}.ts' for number, key in enumerate(keys)]
    assert stream(shelf, hls(shelf, "\n".join([*tags, "#EXT-X-KEY:METHOD=NONE", "3.ts"])))[1] == FILE


def test_an_initialization_section_that_only_missing_segments_need_is_not_requested(shelf: Shelf) -> None:
    shelf.files["/init.mp4"] = INIT
    gap = '#EXT-X-MAP:URI="gone.mp4"\n#EXT-X-GAP\ngone.ts\n'
    assert stream(shelf, hls(shelf, f'{gap}#EXT-X-MAP:URI="init.mp4"\n{PLAYLIST}\n{gap}'))[1] == FILM
    assert shelf.targets("/gone") == []


def test_the_key_or_key_url_of_the_extraction_overrides_that_of_the_playlist(shelf: Shelf) -> None:
    encrypt(shelf)
    text = f'#EXT-X-KEY:METHOD=AES-128,URI="nowhere"\n{PLAYLIST}'
    assert stream(shelf, hls(shelf, text, aes=AesKey(key=KEY.hex())))[1] == FILE
    assert stream(shelf, hls(shelf, text, aes=AesKey(uri=f"{shelf.url}/key")))[1] == FILE


@pytest.mark.parametrize(
    ("key", "segment"),
    [
        (KEY[:15], encrypted(PIECES[0], 0)),
        (b"", encrypted(PIECES[0], 0)),
        (b"x" * 100_000, encrypted(PIECES[0], 0)),
        (b"a key of 16 byte", encrypted(PIECES[0], 0)),
        (KEY, encrypted(PIECES[0], 0)[:-1]),
        (KEY, encrypted(b"", 0)),
        (KEY, b""),
        (None, encrypted(PIECES[0], 0)),
    ],
)
def test_a_segment_that_cannot_be_decrypted_raises_an_error(shelf: Shelf, key: bytes | None, segment: bytes) -> None:
    shelf.files |= {"/0.ts": segment} | ({"/key": key} if key is not None else {})
    with pytest.raises((UpstreamFailed, NotMedia)):
        stream(shelf, hls(shelf, '#EXT-X-KEY:METHOD=AES-128,URI="key"\n0.ts'))


# Range requests for a segmented stream


INIT = b"\x47\x40\x00\x10" + bytes(8)
FILM = INIT + FILE


@pytest.fixture
def ranged(shelf: Shelf) -> Track:
    """Return a track whose segments are byte ranges of one file. The initialization section is at the end of the
    file."""
    shelf.files["/all.mp4"] = FILE + INIT
    shelf.headers["/all.mp4"] = {"ETag": '"all"'}
    lines = [f'#EXT-X-MAP:URI="all.mp4",BYTERANGE="{len(INIT)}@{len(FILE)}"', "#EXT-X-BYTERANGE:70001@0", "all.mp4"]
    lines += [line for piece in PIECES[1:] for line in (f"#EXT-X-BYTERANGE:{len(piece)}", "all.mp4")]
    return hls(shelf, "\n".join(lines))


def test_a_stream_has_a_known_length_if_all_of_its_segments_are_byte_ranges(shelf: Shelf, ranged: Track) -> None:
    head, data = stream(shelf, ranged)
    assert data == FILM
    assert (head.length, head.total, head.seekable, head.etag) == (len(data), len(data), True, None)


def test_any_range_of_a_stream_whose_segments_are_byte_ranges_can_be_requested(shelf: Shelf, ranged: Track) -> None:
    whole, dice = FILM, random.Random(5)
    for _ in range(15):
        first = dice.randrange(len(whole))
        last = dice.randrange(first, len(whole) + 5)
        head, data = stream(shelf, ranged, ByteRange(first, last))
        assert data == whole[first : last + 1]
        assert (head.start, head.length, head.total, head.partial) == (first, len(data), len(whole), True)
    assert stream(shelf, ranged, ByteRange(None, 1000))[1] == whole[-1000:]
    assert stream(shelf, ranged, ByteRange(70_013, None))[1] == whole[70_013:]


def test_a_range_request_reads_only_the_needed_bytes_from_the_media_server(shelf: Shelf, ranged: Track) -> None:
    """Besides the requested range, the relay requests only the first bytes of the file, which determine its
    Content-Type."""
    stream(shelf, ranged, ByteRange(100_012, 100_111))
    beginning = f"bytes={len(FILE)}-{len(FILE) + len(INIT) - 1}"
    assert [asked.headers["Range"] for asked in shelf.asked[1:]] == ["bytes=100000-100099", beginning]


def test_a_range_inside_a_segment_is_streamed_even_if_its_bytes_look_like_text(shelf: Shelf) -> None:
    """The requested range consists of MPEG-TS stuffing bytes (0xff)."""
    shelf.files["/0.ts"] = piece = PIECES[0] + b"\xff" * 400
    track = hls(shelf, f"#EXT-X-BYTERANGE:{len(piece)}@0\n0.ts")
    assert stream(shelf, track, ByteRange(len(piece) - 300, len(piece) - 201))[1] == b"\xff" * 100


def test_a_range_beyond_the_end_of_a_stream_raises_range_not_satisfiable_with_the_total_length(
    shelf: Shelf, ranged: Track
) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        stream(shelf, ranged, ByteRange(len(FILE) + 12, None))
    assert caught.value.size == len(FILE) + 12


async def test_a_range_request_with_an_unknown_validator_in_if_range_returns_the_whole_stream(
    shelf: Shelf, ranged: Track
) -> None:
    async with client_for(shelf) as client:
        body = await opened(client, Page(lambda _: ranged), ByteRange(5, 9), if_range='"x"')
        assert (body.head.partial, body.head.length) == (False, len(FILM))
        await body.aclose()


def test_a_range_request_for_segments_of_unknown_length_returns_the_whole_stream(shelf: Shelf) -> None:
    head, data = stream(shelf, hls(shelf, PLAYLIST), ByteRange(5, 9))
    assert (head.partial, data) == (False, FILE)


def test_a_stream_of_byte_ranges_is_read_from_a_media_server_that_ignores_ranges(shelf: Shelf, ranged: Track) -> None:
    shelf.knows_ranges = False
    assert stream(shelf, ranged)[1] == FILM
    assert stream(shelf, ranged, ByteRange(100_012, 150_111))[1] == FILM[100_012:150_112]


@pytest.mark.parametrize("length", [0, 100])
def test_a_stream_of_byte_ranges_raises_an_error_if_the_file_is_shorter_than_the_ranges(
    shelf: Shelf, ranged: Track, length: int
) -> None:
    shelf.files["/all.mp4"] = FILE[:length]
    with pytest.raises(UpstreamFailed):
        stream(shelf, ranged)


# Requests for playlists, segments and keys


def test_requests_carry_extraction_headers_and_only_the_cookies_that_match_their_url(shelf: Shelf) -> None:
    encrypt(shelf)
    track = hls(
        shelf,
        f'#EXT-X-KEY:METHOD=AES-128,URI="key"\n{PLAYLIST}',
        headers={"Referer": PAGE_ADDRESS},
        request_data="form=1",
    )
    cookies = (
        Cookie(name="a", value="1", domain="127.0.0.1"),
        Cookie(name="elsewhere", value="1", domain="example.org"),
        Cookie(name="k", value="2", domain="127.0.0.1", path="/key"),
    )
    assert stream(shelf, Page(lambda _: track, cookies))[1] == FILE
    assert {asked.headers["Referer"] for asked in shelf.asked} == {PAGE_ADDRESS}
    sent = {asked.target: set(asked.headers["Cookie"].split("; ")) for asked in shelf.asked}
    assert sent["/key"] == {"a=1", "k=2"}
    assert sent["/high.m3u8"] == sent["/0.ts"] == {"a=1"}
    posted = {asked.target for asked in shelf.asked if asked.verb == "POST"}
    assert posted == {f"/{number}.ts" for number in range(len(PIECES))}
    assert all(asked.body == b"form=1" for asked in shelf.asked if asked.verb == "POST")


PAGE_ADDRESS = "https://page.example/watch"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:1/0.ts",
        "http://169.254.169.254/0.ts",
        '#EXT-X-MAP:URI="http://10.0.0.1/init.mp4"\n0.ts',
        '#EXT-X-KEY:METHOD=AES-128,URI="http://[::1]/key"\n0.ts',
    ],
)
def test_the_guard_checks_the_urls_of_segments_and_keys_and_initialization_sections(shelf: Shelf, text: str) -> None:
    with pytest.raises(TargetForbidden):
        stream(shelf, hls(shelf, text))


# Resuming segments after a failure


@pytest.mark.parametrize("place", ["/0.ts", "/1.ts", "/3.ts", "/high.m3u8"])
def test_a_segment_whose_connection_is_aborted_is_resumed(shelf: Shelf, place: str) -> None:
    track = hls(shelf, PLAYLIST)
    shelf.cuts[place] = 40
    assert stream(shelf, track)[1] == FILE


def test_an_encrypted_segment_whose_connection_is_aborted_is_resumed(shelf: Shelf) -> None:
    encrypt(shelf)
    shelf.cuts["/0.ts"] = 30_001
    assert stream(shelf, hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="key"\n{PLAYLIST}'))[1] == FILE


@pytest.mark.parametrize("place", ["/2.ts", "/high.m3u8", "/key"])
def test_a_request_for_a_segment_or_playlist_or_key_that_the_media_server_temporarily_refuses_is_retried(
    shelf: Shelf, place: str
) -> None:
    encrypt(shelf)
    left = [503, 429]
    shelf.refuse = lambda target: left.pop() if target == place and left else None
    assert stream(shelf, hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="key"\n{PLAYLIST}'))[1] == FILE


def test_an_expired_segment_url_is_renewed_from_the_playlist(shelf: Shelf) -> None:
    """The playlist contains different segment URLs at each request."""
    readings = itertools.count(1)

    def playlist() -> bytes:
        return f"#EXTM3U\n{PLAYLIST}\n#EXT-X-ENDLIST".replace(".ts", f".ts?{next(readings)}").encode()

    shelf.files["/high.m3u8"] = playlist
    shelf.refuse = Tokens(good_for=2)
    page = Page(lambda _: hls(shelf))
    assert stream(shelf, page)[1] == FILE
    assert page.visits == 1
    assert len(shelf.targets("/high.m3u8")) == 2


def test_an_expired_playlist_url_is_renewed_by_a_new_extraction(shelf: Shelf) -> None:
    """The playlist URL is different at each extraction of the page, and the segment URLs contain the same token as the
    playlist URL."""

    def track(visit: int) -> Track:
        return hls(shelf, PLAYLIST.replace(".ts", f".ts?{visit}"), path=f"/{visit}.m3u8", query=f"?{visit}")

    shelf.refuse = Tokens(good_for=3)
    page = Page(track)
    assert stream(shelf, page)[1] == FILE
    assert page.visits == 2


@pytest.mark.parametrize("status", [403, 404, 410, 474])
@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_segment_url_that_expires_in_the_middle_is_renewed_by_a_new_extraction_if_the_playlist_still_lists_it(
    shelf: Shelf, number: int, status: int
) -> None:
    """The old playlist is still served after the segment URLs in it have expired."""
    page = Page(lambda visit: hls(shelf, PLAYLIST.replace(".ts", f".ts?{visit}"), path=f"/{visit}.m3u8"))
    place = f"/{number}.ts"
    shelf.cuts[place] = len(PIECES[number]) // 2
    shelf.refuse = lambda target: status if target == f"{place}?1" and len(shelf.targets(place)) > 1 else None
    assert stream(shelf, page)[1] == FILE
    assert page.visits == 2


def test_segments_of_a_renewed_playlist_get_the_segment_query_from_the_new_extraction(shelf: Shelf) -> None:
    page = Page(lambda visit: hls(shelf, PLAYLIST, path=f"/{visit}.m3u8", segment_query=f"token={visit}"))
    shelf.refuse = lambda target: 403 if target == "/1.m3u8" else None
    assert stream(shelf, page)[1] == FILE
    assert shelf.targets("/0.ts") == ["/0.ts?token=2"]


def test_expired_fragment_urls_are_renewed_by_a_new_extraction(shelf: Shelf) -> None:
    def track(visit: int) -> Track:
        fragments = tuple(Fragment(url=f"{shelf.url}/{n}.ts?{visit}") for n in range(len(PIECES)))
        url = f"{shelf.url}/film.mpd"
        return Track(id="v", url=url, protocol="http_dash_segments", ext="mp4", fragments=fragments)

    shelf.refuse = Tokens(good_for=3)
    page = Page(track)
    assert stream(shelf, page)[1] == FILE
    assert page.visits == 2


def test_a_renewed_playlist_whose_segments_differ_from_the_old_ones_raises_an_error(shelf: Shelf) -> None:
    page = Page(lambda visit: hls(shelf, PLAYLIST if visit == 1 else f"{PLAYLIST}\nmore.ts", path=f"/{visit}.m3u8"))
    shelf.refuse = lambda target: 403 if target in ("/2.ts", "/1.m3u8") and shelf.targets("/2") else None
    with pytest.raises(UpstreamFailed, match="changed"):
        stream(shelf, page)


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("number", [0, 2])
async def test_a_segment_that_cannot_be_fetched_ends_the_stream_with_an_error(
    shelf: Shelf, number: int, status: int
) -> None:
    shelf.refuse = lambda target: status if target == f"/{number}.ts" else None
    page = Page(lambda _: hls(shelf, PLAYLIST))
    given = bytearray()
    async with client_for(shelf) as client:
        with pytest.raises(UpstreamFailed):
            await drain_into(given, await opened(client, page))
    assert given == b"".join(PIECES[:number])
    assert len(shelf.targets(f"/{number}.ts")) <= 4


# Invalid playlists and segments


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", UpstreamFailed),
        ("#EXTM3U\n#EXT-X-ENDLIST", UpstreamFailed),
        ("<!DOCTYPE html><p>no", UpstreamFailed),
        ("\x00" * 5000, UpstreamFailed),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhigh.m3u8", UpstreamFailed),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1", UpstreamFailed),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nnowhere.m3u8", UpstreamFailed),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"\n0.ts', DrmProtected),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="key"\n0.ts', DrmProtected),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-256,URI="key"\n0.ts', UnsupportedConversion),
        ('#EXTM3U\n#EXT-X-MAP:URI="nowhere.mp4"\n0.ts\n#EXT-X-ENDLIST', UpstreamFailed),
        ("#EXTM3U\nempty.ts\nempty.ts\n#EXT-X-ENDLIST", UpstreamFailed),
        (
            '#EXTM3U\n#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI="skd://x"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8',
            DrmProtected,
        ),
        ("#EXTM3U\npage.html\n#EXT-X-ENDLIST", NotMedia),
    ],
)
def test_an_invalid_playlist_raises_an_error(shelf: Shelf, text: str, error: type[ServerPYError]) -> None:
    shelf.files |= {"/high.m3u8": text.encode(), "/empty.ts": b"", "/page.html": b"<p>not media</p>"}
    with pytest.raises(error):
        stream(shelf, hls(shelf))


PAGE_BYTES = b"<!DOCTYPE html>" + b"<p>Come back later.</p>" * 10
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + b"\xff\x00" * 20
WRONG = {
    "a page": PAGE_BYTES,
    "JSON": b'{"error":"gone"}',
    "a word": b"Gone",
    "an image": GIF,
    "noise": b"\x05\x1e\xf0\x80" * 500,
    "a page in UTF-16": PAGE_BYTES.decode().encode("utf-16"),
    "MP4": b"\x00\x00\x00\x18ftypisom" + bytes(500),
    "nothing": b"",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("number", [1, 3])
def test_a_wrong_response_in_place_of_a_segment_is_not_sent_to_the_client_if_the_next_one_is_right(
    shelf: Shelf, number: int, wrong: bytes
) -> None:
    answers = [wrong]
    shelf.files[f"/{number}.ts"] = lambda: answers.pop() if answers else PIECES[number]
    assert stream(shelf, hls(shelf, PLAYLIST))[1] == FILE


ODD_STATUSES = (202, 204, 205, 300, 304, 400, 403, 404, 410, 412, 429, 451, 474, 500, 501, 505, 507, 509, 511)


@pytest.mark.parametrize("status", [*ODD_STATUSES, 520, 521, 522, 524, 530, 599])
def test_a_segment_that_the_media_server_refuses_once_is_requested_again(shelf: Shelf, status: int) -> None:
    left = [status]
    shelf.refuse = lambda target: left.pop() if target == "/2.ts" and left else None
    page = Page(lambda _: hls(shelf, PLAYLIST))
    assert stream(shelf, page)[1] == FILE
    assert page.visits == 1


@pytest.mark.parametrize("wrong", [each for each in WRONG if each != "nothing"])
async def test_repeated_wrong_responses_in_place_of_a_segment_end_the_stream_with_an_error(
    shelf: Shelf, wrong: str
) -> None:
    shelf.files["/1.ts"] = WRONG[wrong]
    given = bytearray()
    async with client_for(shelf) as client:
        with pytest.raises((UpstreamFailed, NotMedia)):
            await drain_into(given, await opened(client, Page(lambda _: hls(shelf, PLAYLIST))))
    assert given == PIECES[0]
    assert len(shelf.targets("/1.ts")) == 4


def test_a_web_page_in_place_of_an_encrypted_segment_is_not_sent_to_the_client(shelf: Shelf) -> None:
    encrypt(shelf)
    answers = [PAGE_BYTES + b" " * 5, PAGE_BYTES * 99]
    shelf.files["/0.ts"] = lambda: answers.pop() if len(answers) > 1 else encrypted(PIECES[0], 0)
    shelf.files["/2.ts"] = lambda: answers.pop() if answers else encrypted(PIECES[2], 2)
    assert stream(shelf, hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="/key"\n{PLAYLIST}'))[1] == FILE


@pytest.mark.parametrize("wrong", [b"", PAGE_BYTES, b"a wrong key here", b"short"])
def test_a_wrong_response_in_place_of_a_key_is_not_used_for_decryption_if_the_next_one_is_right(
    shelf: Shelf, wrong: bytes
) -> None:
    encrypt(shelf)
    answers = [wrong]
    shelf.files["/key"] = lambda: answers.pop() if answers else KEY
    assert stream(shelf, hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="/key"\n{PLAYLIST}'))[1] == FILE


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_segment_is_skipped_if_its_response_is_empty_twice(shelf: Shelf, number: int) -> None:
    shelf.files[f"/{number}.ts"] = b""
    assert stream(shelf, hls(shelf, PLAYLIST))[1] == b"".join(PIECES[:number] + PIECES[number + 1 :])
    assert len(shelf.targets(f"/{number}.ts")) == 2


FAULTS: dict[str, bytes | int] = {"page": b"<!DOCTYPE html>" * 99, "empty": b"", "refused": 404, "unavailable": 503}


@pytest.mark.parametrize(
    "faults", [["page", "empty"], ["refused", "empty"], ["empty", "page", "refused"], ["unavailable", "empty", "page"]]
)
@pytest.mark.parametrize("number", [0, 2])
def test_a_segment_is_not_skipped_if_only_one_of_several_wrong_responses_is_empty(
    shelf: Shelf, number: int, faults: list[str]
) -> None:
    left = [FAULTS[name] for name in faults]
    segment = shelf.files[f"/{number}.ts"]

    def refuse(target: str) -> int | None:
        is_refused = target == f"/{number}.ts" and left and isinstance(left[0], int)
        return left.pop(0) if is_refused else None  # type: ignore[return-value]  # mypy does not narrow a list item

    shelf.refuse = refuse
    shelf.files[f"/{number}.ts"] = lambda: left.pop(0) if left else segment  # type: ignore[assignment,return-value]
    assert stream(shelf, hls(shelf, PLAYLIST))[1] == FILE
    assert left == []


@pytest.mark.parametrize("path", ["/0.ts", "/2.ts"])
def test_a_segment_is_requested_again_if_its_response_is_a_range_that_was_not_requested(
    shelf: Shelf, path: str
) -> None:
    wrong = [206, 206]
    shelf.refuse = lambda target: wrong.pop() if wrong and target == path else None
    assert stream(shelf, hls(shelf, PLAYLIST))[1] == FILE
    assert not wrong


class Once(dict[str, str]):
    """A dictionary whose entries can be read only once."""

    def __getitem__(self, key: str) -> str:
        return self.pop(key)


@pytest.mark.parametrize("path", ["/0.ts", "/2.ts"])
@pytest.mark.parametrize("to", ["", "ftp://127.0.0.1/0.ts"])
def test_a_segment_is_requested_again_if_a_redirect_leads_to_itself_or_to_no_http_url(
    shelf: Shelf, path: str, to: str
) -> None:
    shelf.redirects = Once({path: to or path})
    assert stream(shelf, hls(shelf, PLAYLIST))[1] == FILE
    assert not shelf.redirects


@pytest.mark.parametrize("wrong", [b"", b"<html>busy</html>", b'{"error":"expired"}', bytes(40)])
@pytest.mark.parametrize("path", ["/key", "/0.ts", "/2.ts"])
def test_a_short_wrong_response_in_place_of_an_encrypted_segment_and_its_key_is_not_sent_to_the_client(
    shelf: Shelf, path: str, wrong: bytes
) -> None:
    encrypt(shelf)
    for name in {"/key", path}:
        shelf.files[name] = in_turn(wrong, shelf.data(name))
    assert stream(shelf, hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="/key"\n{PLAYLIST}'))[1] == FILE


def test_an_encrypted_segment_is_skipped_if_its_response_is_empty_twice(shelf: Shelf) -> None:
    encrypt(shelf)
    shelf.files |= {"/1.ts": b"", "/2.ts": encrypted(b"", 2)}
    assert stream(shelf, hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="/key"\n{PLAYLIST}'))[1] == PIECES[0] + PIECES[3]


def test_no_segment_is_skipped_if_the_playlist_cannot_be_loaded_again(shelf: Shelf) -> None:
    """The media server refuses a request for the third segment, and then also the request for the playlist that would
    renew the segment's URL."""
    left = [404, 404]
    shelf.refuse = lambda target: left.pop() if left and shelf.targets("/2") and target != "/0.ts" else None
    assert stream(shelf, hls(shelf, PLAYLIST))[1] == FILE


def init_of(*entries: bytes, mark: bytes = b"") -> bytes:
    """Return an initialization section that has one track for each of the given sample entries."""

    def box(kind: bytes, *content: bytes) -> bytes:
        data = b"".join(content)
        return (8 + len(data)).to_bytes(4, "big") + kind + data

    tracks = [
        box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", box(b"stsd", bytes(7), b"\x01", box(each, bytes(70)))))))
        for each in entries
    ]
    return box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", bytes(100)), *tracks) + box(b"free", mark)


FRAGMENT = b"\x00\x00\x02\x58moof" + bytes(592)
MAPS = '#EXT-X-MAP:URI="a.mp4"\n0.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="b.mp4"\n1.m4s'


@pytest.mark.parametrize(
    "second",
    [init_of(b"avc1", b"mp4a"), init_of(b"avc1", b"mp4a", mark=b"other"), init_of(b"mp4a", b"avc1"), init_of()],
    ids=["the same bytes", "other bytes", "another order", "no tracks"],
)
def test_a_new_initialization_section_is_sent_before_its_segments(shelf: Shelf, second: bytes) -> None:
    first = init_of(b"avc1", b"mp4a")
    shelf.files |= {"/a.mp4": first, "/b.mp4": second, "/0.m4s": FRAGMENT + b"0", "/1.m4s": FRAGMENT + b"1"}
    assert stream(shelf, hls(shelf, MAPS))[1] == first + FRAGMENT + b"0" + second + FRAGMENT + b"1"


@pytest.mark.parametrize("entries", [(b"hvc1", b"mp4a"), (b"avc1", b"ec-3"), (b"avc1",)])
async def test_a_new_initialization_section_with_other_codecs_ends_the_stream_with_an_error(
    shelf: Shelf, entries: tuple[bytes, ...]
) -> None:
    first = init_of(b"avc1", b"mp4a")
    shelf.files |= {"/a.mp4": first, "/b.mp4": init_of(*entries), "/0.m4s": FRAGMENT, "/1.m4s": FRAGMENT}
    given = bytearray()
    async with client_for(shelf) as client:
        with pytest.raises(UpstreamFailed, match="codecs"):
            await drain_into(given, await opened(client, Page(lambda _: hls(shelf, MAPS))))
    assert given == first + FRAGMENT
    assert len(shelf.targets("/b.mp4")) == 1


# Truncated playlists, and files that are shorter than the playlist states


VOD = f"#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-PLAYLIST-TYPE:VOD\n{PLAYLIST}\n"


def unframed(shelf: Shelf, playlist: str) -> Track:
    """Return a track whose playlist has no Content-Length, so that the response ends when its connection closes."""
    shelf.files["/high.m3u8"] = playlist.encode()
    shelf.headers["/high.m3u8"] = {"Content-Length": "", "Connection": "close"}
    return hls(shelf)


def test_a_vod_playlist_without_an_end_tag_is_complete_if_its_response_has_a_content_length(shelf: Shelf) -> None:
    shelf.files["/high.m3u8"] = VOD.encode()
    assert stream(shelf, hls(shelf))[1] == FILE


def test_a_playlist_with_an_end_tag_is_complete_even_if_its_response_has_no_content_length(shelf: Shelf) -> None:
    assert stream(shelf, unframed(shelf, f"{VOD}#EXT-X-ENDLIST"))[1] == FILE


@pytest.mark.parametrize("lines", [5, 8, None])
async def test_a_vod_playlist_with_neither_end_tag_nor_content_length_times_out(
    shelf: Shelf, lines: int | None
) -> None:
    track = unframed(shelf, "\n".join(VOD.splitlines()[:lines]) + "\n")
    given = bytearray()
    async with client_for(shelf, stall_timeout=1.0) as client:
        with pytest.raises(UpstreamTimeout):
            await drain_into(given, await opened(client, Page(lambda _: track)))
    assert FILE.startswith(given)


def test_a_vod_playlist_that_was_truncated_is_loaded_again_and_read_to_its_end(shelf: Shelf) -> None:
    """The playlist is truncated inside the URI of the second segment."""
    cut = VOD[: VOD.index("1.ts") + 1]
    answers = [cut]
    track = unframed(shelf, "")
    shelf.files["/high.m3u8"] = lambda: (answers.pop() if answers else f"{VOD}#EXT-X-ENDLIST").encode()
    assert stream(shelf, track)[1] == FILE


def spans(shelf: Shelf) -> Track:
    """Return a DASH track whose segments are byte ranges of one file."""
    ends = [*itertools.accumulate(map(len, PIECES))]
    fragments = tuple(
        Fragment(url=f"{shelf.url}/all.mp4", first=end - len(piece), end=end)
        for piece, end in zip(PIECES, ends, strict=True)
    )
    return Track(id="v", url=shelf.url, protocol="http_dash_segments", ext="mp4", fragments=fragments)


@pytest.mark.parametrize("is_dash", [False, True])
@pytest.mark.parametrize("beyond", [1, 500])
@pytest.mark.parametrize("asked", [None, ByteRange(0, None), ByteRange(100_005, None), ByteRange(None, 700)])
def test_if_the_last_byte_range_goes_beyond_the_end_of_the_file_it_is_read_up_to_the_end_of_the_file(
    shelf: Shelf, ranged: Track, beyond: int, asked: ByteRange | None, *, is_dash: bool
) -> None:
    file = FILE[:-beyond]
    shelf.files["/all.mp4"] = file
    lines = [line for piece in PIECES for line in (f"#EXT-X-BYTERANGE:{len(piece)}", "all.mp4")]
    head, data = stream(shelf, spans(shelf) if is_dash else hls(shelf, "\n".join(lines)), asked)
    first = 0 if asked is None else asked.first if asked.first is not None else len(file) - 700
    assert data == file[first:]
    assert (head.length, head.total) == (len(data), len(file))


HOSTILE = {
    "a million tags": lambda: b"#EXTM3U\n" + b"#EXT-X-DISCONTINUITY\n" * 1_000_000,
    "an endless line": lambda: b"#EXTM3U\n#" + b"x" * 8_000_000,
    "nothing but newlines": lambda: b"#EXTM3U\n" + b"\n" * 20_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_playlist_is_refused_and_takes_limited_memory(shelf: Shelf, name: str) -> None:
    shelf.files["/high.m3u8"] = HOSTILE[name]()

    # the stall timeout is long, because tracemalloc slows the test down
    async with client_for(shelf, stall_timeout=60.0) as client:
        tracemalloc.start()
        try:
            with pytest.raises((TooLarge, UpstreamFailed)):
                await opened(client, Page(lambda _: hls(shelf)), room=_Room(1 << 20))
            assert tracemalloc.get_traced_memory()[1] < 1_500_000
        finally:
            tracemalloc.stop()


# Memory charged for playlists


class _Room:
    """A fake lender of memory that has `free` bytes left. `grown` is the number of bytes that it has lent."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.grown = 0

    def try_grow(self, nbytes: int) -> bool:
        if nbytes > self.free:
            return False
        self.free -= nbytes
        self.grown += nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        self.grown -= nbytes


def long_playlist() -> str:
    dice = random.Random(1)
    return "\n".join(f"0.ts?{dice.randbytes(40).hex()}" for _ in range(5000))


async def test_the_memory_of_a_long_playlist_is_charged_to_the_lender_of_its_room(shelf: Shelf) -> None:
    room = _Room(10 << 20)
    async with client_for(shelf) as client:
        body = await opened(client, Page(lambda _: hls(shelf, long_playlist())), room=room)
        assert 200_000 < room.grown < 500_000
        await body.aclose()
        assert room.grown == 0


def test_a_long_playlist_raises_busy_if_the_lender_has_too_few_bytes(shelf: Shelf) -> None:
    with pytest.raises(Busy):
        stream(shelf, hls(shelf, long_playlist()), room=_Room(100_000))


# Readers that leave


async def test_no_connection_stays_open_at_whatever_moment_a_reader_leaves(shelf: Shelf) -> None:
    """The test cancels the reader after different numbers of iterations of the event loop."""
    encrypt(shelf)
    track = hls(shelf, f'#EXT-X-KEY:METHOD=AES-128,URI="key"\n{PLAYLIST}')

    async def whole(client: Client) -> bytes:
        return await drained(await opened(client, Page(lambda _: track)))

    async with client_for(shelf) as client:
        for turns in range(0, 120, 3):
            task = spawn(whole(client), name="reader")
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            await cancel(task)
            assert client.open_connections == 0
            assert task.cancelled() or task.result() == FILE
