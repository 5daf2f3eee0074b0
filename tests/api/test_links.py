"""Tests of signed links over HTTP: `POST /links` issues a link, and `GET /s/{token}/{filename}` serves the media as
`/stream` does."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from serverpy import Settings, create_app
from serverpy.access.grant import Grant
from serverpy.access.key import Key
from serverpy.access.links import Link, derive, pack_network, sign
from serverpy.api.link_query import LINKABLE, make_link, parse_link_query
from serverpy.api.links import ANSWERS, Links
from serverpy.api.query import OF_HEAD, StreamQuery, parse_query, request_of
from serverpy.app import Application
from serverpy.errors import KeyForbids
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.links import issue, path_in, post
from tests.server import Server, serving
from tests.wire import Answer, request

FILM = "/media/prog-180.mp4"
BIG = "/media/large-64.mp4"
SECRET, NEWER = "the-secret-of-the-server", "a-newer-secret-of-the-server"
OF_ONE_REQUEST = {"x-request-id", "server-timing", "date"}


@pytest.fixture(scope="module")
def film(site: SampleSite) -> bytes:
    return site.path("prog-180.mp4").read_bytes()


def lasting(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OF_ONE_REQUEST}


# The response to a request for a link


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1"}, {"Range": "bytes=1000-"}, {"Range": "bytes=-7"}])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_a_link_returns_the_same_response_as_the_stream_route(
    server: Server, verb: str, headers: dict[str, str]
) -> None:
    link = server.ask(issue(server, FILM), verb=verb, headers=headers)
    stream = server.get(FILM, verb=verb, headers=headers)
    assert (link.status, link.body, link.complete) == (stream.status, stream.body, stream.complete)
    assert lasting(link) == lasting(stream)


def test_preconditions_and_ranges_of_a_request_for_a_link_are_evaluated(server: Server) -> None:
    path = issue(server, FILM)
    etag = server.ask(path, verb="HEAD").headers["etag"]
    assert server.ask(path, headers={"If-None-Match": etag}).status == 304
    assert server.ask(path, headers={"If-Match": '"other"'}).code == "precondition_failed"
    assert server.ask(path, headers={"Range": "bytes=99999999-"}).code == "range_not_satisfiable"


def test_a_link_contains_the_method_and_file_name_of_the_stream(server: Server) -> None:
    path = issue(server, "/page/prog", method="embedded", filename="Ein Früchtchen.mp4", download=True)
    assert path.endswith("/Ein%20Fr%C3%BCchtchen.mp4")
    answer = server.ask(path, verb="HEAD")
    assert answer.headers["x-serverpy-method"] == "embedded"
    assert answer.headers["content-disposition"].startswith("attachment; filename")
    assert answer.headers["content-disposition"].endswith("Ein%20Fr%C3%BCchtchen.mp4")


def test_a_link_ignores_all_query_parameters_of_its_url_except_download(server: Server, film: bytes) -> None:
    path = issue(server, FILM)
    whole = server.ask(f"{path}?url=http://127.0.0.1/&method=subprocess&filename=a.mp4&format=x&to=mp3&nonsense")
    assert (whole.status, whole.body, whole.headers["x-serverpy-method"]) == (200, film, "relay")
    assert whole.headers["content-disposition"].startswith("inline;")
    assert server.ask(f"{path}?download=1").headers["content-disposition"].startswith("attachment;")
    forced = issue(server, FILM, download=True)
    assert server.ask(f"{forced}?download=0").headers["content-disposition"].startswith("inline;")
    assert server.ask(f"{path}?download=perhaps").code == "invalid_parameter"


def test_a_link_ignores_the_file_name_in_its_path(server: Server, film: bytes) -> None:
    token = issue(server, FILM).split("/")[2]
    answer = server.ask(f"/s/{token}/evil.exe")
    assert answer.body == film
    assert "evil" not in answer.headers["content-disposition"]
    assert server.ask(f"/s/{token}/").body == film
    assert server.ask(f"/s/{token}").body == film
    assert server.ask(f"/s/{token}?download=1", verb="HEAD").headers["content-disposition"].startswith("attachment;")
    assert server.ask(f"/s/{token[:-1]}").code == server.ask(f"/s/{token[:-1]}/").code == "link_invalid"
    assert server.ask("/s/").code == server.ask("/s").code == "not_found"
    assert server.ask(f"/s/{token}/a/b").code == "not_found"
    assert server.ask(f"/s/{token}/a", verb="DELETE").code == "method_not_allowed"


PARAMETERS: dict[str, tuple[Any, Any]] = {
    "url": (f"http://127.0.0.1:1{FILM}", f"http://127.0.0.1:1{FILM}"),
    "format": ("22", "22"),
    "to": ("mp4", "mp4"),
    "method": ("relay", "relay"),
    "height": (720, 720),
    "codec": ("vp9", "vp9"),
    "lang": ("pt-BR", "pt-BR"),
    "max_size": ("50MB", 50_000_000),
    "item": (2, 2),
    "start": (-30, -30.0),
    "download": (True, True),
    "filename": ("film.mp4", "film.mp4"),
}
"""Maps each parameter of `/stream` to a value that is not its default, and to the value that the server reads."""
UNSUPPORTED = {"end"}
"""Parameters of `/stream` that are not supported: the server refuses every request and every link with one of them."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_link_contains_each_parameter_of_the_stream_route(name: str) -> None:
    value, read = PARAMETERS[name]
    query = parse_link_query({"url": "http://a/", name: value})
    link = make_link(query, now=0, ttl=60)
    assert {"url": link.url, **link.params}[name] == read
    streamed = parse_query(urlencode({"url": "http://a/", name: value}).encode())
    assert StreamQuery.model_validate({"url": link.url, **link.params}) == streamed
    assert request_of(query) == request_of(streamed)
    assert name in OF_HEAD or getattr(request_of(query), name) == read


