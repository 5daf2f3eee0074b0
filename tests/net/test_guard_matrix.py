"""Tests of every combination of a spelling of an internal address and a way in which a page, a media server or a client
can name an address: the server refuses each combination, and sends no byte to the address. Valid spellings of a public
host are allowed in all of these ways."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from urllib.parse import urlsplit

import pytest

from serverpy.body import Source
from serverpy.errors import InvalidUrl, ServerPYError, TargetForbidden, UpstreamFailed
from serverpy.memory.room import NO_ROOM
from serverpy.net.client import Client
from serverpy.net.guard import Guard, Lookup, check_url, parse_networks, resolve_host
from serverpy.net.session import Session
from serverpy.options import Network, Timeouts
from serverpy.sample.cut import aes_128
from tests.net.egress.threads import EgressThread
from tests.net.opening import OK
from tests.net.origin import DEADLINE, Origin
from tests.net.test_proxies import squid
from tests.net.test_session import serving
from tests.opening import rest_of
from tests.streaming.segments.relaying import PAGE, Page, hls, relay_of
from tests.streaming.segments.shelf import Shelf

KEY = bytes(range(16))
SEGMENT = (b"\x47" + bytes(187)) * 20

INTERNAL = {
    "loopback": "127.0.0.1",
    "loopback, another": "127.255.255.254",
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "private A": "10.1.2.3",
    "private B": "172.31.255.255",
    "private C": "192.168.0.1",
    "shared": "100.64.0.1",
    "link-local": "169.254.1.1",
    "metadata": "169.254.169.254",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Azure": "168.63.129.16",
    "metadata of Oracle": "192.0.0.192",
    "metadata of AWS over IPv6": "[fd00:ec2::254]",
    "benchmarks": "198.19.0.1",
    "multicast": "224.0.0.251",
    "broadcast": "255.255.255.255",
    "IPv6 loopback": "[::1]",
    "IPv6 unspecified": "[::]",
    "IPv6 loopback, in full": "[0:0:0:0:0:0:0:1]",
    "unique local": "[fc00::1]",
    "IPv6 link-local": "[fe80::1]",
    "IPv6 site-local": "[fec0::1]",
    "IPv6 multicast": "[ff02::1]",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "IPv4-mapped, hexadecimal": "[::ffff:7f00:1]",
    "IPv4-mapped, in full": "[0:0:0:0:0:FFFF:7F00:0001]",
    "IPv4-mapped metadata": "[::ffff:a9fe:a9fe]",
    "IPv4-compatible": "[::127.0.0.1]",
    "IPv4-translated": "[::ffff:0:127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64, dotted": "[64:ff9b::169.254.169.254]",
    "NAT64, local prefix": "[64:ff9b:1::a00:1]",
    "6to4": "[2002:7f00:1::]",
    "6to4 of a public address": "[2002:808:808::1]",
    "Teredo": "[2001:0:808:808:0:0:80ff:fffe]",
    "ISATAP": "[2600::5efe:10.0.0.1]",
    "zone": "[fe80::1%eth0]",
    "zone, encoded": "[fe80::1%25lo]",
    "zone of a public address": "[2606:4700::1%251]",
    "zone of a mapped address": "[::ffff:127.0.0.1%1]",
    "brackets around IPv4": "[127.0.0.1]",
    "a future literal": "[v1.127.0.0.1]",
    "decimal": "2130706433",
    "decimal, overflowing": "6425673729",
    "hexadecimal": "0x7f000001",
    "hexadecimal, capitals": "0X7F000001",
    "octal": "017700000001",
    "octal parts": "0177.0.0.01",
    "hexadecimal parts": "0x7f.0x0.0x0.0x1",
    "mixed parts": "0x7f.0.0.01",
    "leading zeros": "127.000.000.001",
    "two parts": "127.1",
    "three parts": "127.0.1",
    "one part": "0",
    "empty hexadecimal": "0x",
    "trailing dot": "127.0.0.1.",
    "trailing dots": "127.0.0.1..",
    "trailing dot, decimal": "2130706433.",
    "leading dot": ".127.0.0.1",
    "localhost": "localhost",
    "localhost, capitals": "LocalHost",
    "localhost with a dot": "localhost.",
    "localhost, full-width": "ｌｏｃａｌｈｏｓｔ",
    "localhost, encircled": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "localhost, with a soft hyphen": "local\u00adhost",
    "below localhost": "a.localhost",
    "a name that leads inside": "inside.example",
    "a name that leads inside, full-width dot": "inside．example",
    "a name with the address in it": "127.0.0.1.nip.example",
    "an internal name": "metadata.google.internal",
    "full-width digits": "１２７.０.０.１",
    "encircled digits": "①②⑦.⓪.⓪.①",
    "superscript digits": "¹²⁷.⁰.⁰.¹",
    "mathematical digits": "𝟏𝟐𝟕.𝟎.𝟎.𝟏",
    "Arabic digits": "١٢٧.٠.٠.١",
    "full-width dots": "127．0．0．1",
    "ideographic dots": "127。0。0。1",
    "half-width dots": "127｡0｡0｡1",
    "percent-encoded digits": "%31%32%37.0.0.1",
    "percent-encoded dots": "127%2e0%2e0%2e1",
    "percent-encoded name": "%6cocalhost",
    "percent-encoded twice": "%2531%2532%2537.0.0.1",
    "null": "127.0.0.1%00.good.example",
    "user name": "good.example@127.0.0.1",
    "user name and password": "good.example:80@127.0.0.1",
    "two at signs": "a@good.example@127.0.0.1",
    "user name, encoded slash": "good.example%2f@127.0.0.1",
    "user name, IPv6": "good.example@[::1]",
    "full-width at sign": "good.example＠127.0.0.1",
    "full-width solidus": "127.0.0.1／good.example",
    "full-width colon": "127.0.0.1：80",
    "account of": "127.0.0.1℀.good.example",
    "backslash": "127.0.0.1\\.good.example",
    "backslash and at sign": "127.0.0.1\\@good.example",
    "tab": "127.0\t.0.1",
    "line feed": "127.0.0\n.1",
    "blank": "127.0.0.1 .good.example",
}
"""Maps a description of a spelling to a host that is spelled in this way."""

NOT_AN_ADDRESS = re.compile(r"does not resolve|URL is invalid|has no host|invalid URL|invalid host")
"""Matches the error messages for a text that is not an address."""


async def everything_is_inside(host: str, port: int) -> Sequence[str]:
    """Resolve names as the most lenient resolver does: every spelling of an IPv4 address that C libraries accept
    resolves to this address, and every other name to loopback."""
    try:
        return (socket.inet_ntoa(socket.inet_aton(host.rstrip("."))),)
    except OSError:
        return ("127.0.0.1",)


Way = Callable[["Scene", str], Awaitable[object]]


@dataclass(frozen=True)
class Scene:
    """The servers of a test. `target` is the server that the URLs name. `outside` and `shelf` are media servers to
    which connections are allowed. `proxy` is an http proxy that refuses tunnels. All clients use `guard`. `egress` is a
    filtering proxy that uses `guard`, and `egress_by_proxy` is one that also uses `proxy`."""

    target: Origin
    outside: Origin
    pages: dict[str, bytes]
    shelf: Shelf
    proxy: Origin
    guard: Guard
    lookup: Lookup
    egress: EgressThread
    egress_by_proxy: EgressThread
    numbers: Iterator[int] = field(default_factory=count)

    def url(self, host: str, path: str = "/target.ts") -> str:
        return f"http://{host}:{self.target.port}{path}"

    def client(self, proxy: Origin | None = None) -> Client:
        network = _by(proxy) if proxy else Network()
        return Client(self.guard, network, Timeouts(connect=30.0, stall=30.0), lookup=self.lookup)


def _by(proxy: Origin) -> Network:
    return Network(proxy=f"http://127.0.0.1:{proxy.port}")


async def direct(scene: Scene, host: str) -> None:
    await _fetch(scene.client(), scene.url(host))


async def dot_segments(scene: Scene, host: str) -> None:
    await _fetch(scene.client(), scene.url(host, "/a/../%2e%2e/./target.ts"))


async def _fetch(client: Client, url: str) -> None:
    try:
        response = await Session(client, {}).open(url, {})
        try:
            assert response.status == 200
            await rest_of(response)
        finally:
            response.close()
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    client.close()
    for _ in range(3):  # an aborted transport closes in a later iteration of the event loop
        await asyncio.sleep(0)


def redirect(scheme: str) -> Way:
    async def follow(scene: Scene, host: str) -> None:
        if "\n" in host:
            raise InvalidUrl("No header field has it.")
        location = f"{scheme}//{host}:{scene.target.port}/target.ts".encode()
        path = f"/{next(scene.numbers)}"
        scene.pages[path] = b"HTTP/1.1 302 x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location
        await _fetch(scene.client(), f"http://127.0.0.1:{scene.outside.port}{path}")

    return follow


def playlist(lines: str) -> Way:
    async def read(scene: Scene, host: str) -> None:
        if "\n" in host:
            raise InvalidUrl("No line has it.")
        path = f"/{next(scene.numbers)}.m3u8"
        track = hls(
            scene.shelf, lines.replace("{url}", scene.url(host)).replace("{key}", scene.url(host, "/key")), path=path
        )
        page, client = Page(lambda _visit: track), scene.client()
        relay, media = relay_of(client, page), await page.extract(PAGE)
        try:
            body = await relay.open(relay.capability.plan(media.tracks), Source(url=PAGE, media=media), NO_ROOM)
            try:
                await rest_of(body)
            finally:
                await body.aclose()
        finally:
            await _close(client)

    return read


async def absolute_form(scene: Scene, host: str) -> None:
    """Request the host in absolute form from a proxy that refuses tunnels."""
    await _fetch(scene.client(scene.proxy), scene.url(host))


async def page_of_a_client(scene: Scene, host: str) -> None:
    """Check the URL as that of a client's request, and then request it as yt-dlp does."""
    url = check_url(scene.url(host))
    await asyncio.to_thread(_request, scene.egress, url)
    await asyncio.to_thread(_request, scene.egress, url.replace("http:", "connect:", 1))


