"""Tests of the limits on what media servers and pages can make the server keep in memory or wait for. The table BOUNDS
contains limits, each with its number, an attack that exceeds it, and the right result. For each other limit, the table
ELSEWHERE names a test, or the reason why no test is needed. Together, the tables contain every constant that limits
input in the modules that read what peers send."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from yt_dlp.cookies import YoutubeDLCookieJar

from serverpy.errors import ServerPYError
from serverpy.extraction.values import Cookie
from serverpy.memory.budget import Budget
from serverpy.net import cookies
from serverpy.net.cookies import CookieJar as Jar
from serverpy.net.session import Session
from serverpy.net.urls import Origin as Address
from serverpy.ranges import ContentRange, body_length, parse_length, total_of
from serverpy.streaming.segments.keys import MAX_KEYS, Keys
from serverpy.streaming.segments.manifest import load, playlist_room
from serverpy.streaming.segments.segment import Encryption
from serverpy.ytdlp.page.cookies import MAX_COOKIES, cookies_for
from serverpy.ytdlp.page.subtitles import MAX_SUBTITLES, subtitles_of
from serverpy.ytdlp.page.tracks import MAX_FORMATS, tracks_of
from tests.net.opening import OK, client
from tests.net.origin import Origin
from tests.net.reading import At, reading
from tests.opening import rest_of
from tests.streaming.segments.relaying import PAGE, Page, client_for, hls
from tests.streaming.segments.shelf import Shelf
from tests.test_shape import inside, modules
from tests.ytdlp.streams import Running, progressive

DIGITS = b"9" * 5000
"""More digits than Python converts to an int (`sys.get_int_max_str_digits`)."""


@dataclass(frozen=True)
class Bound:
    """A limit: the constant `where` has the value `number`. `attack` exceeds the limit, and returns `result` if the
    code handles the attack correctly."""

    name: str
    where: str
    number: int
    attack: Callable[[], Awaitable[object]]
    result: object


async def of_error(attempt: Awaitable[object]) -> object:
    """Return the result of `attempt`. If `attempt` raises a ServerPYError, return the error code."""
    try:
        return await attempt
    except ServerPYError as error:
        return error.code


def answer(data: bytes, *, endless: bytes = b"") -> Callable[[], Awaitable[object]]:
    """Return an attack: a media server sends `data`, and then sends `endless` again and again until the client closes
    the connection. The attack returns the body that an HTTP session of the server reads, or the error code."""

    def handle(connection: socket.socket, head: bytes) -> None:
        connection.sendall(data)
        while endless:
            connection.sendall(endless)

    async def attack() -> object:
        with Origin(handle) as origin:
            async with client() as made:
                return await of_error(_read_once(Session(made, {}), origin.url))

    return attack


async def _read_once(session: Session, url: str) -> object:
    response = await session.open(url, {})
    try:
        return await rest_of(response)
    finally:
        response.close()


def fields(count: int) -> bytes:
    return b"".join(b"X-%d: x\r\n" % number for number in range(count))


def headers_of(data: bytes) -> Callable[[], Awaitable[object]]:
    """Return an attack: a media server sends a response whose head is `data`. The attack returns the number of
    characters of the header fields that the client keeps."""

    async def attack() -> object:
        with Origin(lambda connection, _: connection.sendall(data)) as origin:
            async with client() as made:
                response = await Session(made, {}).open(origin.url, {})
                kept = list(response.headers)
                response.close()
                return sum(len(name) + len(value) for name, value in kept)

    return attack


def at_most(number: int) -> object:
    return _AtMost(number)


class _AtMost:
    def __init__(self, number: int) -> None:
        self._number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and other <= self._number

    def __hash__(self) -> int:
        return self._number

    def __repr__(self) -> str:
        return f"at most {self._number}"


HOST = Address("https", "www.site.example", 443)


async def a_crowd_of_cookies(domains: int, each: int, length: int = 10) -> Jar:
    jar = Jar()
    for domain in range(domains):
        origin = Address("https", f"d{domain}.site.example", 443)
        jar.receive([f"c{number}={'x' * length}; Path=/" for number in range(each)], origin, "/")
    return jar


async def cookies_of_one_domain() -> object:
    return len(await a_crowd_of_cookies(1, 3000))


async def bytes_of_all_cookies() -> object:
    jar = await a_crowd_of_cookies(200, 50, 500)
    sent = max(len(jar.header_for(Address("https", f"d{each}.site.example", 443), "/") or "") for each in range(200))
    return max(jar.held_bytes, sent)


async def a_long_cookie() -> object:
    jar = Jar([Cookie(name="a", value="x" * cookies.MAX_COOKIE, domain=HOST.host)])
    jar.receive([f"b={'x' * cookies.MAX_COOKIE}", f"c=1; Path=/{'x' * cookies.MAX_COOKIE}"], HOST, "/")
    return jar.header_for(HOST, "/")


async def a_lasting_cookie() -> object:
    jar = Jar()
    jar.receive([f"a=1; Max-Age={DIGITS.decode()[:4000]}"], HOST, "/")
    return jar.header_for(HOST, "/")


def a_chain(make: Callable[[int], bytes]) -> Callable[[], Awaitable[object]]:
    """Return an attack: a media server redirects each request to the Location that `make` returns for the number of the
    request. The attack returns the error code and the number of requests."""

    def handle(connection: socket.socket, head: bytes) -> None:
        lines = (b"HTTP/1.1 302 Found", b"Location: " + make(len(heads)), b"Content-Length: 0", b"Connection: close")
        heads.append(head)
        connection.sendall(b"\r\n".join([*lines, b"", b""]))

    heads: list[bytes] = []

    async def attack() -> object:
        heads.clear()
        with Origin(handle) as origin:
            async with client() as made:
                return await of_error(_read_once(Session(made, {}), origin.url)), len(heads)

    return attack


def playlist(lines: bytes, **track: Any) -> Callable[[], Awaitable[object]]:
    """Return an attack: the media playlist of a track contains `lines`. The attack returns the number of segments, or
    the error code."""

    async def attack() -> object:
        from serverpy.body import Source
        from serverpy.extraction.extractor import Extractor
        from serverpy.streaming.track_source import TrackSource

        with Shelf() as shelf:
            shelf.files["/a.m3u8"] = b"#EXTM3U\n" + lines + b"\n#EXT-X-ENDLIST\n"
            page = Page(lambda _: hls(shelf, path="/a.m3u8", **track))
            media = await page.extract(PAGE)
            async with client_for(shelf) as made:
                source = TrackSource(made, Extractor(page), Source(url=PAGE, media=media), media, media.tracks[0])
                room = playlist_room(Budget(64 << 20, 10, 0))
                loading = load(source, room, wait_seconds=1.0, renews=False)

                async def count() -> object:
                    return (await loading).count

                return await of_error(count())

    return attack


async def many_keys() -> object:
    keys = Keys()

    async def fetch() -> bytes:
        return bytes(16)

    for number in range(100):
        await keys.get(Encryption(f"https://k.example/{number}{'x' * 8000}", None, bytes(16)), fetch)
    return sum(
        len(place) + len(key) for place, key in keys._keys.items()
    )  # a private attribute, because no public one shows the cache


async def many_formats() -> object:
    formats = [{"format_id": str(number), "url": f"https://m.example/{number}"} for number in range(MAX_FORMATS + 500)]
    tracks = list(tracks_of({"formats": formats}, lambda _: None))
    return len(tracks), tracks[-1].id == str(MAX_FORMATS + 499)


def a_track(**fields: object) -> Callable[[], Awaitable[object]]:
    """Return an attack: yt-dlp's dictionary of a format contains `fields`. The attack returns whether only yt-dlp can
    download the format, and whether its track has neither header fields nor a request body."""

    async def attack() -> object:
        info = {"formats": [{"format_id": "0", "url": "https://m.example/", "protocol": "https", **fields}]}
        (track,) = tracks_of(info, lambda _: None)
        return track.needs_ytdlp, not track.headers and track.request_data is None

    return attack


async def many_subtitles() -> object:
    files = [{"url": f"https://m.example/{number}", "ext": "vtt"} for number in range(MAX_SUBTITLES + 10)]
    return len(list(subtitles_of({"subtitles": {"en": files}})))


async def many_cookies_of_a_page() -> object:
    jar: CookieJar = YoutubeDLCookieJar()
    for number in range(MAX_COOKIES + 50):
        jar.set_cookie(_stored(f"c{number}", "v"))
    jar.set_cookie(_stored("long", "v" * cookies.MAX_COOKIE))
    return len(list(cookies_for(jar, ["https://www.site.example/"])))


def _stored(name: str, value: str) -> Any:
    from http.cookiejar import Cookie as Stored

    domain = ".site.example"
    return Stored(0, name, value, None, False, domain, True, True, "/", True, False, None, True, None, None, {})


async def numbers_with_many_digits() -> object:
    """Parse numbers with many digits. The parsers must neither raise ValueError nor return a number."""
    digits = DIGITS.decode()
    return [
        parse_length(digits),
        body_length(digits),
        total_of(f"bytes 0-1/{digits}"),
        ContentRange.parse(f"bytes 0-{digits}/{digits}"),
        ContentRange.parse(f"bytes {digits}-{digits}/*"),
    ]


def digits_in(head: bytes, body: bytes = b"hello") -> Callable[[], Awaitable[object]]:
    """Return an attack: a response whose `head` or `body` contains DIGITS. The attack returns what the relay and
    yt-dlp's downloader each make of the response: the body or the error code."""

    async def attack() -> object:
        with Origin(lambda connection, _: connection.sendall(head + b"\r\n" + body)) as origin:
            async with client() as made:

                async def relayed() -> object:
                    async with reading(At(made, [origin.url])) as read:
                        return await rest_of(read)

                by_relay = await of_error(relayed())
            with Running(progressive(origin.url)) as download:
                given = await asyncio.to_thread(download.read_all)
            error = download.error
            assert error is None or isinstance(error, ServerPYError)
            return by_relay, given if error is None else error.code

    return attack