def test_the_table_of_parameters_in_this_module_is_complete() -> None:
    assert PARAMETERS.keys() | UNSUPPORTED == StreamQuery.model_fields.keys()


def test_a_parameter_of_the_stream_route_without_a_field_in_the_request_of_a_stream_raises_type_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Later(StreamQuery):
        colour: str = "red"

    monkeypatch.setattr("serverpy.api.query.StreamQuery", Later)
    with pytest.raises(TypeError, match="colour"):
        request_of(Later.model_validate({"url": "http://a/"}))


@pytest.mark.parametrize("parameters", [{"height": 144}, {"height": "max"}, {"codec": "vp9"}, {"max_size": "2MB"}])
def test_a_link_chooses_the_same_format_as_the_stream_route(server: Server, parameters: dict[str, Any]) -> None:
    link = server.ask(issue(server, "/tube/watch/full", **parameters), verb="HEAD")
    stream = server.get("/tube/watch/full", verb="HEAD", **parameters)
    assert link.status == stream.status == 200
    assert lasting(link) == lasting(stream)


def test_a_link_to_a_page_without_media_or_with_an_invalid_format_returns_an_error(server: Server) -> None:
    assert server.ask(issue(server, "/page/nothing")).code == "media_not_found"
    assert server.ask(issue(server, FILM, format="nonsense[")).status in (400, 404)


# Issuing links


def test_the_response_to_post_links_contains_the_expiry_and_a_url_with_the_host_of_the_request(server: Server) -> None:
    before = time.time()
    answer = post(server, {"url": f"{server.site.http}{FILM}", "to": "mp4", "ttl": 100})
    document = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert document.keys() == {"url", "expires"}
    assert document["url"].startswith(f"http://127.0.0.1:{server.port}/s/")
    assert document["url"].endswith("/media.mp4")
    expires = datetime.fromisoformat(document["expires"]).timestamp()
    assert before + 98 < expires <= time.time() + 100
    usual = post(server, {"url": "http://a.example/"}).json()
    assert 21590 < datetime.fromisoformat(usual["expires"]).timestamp() - before < 21660