async def address_of_yt_dlp(scene: Scene, host: str) -> None:
    """Request the URL as yt-dlp requests a URL that it has found on a page, through a proxy that refuses tunnels."""
    if not host.isascii() or re.search(r"[\s\\]", host):
        raise InvalidUrl("No HTTP client sends it.")
    await asyncio.to_thread(_request, scene.egress_by_proxy, scene.url(host))


def _request(egress: EgressThread, url: str) -> None:
    """Request `url` from the filtering proxy. Raises the error that the response of the proxy stands for."""
    parts = urlsplit(egress.url)
    token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    authority = re.split(r"[/?#]", url.partition("://")[2])[0]
    line = f"CONNECT {authority}" if url.startswith("connect:") else f"GET {url}"
    with socket.create_connection(("127.0.0.1", parts.port or 0), timeout=DEADLINE) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nProxy-Authorization: Basic {token}\r\n\r\n".encode())
        received = connection.recv(65536)
    if b" 403 Forbidden Target" in received:
        raise TargetForbidden("The filtering proxy refuses it.")
    if b"X-ServerPY-Refused" in received:
        raise UpstreamFailed(received.decode())


WAYS: dict[str, Way] = {
    "direct": direct,
    "dot segments": dot_segments,
    "redirect": redirect("http:"),
    "redirect of the same scheme": redirect(""),
    "segment": playlist("#EXTINF:2,\n{url}"),
    "second segment": playlist("#EXTINF:2,\n/good.ts\n#EXTINF:2,\n{url}"),
    "key": playlist('#EXT-X-KEY:METHOD=AES-128,URI="{key}"\n#EXTINF:2,\n/secret.ts'),
    "map": playlist('#EXT-X-MAP:URI="{url}"\n#EXTINF:2,\n/good.ts'),
    "absolute form": absolute_form,
    "page of a client": page_of_a_client,
    "address of yt-dlp": address_of_yt_dlp,
}


