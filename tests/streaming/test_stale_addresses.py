"""Tests of expired media URLs from a cached extraction. Whatever the media server answers to such a URL, the server
extracts the page once more, both before the first byte of a stream and after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from serverpy.errors import NotMedia, ServerPYError, UpstreamFailed
from serverpy.extraction.values import Track
from serverpy.ranges import ByteRange
from tests.net.reading import FILE, Answer, Ask, Reply, at, by_turns, cut_part, head, part, refusal, serving
from tests.streaming.segments.relaying import Page, drained, opened

HTML = b"<!DOCTYPE html><html><body>This link has expired.</body></html>"
JSON = b'{"error": "expired"}'
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n%s\n#EXT-X-ENDLIST\n"


def answer(text: bytes, content_type: str | None) -> Answer:
    return lambda _ask: refusal(200, text, {"Content-Type": content_type})


def closed_page(_ask: Ask) -> Reply:
    return Reply(head(200, {"Content-Type": "text/html"}) + HTML, "FIN")


STALE: dict[str, Answer] = {
    "HTML": answer(HTML, "text/html"),
    "HTML as MP4": answer(HTML, "video/mp4"),
    "HTML without a length": closed_page,
    "JSON": answer(JSON, "application/json"),
    "text": answer(b"expired", "text/plain"),
    "nothing": answer(b"", "video/mp4"),
    "204": lambda _ask: refusal(204, b""),
    "400": lambda _ask: refusal(400),
    "474": lambda _ask: refusal(474),
    "302 to HTML": lambda ask: refusal(302, more={"Location": "/expired"}) if ask.url == "/media" else closed_page(ask),
    "302 to itself": lambda ask: refusal(302, more={"Location": ask.url}),
    "RST": lambda _ask: Reply(b"", "RST"),
}


def film(url: str, **fields: object) -> Track:
    track = Track(id="v", url=url, protocol="http", ext="mp4", vcodec="avc1", acodec="mp4a")
    return replace(track, **fields)  # type: ignore[arg-type]  # mypy cannot check an unpacked dict


async def stream(addresses: Callable[[int], Track], asked: ByteRange | None = None) -> tuple[bytes, int]:
    """Stream the media. `addresses` returns the media URLs for each extraction of the page. Returns the bytes, and the
    number of extractions."""
    page = Page(addresses)
    async with at() as source:
        body = await opened(source.client, page, asked)
        return await drained(body), page.visits


@pytest.mark.parametrize("name", STALE)
@pytest.mark.parametrize("asked", [None, ByteRange(1000, 1999)], ids=["whole", "range"])
async def test_an_expired_media_url_makes_the_server_extract_the_page_once_more(
    name: str, asked: ByteRange | None
) -> None:
    async with serving(part) as (fresh, _), serving(STALE[name]) as (stale, _):
        data, visits = await stream(lambda visit: film(stale if visit == 1 else fresh), asked)
        assert data == (FILE if asked is None else FILE[1000:2000])
        assert visits == 2


@pytest.mark.parametrize("name", [name for name in STALE if name != "nothing"])
async def test_a_media_url_that_expires_during_a_stream_makes_the_server_extract_the_page_once_more(name: str) -> None:
    async with serving(part) as (fresh, _), serving(by_turns(cut_part, STALE[name])) as (stale, _):
        assert await stream(lambda visit: film(stale if visit == 1 else fresh)) == (FILE, 2)


@pytest.mark.parametrize(
    ("name", "error"),
    [("HTML", NotMedia), ("nothing", UpstreamFailed), ("400", UpstreamFailed), ("204", UpstreamFailed)],
)
@pytest.mark.parametrize("query", ["", "?token="])
async def test_the_page_is_extracted_only_once_more_even_if_the_new_media_url_has_also_expired(
    name: str, error: type[ServerPYError], query: str
) -> None:
    async with serving(STALE[name]) as (stale, _), at() as source:
        page = Page(lambda visit: film(f"{stale}{query}{visit if query else ''}"))
        with pytest.raises(error):
            await opened(source.client, page)
        assert page.visits == 2


@pytest.mark.parametrize("name", ["HTML", "nothing", "400"])
async def test_an_expired_playlist_url_makes_the_server_extract_the_page_once_more(name: str) -> None:
    playlist = answer(PLAYLIST % b"/segment", None)
    both: Answer = lambda ask: part(ask) if ask.url == "/segment" else playlist(ask)  # noqa: E731
    async with serving(both) as (fresh, _), serving(STALE[name]) as (stale, _):
        found = await stream(lambda visit: film(stale if visit == 1 else fresh, protocol="m3u8_native"))
        assert found == (FILE, 2)


async def test_a_media_url_from_the_new_extraction_is_not_requested_before_its_available_at_time() -> None:
    """Some sites return media URLs that work only some seconds after the extraction."""
    async with serving(part) as (fresh, asked), serving(STALE["400"]) as (stale, _), at() as source:
        page = Page(lambda visit: film(stale) if visit == 1 else film(fresh, available_at=2.0**40))
        with pytest.raises(UpstreamFailed, match="not available yet"):
            await opened(source.client, page)
        assert asked == []