def test_the_path_of_a_link_does_not_reveal_the_url_of_the_page(server: Server) -> None:
    path = issue(server, "/media/prog-180.mp4?secret=hush")
    assert not any(word in path for word in ("prog", "secret", "hush", "127.0.0.1"))


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({}, "invalid_parameter", "`url`"),
        ({"url": "file:///etc/passwd"}, "invalid_url", "http://"),
        ({"url": "http://a/", "route": "stream.m3u8"}, "invalid_parameter", "`route`"),
        ({"url": "http://a/", "route": "feed"}, "invalid_parameter", "`route`"),
        ({"url": "http://a/", "colour": "red"}, "invalid_parameter", "`colour`"),
        ({"url": "http://a/", "ttl": 0}, "invalid_parameter", "`ttl`"),
        ({"url": "http://a/", "ttl": 1e9}, "invalid_parameter", "`ttl`"),
        ({"url": "http://a/", "uses": 0}, "invalid_parameter", "`uses`"),
        ({"url": "http://a/", "uses": 10**30}, "invalid_parameter", "`uses`"),
        ({"url": "http://a/", "bytes": "99999999999TiB"}, "invalid_parameter", "`bytes`"),
        ({"url": "http://a/", "item": 10**30}, "invalid_parameter", "`item`"),
        (rb'{"url": "http://a/", "filename": "\ud800"}', "invalid_parameter", ""),
        ({"url": "http://a/", "method": "redirect", "uses": 1}, "invalid_parameter", "`method`"),
        ({"url": "http://a/", "bytes": "many"}, "invalid_parameter", "`bytes`"),
        ({"url": "http://a/", "network": "home"}, "invalid_parameter", "`network`"),
        ({"url": "http://a/", "network": "10.0.0.0/99"}, "invalid_parameter", "`network`"),
        ({"url": "http://a/", "item": 0}, "invalid_parameter", "`item`"),
        (
            {"url": "http://a/", "height": "tall"},
            "invalid_parameter",
            "`height`: must be a number of pixels, or `max`.",
        ),
        ({"url": "http://a/", "height": 0}, "invalid_parameter", "`height`"),
        ({"url": "http://a/", "max_size": "-1"}, "invalid_parameter", "`max_size`"),
        ({"url": "http://a/", "lang": "e n"}, "invalid_parameter", "`lang`"),
        ({"url": "http://a/", "method": "magic"}, "invalid_parameter", "`method`"),
        ({"url": "http://a/", "end": 3}, "invalid_parameter", "end"),
        ({"url": "http://a/", "to": "flv"}, "invalid_parameter", "`to`"),
        ({"url": "http://a/", "to": "slideshow"}, "unsupported_conversion", "slideshow"),
        ({"url": "http://a/", "format": "".join(map(chr, range(200, 9000)))}, "invalid_parameter", "longer than"),
        ([], "invalid_parameter", "The body must be a JSON object"),
        (b"", "invalid_parameter", "The body must be a JSON object"),
        (b"{", "invalid_parameter", "The body is not valid JSON."),
        ({"url": "http://a/", "bytes": "10XB"}, "invalid_parameter", "`bytes`: must be a number of bytes"),
        ({"url": "http://a/", "bytes": "9" * 5000}, "invalid_parameter", "`bytes`: must be a number of bytes"),
        *(
            ({"url": "http://a/", name: value}, "invalid_parameter", f"`{name}`: must not be true or false.")
            for name in ("ttl", "uses", "bytes", "item", "start", "end")
            for value in (True, False)
        ),
        ({"url": "http://a/", "format": "bv)"}, "invalid_parameter", "closing bracket"),
        ({"url": "http://a/", "method": "subprocess", "to": "mp4"}, "unsupported_conversion", "leave out `to`"),
        ({"url": "http://a/", "method": "redirect", "start": 3}, "invalid_parameter", "`start`"),
        (b"\xff", "bad_request", ""),
        (b'{"url": "http://a/"} ' + b" " * 65536, "too_large", ""),
    ],
)
def test_post_links_refuses_invalid_parameters(server: Server, body: object, code: str, detail: str) -> None:
    answer = post(server, body)
    assert answer.code == code
    assert detail in answer.json()["detail"]
    assert answer.complete


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_post_links_refuses_a_body_that_is_not_declared_as_json(server: Server, content_type: str) -> None:
    """A page of another origin can send a body of another media type without a CORS preflight."""
    answer = post(server, {"url": "http://a/"}, headers={"Content-Type": content_type})
    assert (answer.status, answer.code) == (400, "invalid_parameter")
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize("size", ["1024", 1024])
def test_the_byte_limit_of_a_link_may_be_a_number_or_a_string(server: Server, size: object) -> None:
    assert post(server, {"url": "http://a/", "bytes": size}).status == 200


def test_every_route_for_which_links_can_be_issued_has_a_handler() -> None:
    assert LINKABLE.keys() == ANSWERS.keys()