@contextmanager
def scene(lookup: Lookup, *, allowed: bool) -> Iterator[Scene]:
    """Run the servers. Connections to the target are allowed if `allowed` is true. Otherwise, the target has an
    internal address."""
    pages: dict[str, bytes] = {}
    answer = OK + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(SEGMENT) + SEGMENT
    with (
        Origin(serving({"/key": OK + b"Content-Length: 16\r\n\r\n" + KEY}, answer)) as target,
        Origin(serving(pages)) as outside,
        Shelf() as shelf,
    ):
        shelf.files |= {"/good.ts": SEGMENT, "/secret.ts": aes_128(SEGMENT, KEY, bytes(16))}
        ports = [outside.port, int(shelf.url.rpartition(":")[2]), *([target.port] if allowed else [])]
        guard = Guard(allow=parse_networks([f"127.0.0.1:{port}" for port in ports]))
        with (
            Origin(squid(answer)) as proxy,
            EgressThread(guard, lookup=lookup) as egress,
            EgressThread(guard, lookup=lookup, network=_by(proxy)) as egress_by_proxy,
        ):
            yield Scene(target, outside, pages, shelf, proxy, guard, lookup, egress, egress_by_proxy)


async def outcome(way: Way, scene: Scene, host: str) -> str:
    """Return "refused" if the address was refused before any connection. Otherwise returns "passed", or the repr of the
    error."""
    try:
        await way(scene, host)
    except (TargetForbidden, InvalidUrl):
        return "refused"
    except ServerPYError as error:
        return "refused" if NOT_AN_ADDRESS.search(str(error)) else repr(error)
    return "passed"


