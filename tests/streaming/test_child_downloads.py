"""Tests of the bytes that real yt-dlp children of the method `subprocess` take from odd HLS playlists, DASH manifests
and media servers. A child uses the same downloaders as the method `embedded`, whose tests
(`tests/ytdlp/test_download.py`) have more cases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from serverpy.body import Source
from serverpy.errors import NotMedia, ServerPYError, UnsupportedConversion, UpstreamFailed
from serverpy.options import Identity
from serverpy.sample.cut import aes_128
from serverpy.sample.site import SampleSite
from tests.net.reading import Ask, Reply, part, serving, whole
from tests.opening import opened, rest_of
from tests.streaming.segments.shelf import Shelf, in_turn
from tests.streaming.test_subprocess import running
from tests.ytdlp.test_download import IMAGE, PAGE, playlist_of

HLS, DASH = {"Content-Type": "application/vnd.apple.mpegurl"}, {"Content-Type": "application/dash+xml"}
END = "#EXT-X-ENDLIST"
KEY, MAP = '#EXT-X-KEY:METHOD=AES-128,URI="aes/low.key"', '#EXT-X-MAP:URI="fmp4/low-init.mp4"'
MANIFEST = (
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"><Period>'
    '<AdaptationSet contentType="video"><Representation id="v" mimeType="video/mp4" bandwidth="1000">{}'
    "</Representation></AdaptationSet></Period></MPD>"
)
OTHER_KEY = '#EXT-X-KEY:METHOD=AES-128,URI="aes/high.key",KEYFORMAT="com.example"'


@pytest.fixture
def shelf(site: SampleSite) -> Iterator[Shelf]:
    """Run a media server with the HLS files of the sample site, and responses that are not media."""
    names = [f"{kind}/low-{number}.ts" for kind in ("ts", "aes") for number in range(3)]
    names += ["aes/low.key", "aes/high.key", "fmp4/low-init.mp4", *(f"fmp4/low-{number}.m4s" for number in range(3))]
    files = {f"/{name}": site.path(f"hls/{name}").read_bytes() for name in names}
    for number in range(3):  # a segment whose IV is its media sequence number
        plain, iv = files[f"/fmp4/low-{number}.m4s"], (7 + number).to_bytes(16, "big")
        files[f"/secret-{number}.m4s"] = aes_128(plain, files["/aes/low.key"], iv)
    with Shelf({**files, "/page": PAGE, "/json": b'{"error":"expired"}', "/image": IMAGE}) as shelf:
        yield shelf


async def streamed(shelf: Shelf, path: str, selector: str | None = None) -> tuple[bytes, ServerPYError | None]:
    """Stream a format of the page `path` by a child. Returns the bytes, and the error that ended the stream, if any."""
    received = b""
    async with running() as method:
        try:
            body = await opened(method, Source(url=shelf.url + path, format=selector))
            try:
                while piece := await body.read():
                    received += piece
            finally:
                await body.aclose()
        except ServerPYError as error:
            return received, error
    return received, None


async def streamed_playlist(shelf: Shelf, *lines: str) -> tuple[bytes, ServerPYError | None]:
    """Stream a media playlist by a child. `lines` are those of `playlist_of`."""
    shelf.files["/list.m3u8"] = playlist_of(*lines).encode()
    shelf.headers["/list.m3u8"] = HLS
    return await streamed(shelf, "/list.m3u8")


@pytest.mark.parametrize(
    ("lines", "given", "kind"),
    [
        (("page", "ts/low-1.ts"), (), NotMedia),
        (("ts/low-0.ts", "page", "ts/low-1.ts"), ("ts/low-0.ts",), NotMedia),
        (("ts/low-0.ts", "json"), ("ts/low-0.ts",), NotMedia),
        (("ts/low-0.ts", "image", "ts/low-1.ts"), ("ts/low-0.ts",), UpstreamFailed),
        ((KEY, "page", "aes/low-1.ts"), (), NotMedia),
        ((KEY, "aes/low-0.ts", "page", "aes/low-2.ts"), ("ts/low-0.ts",), NotMedia),
        ((KEY, "aes/low-0.ts", "image"), ("ts/low-0.ts",), UpstreamFailed),
        (("ts/low-0.ts", "gone", "ts/low-1.ts"), ("ts/low-0.ts",), UpstreamFailed),
    ],
    ids=["first", "middle", "json", "image", "encrypted-first", "encrypted-middle", "encrypted-image", "missing"],
)
async def test_a_child_cuts_the_stream_before_a_response_that_is_not_a_segment(
    shelf: Shelf, lines: tuple[str, ...], given: tuple[str, ...], kind: type[ServerPYError]
) -> None:
    received, error = await streamed_playlist(shelf, *lines, END)
    assert isinstance(error, kind)
    assert received == shelf.data(*(f"/{name}" for name in given))


async def test_a_child_requests_a_segment_again_after_a_web_page(shelf: Shelf) -> None:
    right = shelf.data("/ts/low-1.ts")
    shelf.files["/flaky.ts"] = in_turn(PAGE, right)
    received, error = await streamed_playlist(shelf, "ts/low-0.ts", "flaky.ts", END)
    assert error is None
    assert received == shelf.data("/ts/low-0.ts") + right


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ((KEY, "aes/low-0.ts", "#ANVATO-SEGMENT-INFO: type=ad", "page", "#ANVATO-SEGMENT-INFO: type=master",
          "aes/low-2.ts"), ("ts/low-0.ts", "ts/low-2.ts")),
        ((KEY, "aes/low-0.ts", "#EXT-X-GAP", "gone", "aes/low-2.ts"), ("ts/low-0.ts", "ts/low-2.ts")),
        (("ts/low-0.ts", "#EXT-X-GAP", "page", "ts/low-1.ts"), ("ts/low-0.ts", "ts/low-1.ts")),
        ((MAP, KEY, "secret-0.m4s", "secret-1.m4s"), ("fmp4/low-init.mp4", "fmp4/low-0.m4s", "fmp4/low-1.m4s")),
        (("ts/low-0.ts", "ts/low-1.ts", END, "\0\0\0"), ("ts/low-0.ts", "ts/low-1.ts")),
    ],
    ids=["advert", "encrypted-gap", "gap", "map", "padding"],
)  # fmt: skip
async def test_a_child_streams_only_the_segments_of_a_playlist_each_decrypted_with_its_own_iv(
    shelf: Shelf, lines: tuple[str, ...], given: tuple[str, ...]
) -> None:
    """The playlist states no IV, so the IV of a segment is its media sequence number."""
    received, error = await streamed_playlist(shelf, *lines, END)
    assert error is None
    assert received == shelf.data(*(f"/{name}" for name in given))


@pytest.mark.parametrize("lines", [(KEY, OTHER_KEY, "aes/low-0.ts", END), (OTHER_KEY, KEY, "aes/low-0.ts", END)])
async def test_a_child_refuses_a_playlist_with_keys_of_several_key_formats(
    shelf: Shelf, lines: tuple[str, ...]
) -> None:
    received, error = await streamed_playlist(shelf, *lines)
    assert isinstance(error, UnsupportedConversion)
    assert "KEYFORMAT" in str(error)
    assert received == b""


async def test_a_child_refuses_a_playlist_that_has_not_ended(shelf: Shelf) -> None:
    received, error = await streamed_playlist(shelf, "ts/low-0.ts")
    assert isinstance(error, UnsupportedConversion)
    assert received == b""


async def test_a_child_prefers_the_audio_that_is_the_default_of_its_group(shelf: Shelf) -> None:
    audio = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{}",URI="{}.m3u8"{}'
    lines = [audio.format("main", "main", ",DEFAULT=YES"), audio.format("other", "other", "")]
    variant = '#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="avc1.42c014,mp4a.40.2",AUDIO="a"'
    shelf.files["/master.m3u8"] = "\n".join(["#EXTM3U", *lines, variant, "main.m3u8", ""]).encode()
    for number, name in enumerate(("main", "other")):
        segment = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nts/low-{number}.ts\n{END}\n"
        shelf.files[f"/{name}.m3u8"] = segment.encode()
    shelf.headers["/master.m3u8"] = HLS
    received, error = await streamed(shelf, "/master.m3u8", "ba")
    assert error is None
    assert received == shelf.data("/ts/low-0.ts")


async def test_a_child_requests_the_byte_ranges_of_a_dash_manifest(shelf: Shelf) -> None:
    init, first = shelf.data("/fmp4/low-init.mp4"), shelf.data("/fmp4/low-0.m4s")
    shelf.files["/one.mp4"] = init + b"between" + first
    begin = len(init) + 7
    shelf.files["/film.mpd"] = MANIFEST.format(
        f'<SegmentList duration="2"><Initialization sourceURL="one.mp4" range="0-{len(init) - 1}"/>'
        f'<SegmentURL media="one.mp4" mediaRange="{begin}-{begin + len(first) - 1}"/></SegmentList>'
    ).encode()
    shelf.headers["/film.mpd"] = DASH
    assert await streamed(shelf, "/film.mpd") == (init + first, None)


async def test_a_child_cuts_the_stream_before_a_web_page_in_place_of_a_dash_segment(shelf: Shelf) -> None:
    shelf.files["/film.mpd"] = MANIFEST.format(
        '<SegmentList duration="2"><Initialization sourceURL="fmp4/low-init.mp4"/><SegmentURL media="fmp4/low-0.m4s"/>'
        '<SegmentURL media="page"/></SegmentList>'
    ).encode()
    shelf.headers["/film.mpd"] = DASH
    received, error = await streamed(shelf, "/film.mpd")
    assert isinstance(error, NotMedia)
    assert received == shelf.data("/fmp4/low-init.mp4") + shelf.data("/fmp4/low-0.m4s")


async def test_a_child_never_continues_a_file_with_the_bytes_of_another_one(shelf: Shelf) -> None:
    film = b"\0\0\0\x18ftypisom" + bytes(2_000_000)
    turns = itertools.count()

    def answer() -> bytes:
        turn = next(turns)  # the first request is that of the extractor
        if turn == 1:
            shelf.cuts["/film.mp4"] = 1_000_000
        return film if turn < 2 else film + b"more"

    shelf.files["/film.mp4"] = answer
    received, error = await streamed(shelf, "/film.mp4")
    assert isinstance(error, UpstreamFailed)
    assert film.startswith(received)


@pytest.mark.parametrize("page", ["hls-byterange", "dash-ranges"])
async def test_a_child_streams_byte_ranges_with_impersonation(site: SampleSite, page: str) -> None:
    """Takes some seconds, because it starts two children one after the other."""
    bodies = []
    for impersonate in (None, "chrome"):
        before = len(site.requests)
        async with running(identity=Identity(impersonate=impersonate)) as method:
            body = await opened(method, Source(url=f"{site.http}/page/{page}"))
            bodies.append(await rest_of(body))
            await body.aclose()
        assert len(site.requests) - before < 40
    assert bodies[0]
    assert bodies[1] == bodies[0]


@pytest.mark.parametrize("impersonate", [None, "chrome"])
async def test_a_child_requests_the_rest_of_a_byte_range_that_is_sent_in_part(
    site: SampleSite, impersonate: str | None
) -> None:
    film = site.path("hls/ts/low-0.ts").read_bytes()
    half = len(film) // 376 * 188
    spans = f"#EXT-X-BYTERANGE:{half}@0", "film.ts", f"#EXT-X-BYTERANGE:{len(film) - half}@{half}", "film.ts"

    def answer(ask: Ask) -> Reply:
        if ask.url.startswith("/media.m3u8"):
            return whole(playlist_of(*spans, END).encode(), HLS)
        return part(ask, film, most=half // 2)

    async with serving(answer) as (url, asked), running(identity=Identity(impersonate=impersonate)) as method:
        body = await opened(method, Source(url=f"{url}.m3u8"))
        assert await rest_of(body) == film
        await body.aclose()
    assert len(asked) < 12