# Limits of links


def test_only_a_response_that_begins_with_the_first_byte_counts_as_a_use_of_a_link(server: Server, film: bytes) -> None:
    path = issue(server, FILM, uses=1)
    etag = server.ask(path, verb="HEAD").headers["etag"]
    assert server.ask(path, headers={"If-None-Match": etag}).status == 304
    assert server.ask(path, headers={"Range": "bytes=0-1"}).body == film[:2]
    assert server.ask(path, headers={"Range": f"bytes={len(film)}-"}).status == 416
    assert server.ask(path, headers={"Range": "bytes=0-"}).body == film
    assert server.ask(path, headers={"Range": "bytes=1000-"}).body == film[1000:]
    assert server.ask(path, verb="HEAD").status == 200
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=0-99"}):
        again = server.ask(path, headers=headers)
        assert (again.status, again.code) == (403, "link_invalid")


def test_a_request_that_fails_does_not_count_as_a_use_of_a_link(server: Server) -> None:
    path = issue(server, "/page/nothing", uses=1)
    assert [server.ask(path).code for _ in range(3)] == ["media_not_found"] * 3


def test_get_requests_for_a_link_are_refused_after_its_byte_limit_is_used_up(server: Server, film: bytes) -> None:
    path = issue(server, FILM, bytes=len(film))
    assert server.ask(path, headers={"Range": "bytes=0-999"}).body == film[:1000]
    rest = server.ask(path, headers={"Range": "bytes=1000-"})
    assert (rest.body, rest.complete) == (film[1000:], True)
    assert server.ask(path).code == "link_invalid"
    assert server.ask(path, headers={"Range": "bytes=5-"}).code == "link_invalid"
    assert server.ask(path, verb="HEAD").status == 200


def test_a_stream_that_exceeds_the_byte_limit_of_its_link_is_cut(server: Server) -> None:
    path = issue(server, BIG, bytes="1MiB")
    answer = server.ask(path)
    assert not answer.complete
    assert 0 < len(answer.body) <= 1024 * 1024
    assert server.ask(path).code == "link_invalid"
    wait_for(lambda: ": quota_exceeded," in server.log)


@pytest.mark.parametrize(
    ("network", "status"), [("client", 200), ("127.0.0.0/8", 200), ("192.0.2.7", 403), ("2001:db8::1", 403)]
)
def test_a_link_for_one_network_is_refused_for_clients_in_other_networks(
    server: Server, network: str, status: int
) -> None:
    path = issue(server, FILM, network=network)
    assert server.ask(path, verb="HEAD").status == status
    by_proxy = {
        "X-Forwarded-For": "192.0.2.7",
        "X-Real-IP": "2001:db8::1",
    }  # these fields have no effect, because no proxy is trusted
    assert server.ask(path, verb="HEAD", headers=by_proxy).status == 403


# Applications in the process of the test


@pytest.mark.parametrize("header", [{}, {"Range": "bytes=500-1999"}])
def test_a_stream_is_cut_at_the_byte_limit_of_its_link_even_if_the_limit_is_less_than_one_chunk(
    server: Server, film: bytes, header: dict[str, str]
) -> None:
    path = issue(server, FILM, bytes=1000)
    answer = server.ask(path, headers=header)
    first = 500 if header else 0
    assert (answer.status, answer.complete) == (206 if header else 200, False)
    assert answer.body == film[first : first + 1000]
    assert server.ask(path).code == "link_invalid"


@pytest.fixture
def settings(site: SampleSite) -> Settings:
    """Return settings with timeouts that are long enough for a slow machine."""
    return Settings(
        allow_networks=(site.http.removeprefix("http://"),),
        link_secret=(SecretStr(SECRET),),
        wait_seconds=60,
        extract_timeout=60,
        connect_timeout=30,
    )


