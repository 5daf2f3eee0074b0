"""Tests of the method `redirect`, which redirects a client only to media that the client can fetch by itself."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from serverpy.access.limits import Limits
from serverpy.body import Source
from serverpy.errors import ServerPYError, TargetForbidden, UnsupportedConversion, UpstreamFailed
from serverpy.extraction.values import Cookie, Fragment, Media, Track
from serverpy.memory.room import NO_ROOM
from serverpy.net.client import Client
from serverpy.net.guard import Guard, parse_networks
from serverpy.options import Identity, Network
from serverpy.streaming.methods.redirect import Redirect, is_bound
from tests.net.origin import Origin

# The hosts of the URLs are IP addresses, so that no test resolves a host name.
MEDIA_URL = "https://1.1.1.1/films/film.mp4?expires=1893456000&sig=ab%2Fcd"
USUAL = {
    "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Language": "en-us,en;q=0.5",
    "Sec-Fetch-Mode": "navigate",
}
TRACK = Track(id="1", url=MEDIA_URL, protocol="https", ext="mp4", vcodec="avc1", acodec="mp4a", headers=USUAL)
MEDIA = Media(raw_id="r", id="1", title="A film", kind="video", extractor="X", webpage_url="https://example.com")


PUBLIC = Guard()


def redirect(guard: Guard = PUBLIC, network: Network = Network(), **options: Any) -> Redirect:
    return Redirect(Client(guard, network), **options)


async def location(
    track: Track = TRACK,
    *,
    cookies: tuple[Cookie, ...] = (),
    guard: Guard = PUBLIC,
    network: Network = Network(),
    is_local: bool = False,
) -> str | None:
    opener = redirect(guard, network)
    grant = Limits().grant_for("127.0.0.1" if is_local else "192.0.2.1", is_local=is_local)
    source = Source(url="https://example.com", media=replace(MEDIA, tracks=(track,), cookies=cookies), grant=grant)
    body = await opener.open(opener.capability.plan((track,)), source, NO_ROOM)
    return body.head.location


@pytest.mark.parametrize(
    ("fact", "fields"),
    [
        ("plain", {}),
        ("over http", {"url": "http://1.1.1.1/film.mp4", "protocol": "http"}),
        ("with no headers", {"headers": {}}),
        ("live in one response", {"is_live": True}),
        ("in ranges", {"http_chunk_size": 1000}),
        (
            "with a Referer that the media server may not require",
            {"headers": {**USUAL, "Referer": "https://example.com/"}},
        ),
    ],
)
def test_redirect_supports_a_single_file_that_any_client_can_fetch(fact: str, fields: dict[str, Any]) -> None:
    assert redirect().carries(replace(TRACK, **fields)), fact


@pytest.mark.parametrize(
    ("fact", "fields"),
    [
        ("HLS", {"protocol": "m3u8_native"}),
        ("DASH", {"protocol": "http_dash_segments"}),
        ("a file in fragments", {"fragments": (Fragment(url=MEDIA_URL),)}),
        ("another protocol", {"protocol": "rtmp"}),
        ("DRM", {"has_drm": True}),
        ("a refused format", {"refusal": "Why."}),
        ("a POST", {"request_data": "video=1"}),
        ("a browser to impersonate", {"impersonate": "chrome-120"}),
        ("a downloader of yt-dlp", {"needs_ytdlp": True}),
        ("an address that works later", {"available_at": 1.0}),
        ("a token", {"headers": {**USUAL, "X-Token": "secret"}}),
        ("authorization", {"headers": {"Authorization": "Basic eDp5"}}),
        ("a range", {"headers": {"Range": "bytes=0-"}}),
        ("the user agent of an application", {"headers": {"User-Agent": "com.example.app/1.0 (Linux; Android 14)"}}),
        ("a user name in the URL", {"url": "https://user:secret@1.1.1.1/film.mp4"}),
        ("an address in the URL", {"url": "https://1.1.1.1/film.mp4?ip=203.0.113.5&sig=x"}),
    ],
)
def test_redirect_does_not_support_media_that_only_this_server_can_fetch(fact: str, fields: dict[str, Any]) -> None:
    assert not redirect().carries(replace(TRACK, **fields)), fact


def test_redirect_supports_no_media_at_all_if_the_server_impersonates_a_browser() -> None:
    assert not redirect(identity=Identity(impersonate="chrome")).carries(TRACK)


@pytest.mark.parametrize(
    ("url", "bound"),
    [
        (MEDIA_URL, False),
        ("https://cdn.example/v1.2.3/film.mp4", False),
        ("https://cdn.example/film.mp4?zip=1&clip=2&start=10:20", False),
        ("https://cdn.example/film.mp4?ip=0.0.0.0", True),
        ("https://cdn.example/film.mp4?ip=2001%3Adb8%3A%3A1", True),
        ("https://cdn.example/film.mp4?e=1&client_ip=b64", True),
        ("https://cdn.example/film.mp4?e=1&srcIp=", True),
        ("https://cdn.example/videoplayback/ip/203.0.113.5/id/7/film.mp4", True),
        ("https://cdn.example/videoplayback/ip/2001:db8::1/id/7/film.mp4", True),
        ("https://cdn.example/203.0.113.5/film.mp4", True),
        ("https://cdn.example/film.mp4?token=exp%3D7~acl%3D203.0.113.5~hmac%3Dab", True),
        ("https://cdn.example/film.mp4?for=%5B2001:db8::1%5D", True),
        ("https://user@cdn.example/film.mp4", True),
        ("https://[cdn/film.mp4", True),
    ],
)
def test_a_media_url_counts_as_bound_to_one_client_if_it_contains_a_network_address_or_a_user_name(
    url: str, bound: bool
) -> None:
    assert is_bound(url) is bound


async def test_the_location_of_a_redirect_is_the_url_of_the_media() -> None:
    assert await location() == MEDIA_URL
    assert await location(replace(TRACK, url="https://1.1.1.1:8443/ein film.mp4#t=1")) == (
        "https://1.1.1.1:8443/ein%20film.mp4"
    )


@pytest.mark.parametrize(
    ("domain", "path", "error"),
    [
        ("1.1.1.1", "/", UnsupportedConversion),
        ("1.1.1.1", "/films", UnsupportedConversion),
        ("1.1.1.1", "/elsewhere", None),
        ("example.com", "/", None),
    ],
)
async def test_redirect_refuses_media_if_a_cookie_of_the_extraction_applies_to_its_url(
    domain: str, path: str, error: type[ServerPYError] | None
) -> None:
    cookies = (Cookie(name="session", value="secret", domain=domain, path=path),)
    if error is None:
        assert await location(cookies=cookies) == MEDIA_URL
    else:
        with pytest.raises(error):
            await location(cookies=cookies)


@pytest.mark.parametrize("url", ["http://10.0.0.7/film.mp4", "http://127.0.0.1/film.mp4", "http://[::1]/film.mp4"])
async def test_redirect_does_not_reveal_an_internal_address_to_a_client_on_another_machine(url: str) -> None:
    track = replace(TRACK, url=url)
    with pytest.raises(TargetForbidden):
        await location(track, is_local=True)
    allowing = Guard(allow=parse_networks(["10.0.0.7", "127.0.0.1", "::1"]))
    with pytest.raises(UnsupportedConversion):
        await location(track, guard=allowing)
    assert await location(track, guard=allowing, is_local=True) == url


@pytest.mark.parametrize(
    ("answer", "is_open"),
    [
        (b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-0/4\r\nContent-Length: 1\r\n\r\nd", True),
        (b"HTTP/1.1 200 x\r\nContent-Length: 4\r\n\r\ndone", True),
        (b"HTTP/1.1 200 x\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nHere", False),
        (b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 302 x\r\nLocation: /refused\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
async def test_redirect_refuses_media_that_the_media_server_does_not_send_without_a_referer(
    answer: bytes, is_open: bool
) -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        refused = b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(answer if b" /film.mp4 " in head and b"referer" not in head.lower() else refused)

    with Origin(handle) as origin:
        address = f"127.0.0.1:{origin.port}"
        headers = {**USUAL, "Referer": "https://example.com/", "Origin": "https://example.com"}
        track = replace(TRACK, url=f"http://{address}/film.mp4", headers=headers)
        guard = Guard(allow=parse_networks([address]))
        if is_open:
            assert await location(track, guard=guard, is_local=True) == track.url
        else:
            with pytest.raises(UnsupportedConversion):
                await location(track, guard=guard, is_local=True)


async def test_the_body_of_a_redirect_cannot_be_read() -> None:
    opener = redirect()
    body = await opener.open(opener.capability.plan((TRACK,)), Source(url="https://example.com", media=MEDIA), NO_ROOM)
    assert (body.head.content_type, body.head.ext, body.head.title) == ("video/mp4", "mp4", "A film")
    with pytest.raises(UpstreamFailed):
        await body.read()
    await body.aclose()


async def test_redirect_does_not_look_up_a_name_that_the_proxy_resolves() -> None:
    network = Network(proxy="socks5://127.0.0.1:9", proxy_dns="remote")
    url = "https://media.invalid/film.mp4"
    assert await location(replace(TRACK, url=url), network=network) == url
    with pytest.raises(TargetForbidden):
        await location(replace(TRACK, url="https://media.internal/film.mp4"), network=network)