async def outcomes(way: Way, scene: Scene, hosts: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(hosts, await asyncio.gather(*(outcome(way, scene, host) for host in hosts.values())), strict=True))


@pytest.mark.parametrize("way", WAYS)
async def test_every_spelling_of_an_internal_address_is_refused(way: str) -> None:
    with scene(everything_is_inside, allowed=False) as here:
        found = await outcomes(WAYS[way], here, INTERNAL)
        assert found == dict.fromkeys(INTERNAL, "refused")
        assert (here.target.heads, here.proxy.heads) == ([], [])


LEGAL = {
    "name": "good.example",
    "capitals": "Good.EXAMPLE",
    "trailing dot": "good.example.",
    "underscore": "under_score.example",
    "digits in a name": "127.0.0.1.good.example",
    "a name like a number": "0x7f.good.example",
    "a label that ends with digits": "cdn127",
    "punycode": "xn--bcher-kva.example",
    "an allowed address": "127.0.0.1",
    "an allowed address, IPv4-mapped": "[::ffff:127.0.0.1]",
}
UNICODE = {"letters": "bücher.example", "full-width": "ｇｏｏｄ．ｅｘａｍｐｌｅ", "ideographic dot": "good。example"}
WITH_USER = {"user name": "user@good.example", "password": "us%40er:p%2fw@good.example"}


@pytest.mark.parametrize("way", WAYS)
async def test_every_spelling_of_an_allowed_host_is_allowed(way: str) -> None:
    """URLs from clients may not contain a user name. In requests to a proxy, HTTP clients send neither a user name nor
    characters that are not ASCII."""
    of_yt_dlp = way == "address of yt-dlp"
    of_client = way == "page of a client"
    hosts = LEGAL | ({} if of_yt_dlp else UNICODE) | ({} if of_yt_dlp or of_client else WITH_USER)
    with scene(everything_is_inside, allowed=True) as here:
        assert await outcomes(WAYS[way], here, hosts) == dict.fromkeys(hosts, "passed")


PUBLIC = [
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
]
PUBLIC += ["169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"]
PUBLIC += ["198.20.0.0", "223.255.255.255", "168.63.129.15", "168.63.129.17", "1.0.0.1", "::ffff:8.8.8.8"]
PUBLIC += ["2606:4700::1", "2001:200::1", "2003::1", "64:ff9b::8.8.8.8", "2600::5efe:8.8.8.8", "2600::5eff:10.0.0.1"]


@pytest.mark.parametrize("address", PUBLIC)
async def test_a_public_address_next_to_an_internal_network_is_allowed(address: str) -> None:
    """No test can connect to this address, so the test checks only what the guard decides."""
    found = await resolve_host(Guard(), address, 443, lookup=everything_is_inside)
    assert found == (address.removeprefix("::ffff:") if address.startswith("::ffff:") else str(ip_address(address)),)


@pytest.mark.parametrize(
    "location",
    [
        "/\\127.0.0.1:{port}/target.ts",
        "\\\\127.0.0.1:{port}/target.ts",
        "/..//127.0.0.1:{port}/target.ts",
        "/%2f127.0.0.1:{port}/target.ts",
        "http:/127.0.0.1:{port}/target.ts",
        "http:127.0.0.1:{port}/target.ts",
        "///127.0.0.1:{port}/target.ts",
        "?http://127.0.0.1:{port}/target.ts",
        "#@127.0.0.1:{port}/target.ts",
        "/@127.0.0.1:{port}/target.ts",
        "\t//127.0.0.1:{port}/target.ts",
        "https://127.0.0.1:{port}/target.ts",
        "ftp://127.0.0.1:{port}/target.ts",
        "file:///etc/passwd",
        "data:video/mp2t;base64,R0dHRw==",
        "javascript:1",
    ],
)
async def test_no_form_of_a_redirect_leads_to_an_internal_address(location: str) -> None:
    """The server refuses the redirect, or the redirect leads to another path of the allowed media server."""
    with scene(everything_is_inside, allowed=False) as here:
        field = location.replace("{port}", str(here.target.port)).encode()
        here.pages["/start"] = b"HTTP/1.1 302 x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % field
        with suppress(TargetForbidden, UpstreamFailed):
            await _fetch(here.client(), f"http://127.0.0.1:{here.outside.port}/start")
        assert here.target.heads == []
        assert len(here.outside.heads) in (1, 2)