def calling(app: FastAPI, client: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(client, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60)


def link_to(site: SampleSite, **more: Any) -> Link:
    return Link(url=f"{site.http}{FILM}", id=b"12345678", **{"expires": int(time.time()) + 600, **more})


def path_of(link: Link, secret: str = SECRET) -> str:
    return f"/s/{sign(link, derive(secret))}/film.mp4"


async def issued_by(app: Application, path: str = "/links", **more: Any) -> str:
    """Issue a link by `app`, and return the URL of the link."""
    async with calling(app) as client:
        answer = await client.post(path, json={"url": "http://a/", **more})
        assert answer.status_code == 200, answer.text
        url: str = answer.json()["url"]
        return url


async def status(app: Application, url: str) -> int:
    async with calling(app) as client:
        return int((await client.head(urlsplit(url).path)).status_code)


async def test_a_server_accepts_the_links_of_another_server_with_the_same_state_directory(
    site: SampleSite, settings: Settings, tmp_path: Path
) -> None:
    shared = settings.model_copy(update={"link_secret": (), "state_dir": tmp_path / "state"})
    first, second = create_app(shared), create_app(shared)
    url = await issued_by(first, url=f"{site.http}{FILM}")
    async with aclosing(second):
        assert await status(second, url) == 200


async def test_a_server_without_a_state_directory_warns_that_its_links_become_invalid_when_it_stops(
    site: SampleSite, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    alone = settings.model_copy(update={"link_secret": (), "state_dir": None})
    app, restarted = create_app(alone), create_app(alone)
    url = await issued_by(app, url=f"{site.http}{FILM}")
    async with aclosing(app):
        assert await status(app, url) == 200
    assert await status(restarted, url) == 403
    assert "signed links and sessions become invalid when the server stops" in caplog.text


async def test_a_link_begins_with_public_url_if_that_is_set(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"public_url": "https://media.example:8443/films/"}))
    assert (await issued_by(app)).startswith("https://media.example:8443/films/s/")