FAILED = "upstream_failed"
LONG = b"x" * 9000
BOUNDS = (
    Bound("fields of a response", "net.response_head.MAX_FIELDS", 100, answer(OK + fields(101) + b"\r\n"), FAILED),
    Bound("fields of a trailer", "net.bounds.FRAMING_GRACE_BYTES", 65536,
          answer(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", endless=b"X-T: x\r\n"), FAILED),
    Bound("bytes of a head", "net.http1.HEAD_BYTES", 65536, answer(OK + b"X: ", endless=LONG), FAILED),
    Bound("an extension of a chunk", "net.bounds.FRAMING_GRACE_BYTES", 65536,
          answer(OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=", endless=LONG), FAILED),
    Bound("extensions of small chunks", "net.bounds.MAX_FRAMING", 8,
          answer(OK + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1;x=%s\r\na\r\n" % LONG), FAILED),
    Bound("short extensions of small chunks", "net.bounds.MAX_FRAMING", 8,
          answer(OK + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1;xyz=abc\r\na\r\n" * 500), FAILED),
    Bound("extensions of small chunks after a long one", "net.bounds.MAX_FRAMING", 8,
          answer(OK + b"Transfer-Encoding: chunked\r\n\r\n40000\r\n%s\r\n" % bytes(0x40000),
                 endless=b"1;x=%s\r\na\r\n" % LONG), FAILED),
    Bound("interim responses", "net.response_head.MAX_INTERIM", 16,
          answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + OK + b"\r\n"), FAILED),
    Bound("fields that are kept, and their values", "net.http1.MAX_VALUE", 256,
          headers_of(OK + b"".join(b"%s: %s%d\r\n" % (name, b"v" * 500, number) for number in range(8)
                                   for name in (b"Content-Type", b"Content-Encoding", b"Accept-Ranges", b"Set-Cookie",
                                                b"Retry-After", b"Content-Range", b"X-Other")) + b"\r\n"),
          at_most(9 * 2 * (256 + 20))),
    Bound("values of one field", "net.http1.MAX_VALUES", 2,
          headers_of(OK + b"".join(b"Content-Type: %d\r\n" % number for number in range(90)) + b"\r\n"),
          at_most(2 * 14)),
    Bound("a validator", "net.http1.MAX_VALIDATOR", 1024, headers_of(OK + b'ETag: "%s"\r\n\r\n' % (b"x" * 1023)), 0),
    Bound("cookies of a domain", "net.cookies.MAX_PER_DOMAIN", 50, cookies_of_one_domain, 50),
    Bound("all cookies of a session, and those that are sent", "net.cookies.MAX_JAR_BYTES", 32768,
          bytes_of_all_cookies, at_most(32768)),
    Bound("a cookie", "net.cookies.MAX_COOKIE", 4096, a_long_cookie, None),
    Bound("redirects", "net.session.MAX_REDIRECTS", 20, a_chain(lambda number: b"/%d" % number), (FAILED, 21)),
    Bound("the URL of a redirect", "net.session.MAX_LOCATION", 8192, a_chain(lambda _: b"/" + LONG), (FAILED, 1)),
    Bound("segments of a playlist", "streaming.segments.segment.MAX_SEGMENTS", 100_000,
          playlist(b"a\n" * 100_001), "too_large"),
    Bound("text of a playlist", "streaming.segments.packed_lines.MAX_TEXT_BYTES", 16 << 20,
          playlist((b"#" + b"x" * 1000 + b"\n") * 17_000), "too_large"),
    Bound("a line of a playlist", "streaming.segments.packed_lines.MAX_LINE_BYTES", 32768,
          playlist(b"#" + b"x" * 33_000), "too_large"),
    Bound("a URL in a playlist", "streaming.segments.segment.MAX_URL_LENGTH", 8192, playlist(LONG), "too_large"),
    Bound("a key in a playlist", "streaming.segments.segment.MAX_URL_LENGTH", 8192,
          playlist(b'#EXT-X-KEY:METHOD=AES-128,URI="%s"\na' % LONG), "too_large"),
    Bound("keys of a segment", "streaming.segments.hls.MAX_KEY_FORMATS", 8,
          playlist(b"".join(b'#EXT-X-KEY:METHOD=AES-128,URI="k",KEYFORMAT="%d"\n' % n for n in range(9)) + b"a"),
          "too_large"),
    Bound("a tag of a playlist", "streaming.segments.hls.MAX_TAG_LENGTH", 9216,
          playlist(b'#EXT-X-MAP:URI="a"' + b',X="x"' * 2000 + b"\na"), "too_large"),
    Bound("variables of a playlist", "streaming.segments.variables.MAX_VALUES_LENGTH", 8192,
          playlist(b"".join(b'#EXT-X-DEFINE:NAME="n%d",VALUE="%s"\n' % (n, b"x" * 900) for n in range(10)) + b"a"),
          "too_large"),
    Bound("a line with variables", "streaming.segments.variables.MAX_LINE_LENGTH", 32768,
          playlist(b'#EXT-X-DEFINE:NAME="n",VALUE="%s"\n' % (b"x" * 8000) + b"{$n}" * 5), "too_large"),
    Bound("variants of a master playlist", "streaming.segments.master.MAX_VARIANTS", 5000,
          playlist(b"#EXT-X-STREAM-INF:BANDWIDTH=1\na\n" * 5001), "too_large"),
    Bound("text of a master playlist", "streaming.segments.master.MAX_LENGTH", 2 << 20,
          playlist(b"#EXT-X-STREAM-INF:BANDWIDTH=1\na\n" + b"#\n" * 40_000), "too_large"),
    Bound("keys of a stream", "streaming.segments.keys.MAX_KEYS", 8, many_keys, at_most(MAX_KEYS * 32)),
    Bound("formats of a page", "ytdlp.page.tracks.MAX_FORMATS", 2000, many_formats, (2000, True)),
    Bound("the URL of a format", "ytdlp.page.tracks.MAX_TRACK_URL", 8192,
          a_track(url="https://m.example/" + LONG.decode()), (True, True)),
    Bound("headers of a format", "ytdlp.page.tracks.MAX_HEADERS_LENGTH", 8192,
          a_track(http_headers={f"X-{number}": "x" * 100 for number in range(100)}), (True, True)),
    Bound("the body of a request for media", "ytdlp.page.tracks.MAX_BODY_LENGTH", 16384,
          a_track(request_data=b"x" * 20_000), (True, True)),
    Bound("subtitles of a page", "ytdlp.page.subtitles.MAX_SUBTITLES", 5000, many_subtitles, 5000),
    Bound("cookies of a page", "ytdlp.page.cookies.MAX_COOKIES", 200, many_cookies_of_a_page, 200),
    Bound("digits of a number", "ranges._MAX_DIGITS", 19, numbers_with_many_digits, [None] * 5),
    Bound("digits of Content-Length", "ranges._MAX_DIGITS", 19,
          digits_in(OK + b"Content-Length: %s\r\n" % DIGITS), (b"hello", b"hello")),
    Bound("digits of Content-Range", "ranges._MAX_DIGITS", 19,
          digits_in(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-4/%s\r\n" % DIGITS), (FAILED, FAILED)),
    Bound("digits of Content-Range with 200", "ranges._MAX_DIGITS", 19,
          digits_in(OK + b"Content-Range: bytes 0-%s/%s\r\n" % (DIGITS, DIGITS)), (b"hello", b"hello")),
    Bound("digits of Retry-After", "ranges._MAX_DIGITS", 19,
          digits_in(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\nRetry-After: %s\r\n" % DIGITS, b""), (FAILED, FAILED)),
    Bound("digits of Age", "ranges._MAX_DIGITS", 19,
          digits_in(OK + b"Content-Length: 5\r\nAge: %s\r\n" % DIGITS), (b"hello", b"hello")),
    Bound("digits of the size of a chunk", "ranges._MAX_DIGITS", 19,
          digits_in(OK + b"Transfer-Encoding: chunked\r\n", b"%s\r\nhello" % DIGITS), (FAILED, FAILED)),
    Bound("digits of Max-Age", "net.cookies._MAX_DIGITS", 12, a_lasting_cookie, "a=1"),
    Bound("digits in a playlist", "streaming.segments.attributes._MAX_DIGITS", 20,
          playlist(b"#EXT-X-BYTERANGE:%s\na" % DIGITS), FAILED),
)  # fmt: skip


ELSEWHERE = {
    "net.client.IDLE_CONNECTIONS": "each idle connection holds what its parser holds, and is closed after 10 s",
    "net.content_coding.MAX_CODINGS": "test_the_number_of_content_codings_of_a_response_is_bounded",
    "net.guard.MAX_ADDRESSES": "test_only_the_first_of_thousands_of_addresses_of_a_host_are_checked_and_used",
    "net.guard.MAX_URL_CHARACTERS": "test_the_error_for_a_refused_url_states_the_reason",
    "net.guard._MAX_UNQUOTINGS": "applies to the URL of a client, whose length is limited",
    "net.happy_eyeballs.MAX_ADDRESSES": "the client tries no further addresses of a host",
    "net.happy_eyeballs.MAX_HOSTS": "test_the_number_of_hosts_whose_last_working_address_is_remembered_is_bounded",
    "net.heads.MAX_HEAD_BYTES": "test_the_egress_answers_a_malformed_or_oversized_head_with_400",
    "net.lookups.MAX_KNOWN": "1,024 names that have resolved, of at most 254 characters each",
    "net.lookups.MAX_WAITING": "test_the_number_of_waiting_look_ups_is_bounded",
    "net.proxies._MAX_HEAD_BYTES": "the peer is the operator's own proxy",
    "net.representation.MAX_SERVERS": "test_etags_are_remembered_for_a_limited_number_of_servers",
    "net.resolver.MAX_FAILED": "test_the_number_of_cached_failed_look_ups_is_bounded",
    "net.response_head.LONGEST_BODY": "decides whether a stated length is plausible; no body is kept in memory",
    "net.session.MAX_CREDENTIALS": "credentials in the URLs of redirects, of which there are at most 20",
    "net.urls._MAX_CACHED": "longer URLs are not cached, but parsed at each use",
    "streaming.segments.passed.KEPT": "hashes of the latest 32 segments",
    "streaming.segments.reloads.MAX_SECONDS": "limits the seconds of a wait, not the size of a value",
    "ytdlp.page.tracks._MAX_LISTED": "lists of segments, which are part of an extraction of at most 8 MiB",
    "ytdlp.page.subtitles._MAX_INLINE": "subtitles in an extraction, which has at most 8 MiB",
}
"""Maps each limit that is not in BOUNDS to the name of a test for the limit, or to the reason why no test is needed."""
PARTS = ("net", "streaming.segments", "ytdlp.page.cookies", "ytdlp.page.subtitles", "ytdlp.page.tracks")
_IS_BOUND = re.compile(r"_?(?:MAX|LONGEST)(?:_[A-Z_]+)?|HEAD_BYTES|FRAMING_GRACE_BYTES|IDLE_CONNECTIONS|KEPT")


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
async def test_an_attack_that_exceeds_a_limit_has_the_result_stated_in_the_table(bound: Bound) -> None:
    module, _, name = bound.where.rpartition(".")
    assert getattr(importlib.import_module(f"serverpy.{module}"), name) == bound.number
    assert await bound.attack() == bound.result


def test_every_constant_that_limits_what_a_peer_sends_is_in_the_table_bounds_or_in_the_table_elsewhere() -> None:
    found = set()
    for name, tree in modules():
        if any(inside(name, part) for part in PARTS):
            for node in tree.body:
                targets = node.targets if isinstance(node, ast.Assign) else []
                names = [each.id for each in targets if isinstance(each, ast.Name)]
                found |= {f"{name}.{each}" for each in names if _IS_BOUND.fullmatch(each)}
    attacked = {bound.where for bound in BOUNDS if any(inside(bound.where, part) for part in PARTS)}
    assert found == attacked | ELSEWHERE.keys()
    assert not attacked & ELSEWHERE.keys()


def test_every_test_that_the_table_elsewhere_names_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    for reason in ELSEWHERE.values():
        assert not reason.startswith("test_") or f"def {reason}(" in text, reason