async def test_a_link_begins_with_the_forwarded_scheme_and_host_only_if_the_proxy_is_trusted(
    settings: Settings,
) -> None:
    app = create_app(settings.model_copy(update={"trusted_proxies": ("192.0.2.0/24",), "open": True}))
    fields = {"X-Forwarded-Host": "media.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    for address, base in (("192.0.2.1", "https://media.example"), ("198.51.100.1", "http://test")):
        async with calling(app, address) as client:
            answer = await client.post("/links", json={"url": "http://a/"}, headers=fields)
            assert answer.json()["url"].startswith(f"{base}/s/")


async def test_a_server_with_a_root_path_serves_paths_with_and_without_the_root_path(
    site: SampleSite, settings: Settings
) -> None:
    app = create_app(settings.model_copy(update={"root_path": "/films"}))
    async with calling(app) as client, aclosing(app):
        for path in ("/films/links", "/links"):
            url = await issued_by(app, path, url=f"{site.http}{FILM}")
            assert url.startswith("http://test/films/s/")
        assert await status(app, url) == 200
        assert await status(app, urlsplit(url).path.removeprefix("/films")) == 200
        for path, expected in (("/films/docs", 200), ("/docs", 200), ("/filmsdocs", 404)):
            assert (await client.get(path)).status_code == expected
        assert (await client.get("/films/openapi.json")).json()["servers"] == [{"url": "/films"}]


async def test_a_link_of_a_mounted_application_begins_with_the_mount_path(site: SampleSite, settings: Settings) -> None:
    app, parent = create_app(settings), FastAPI()
    parent.mount("/media", app)
    async with calling(parent) as client, aclosing(app):
        answer = await client.post("/media/links", json={"url": f"{site.http}{FILM}"})
        url = answer.json()["url"]
        assert url.startswith("http://test/media/s/")
        assert (await client.head(urlsplit(url).path)).status_code == 200


async def test_a_link_secret_can_be_replaced_while_streams_run(site: SampleSite, settings: Settings) -> None:
    """A server accepts a link that any of the server's secrets has signed. A running stream no longer needs the secret
    of its link."""
    both = create_app(settings.model_copy(update={"link_secret": (SecretStr(NEWER), SecretStr(SECRET))}))
    new = create_app(settings.model_copy(update={"link_secret": (SecretStr(NEWER),)}))
    with serving(site, link_secret=SECRET) as old:
        path = issue(old, BIG)
        with old.send(request(path, "127.0.0.1"), receive_bytes=4096) as playing:
            first = playing.read(200_000)
            async with aclosing(both), aclosing(new):
                async with calling(both) as client:
                    resumed = await client.get(path, headers={"Range": "bytes=100000-199999"})
                    assert (resumed.status_code, resumed.content) == (206, first[100_000:200_000])
                newer = await issued_by(both, url=f"{site.http}{FILM}")
                assert [await status(app, newer) for app in (both, new)] == [200, 200]
                assert [await status(app, path) for app in (both, new)] == [200, 403]
            assert old.ask(urlsplit(newer).path).code == "link_invalid"
            assert len(playing.read(1_000_000)) >= 1_000_000


async def test_a_link_that_expired_more_than_a_minute_ago_is_refused(site: SampleSite, settings: Settings) -> None:
    app = create_app(settings)
    async with calling(app) as client, aclosing(app):
        late = await client.head(path_of(link_to(site, expires=int(time.time()) - 50)))
        assert late.status_code == 200
        expired = await client.get(path_of(link_to(site, expires=int(time.time()) - 61)))
        assert (expired.status_code, expired.json()["code"]) == (403, "link_expired")
        other = await client.get(path_of(link_to(site), NEWER))
        assert (other.status_code, other.json()["code"]) == (403, "link_invalid")
        assert other.headers["cache-control"] == "no-store"
        assert +app.state.server.refusals.codes == {"link_expired": 1, "link_invalid": 1}


@pytest.mark.parametrize("more", [{"route": "archive"}, {"params": {"colour": "red", "to": "later"}}])
async def test_a_link_with_an_unknown_route_or_parameter_is_refused(
    site: SampleSite, settings: Settings, more: Any
) -> None:
    app = create_app(settings)
    async with calling(app) as client:
        answer = await client.get(path_of(link_to(site, **more)))
        assert (answer.status_code, answer.json()["code"]) == (403, "link_invalid")


async def test_a_link_for_an_ipv6_address_admits_only_clients_in_the_same_64_bit_prefix(
    site: SampleSite, settings: Settings
) -> None:
    app = create_app(settings)
    path = path_of(link_to(site, packed_network=pack_network("2001:db8:1:2::1")))
    async with aclosing(app):
        for address, status in (("2001:db8:1:2:3::9", 200), ("2001:db8:1:3::1", 403), ("::1", 403)):
            async with calling(app, address) as client:
                assert (await client.head(path)).status_code == status


def random_paths(count: int) -> Iterator[str]:
    """Yield at most `count` paths of links. Half of their tokens are random, and the others are mutations of a valid
    token."""
    chance = random.Random(11)
    valid = sign(Link(url="http://127.0.0.1/", expires=2**31, id=b"1"), derive(SECRET))
    for number in range(count):
        if number % 2:
            token = "".join(chance.choices(string.printable[:95].replace("/", ""), k=chance.randrange(1, 300)))
        else:
            place = chance.randrange(len(valid))
            token = valid[:place] + chance.choice("Aa0-_~ä") + valid[place + chance.randrange(3) :]
        if token != valid:
            yield f"/s/{token}/{chance.choice(['media', 'a.mp4', 'ä', '%'])}"


async def test_none_of_10000_random_and_mutated_tokens_is_accepted(settings: Settings) -> None:
    app = create_app(settings)
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for path in random_paths(10_000):
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": b"", "query_string": b"", "headers": [],
            "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("test", 80),
            "asgi": {"version": "3.0"},
        }  # fmt: skip
        await app(scope, receive, send)
    assert set(statuses) == {403}
    assert len(statuses) > 9000


class OneSite(Grant):
    """The grant of a key that allows only the method `relay`, and no site."""

    account = "family"

    @property
    def methods(self) -> tuple[str, ...]:
        return ("relay",)

    def check_site(self, extractor: str) -> None:
        raise KeyForbids("This key may not be used for this site.")


def with_keys(app: Application, settings: Settings, keys: dict[str, Key], grant: Grant) -> None:
    """Make `app` use the API keys in `keys`, each of which has the rights of `grant`. A request names its key in the
    header field `X-Key`."""

    async def find(name: str, digest: bytes) -> Key | None:
        key = keys.get(name)
        return key if key is not None and key.digest.startswith(digest) else None

    app.state.links = Links(
        settings,
        app.state.links.secrets,
        key_of=lambda request: keys.get(request.headers.get("X-Key", "")),
        find_key=find,
        grant_for=lambda _key: grant,
    )


async def test_a_link_is_refused_after_its_key_was_replaced_or_revoked(site: SampleSite, settings: Settings) -> None:
    app, keys = create_app(settings), {"family": Key(name="family", digest=bytes(range(32)))}
    with_keys(app, settings, keys, Grant())
    async with calling(app) as client, aclosing(app):
        issued = await client.post("/links", json={"url": f"{site.http}{FILM}"}, headers={"X-Key": "family"})
        path = path_in(issued.json())
        assert (await client.head(path)).status_code == 200
        keys["family"] = Key(name="family", digest=bytes(32))  # another key with the same name
        assert (await client.get(path)).json()["code"] == "link_invalid"
        del keys["family"]
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "link_invalid")
        free = await client.post("/links", json={"url": f"{site.http}{FILM}"})
        assert (await client.head(path_in(free.json()))).status_code == 200


async def test_a_link_without_a_key_is_refused_on_a_server_that_requires_keys_unless_the_operator_signed_the_link(
    site: SampleSite, settings: Settings
) -> None:
    app = create_app(settings.model_copy(update={"require_key": True}))
    async with calling(app) as client, aclosing(app):
        answer = await client.head(path_of(link_to(site)))
        assert (answer.status_code, (await client.get(path_of(link_to(site)))).json()["code"]) == (403, "link_invalid")
        assert (await client.head(path_of(link_to(site, by_operator=True)))).status_code == 200


async def test_a_link_expires_no_later_than_the_key_that_issued_it(settings: Settings) -> None:
    until = datetime.fromisoformat("2030-01-31T00:00:00+00:00")
    app, keys = create_app(settings), {"family": Key(name="family", digest=bytes(32), expires=until)}
    with_keys(app, settings, keys, Grant())
    async with calling(app) as client:
        asked = {"url": "http://a/", "ttl": 366 * 86400}
        short = await client.post("/links", json={**asked, "ttl": 60}, headers={"X-Key": "family"})
        assert datetime.fromisoformat(short.json()["expires"]) < until
        keys["family"] = Key(name="family", digest=bytes(32), expires=datetime.fromtimestamp(1, until.tzinfo))
        expired = await client.post("/links", json=asked, headers={"X-Key": "family"})
        assert datetime.fromisoformat(expired.json()["expires"]).timestamp() == 1


async def test_a_link_allows_only_the_methods_and_sites_that_are_allowed_to_the_key_that_issued_it(
    site: SampleSite, settings: Settings
) -> None:
    app, keys = create_app(settings), {"family": Key(name="family", digest=bytes(32))}
    with_keys(app, settings, keys, OneSite())
    async with calling(app) as client, aclosing(app):
        mine = {"key": "family", "digest": bytes(8)}
        for params in ({}, {"method": "embedded"}):
            answer = await client.get(path_of(link_to(site, params=params, **mine)))
            assert (answer.status_code, answer.json()["code"]) == (403, "key_forbids")
        assert (await client.head(path_of(link_to(site)))).status_code == 200


@pytest.mark.parametrize(
    ("rights", "parameters", "status"),
    [
        ({"methods": ("embedded",)}, {"method": "relay"}, 403),
        ({"methods": ("embedded",)}, {"method": "embedded"}, 200),
        ({"methods": ("embedded",)}, {}, 200),
        ({"methods": ("redirect",)}, {}, 403),
        ({"sites": ("youtube",)}, {"method": "subprocess"}, 403),
        ({"sites": ("youtube",)}, {"method": "relay"}, 200),
    ],
)
async def test_a_key_cannot_issue_a_link_that_its_rights_would_always_refuse(
    settings: Settings, rights: dict[str, Any], parameters: dict[str, str], status: int
) -> None:
    app = create_app(settings)
    with_keys(app, settings, {"family": Key(name="family", digest=bytes(32), **rights)}, Grant())
    async with calling(app) as client:
        answer = await client.post("/links", json={"url": "http://a/", **parameters}, headers={"X-Key": "family"})
    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "key_forbids"


async def test_the_openapi_schema_describes_the_routes_for_links(settings: Settings) -> None:
    app = create_app(settings)
    async with calling(app) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths["/s/{token}/{filename}"]) == {"get", "head"}
    assert {"200", "400", "413"} <= set(paths["/links"]["post"]["responses"])
    codes = paths["/s/{token}/{filename}"]["get"]["responses"]["403"]["content"]["application/problem+json"]["examples"]
    assert {"link_invalid", "link_expired", "target_forbidden"} <= set(codes)
