"""Headers of all responses: they control caching, the pages that may embed or read a response, and the rights of media
in a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serverpy import Settings, create_app
from serverpy.api.protocol import TOO_LONG
from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving

ORIGIN = "https://app.example"
MEDIA = ("/page/prog", "/media/audio.mp3", "/page/hls-ts", "/tube/watch/pair")


@pytest.mark.parametrize("page", MEDIA)
@pytest.mark.parametrize("method", ["auto", "embedded"])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_caches_must_revalidate_media(server: Server, page: str, method: str, verb: str) -> None:
    if (page, method) == ("/tube/watch/pair", "embedded"):
        return  # the embedded method answers 422 for a pair
    answer = server.get(page, verb=verb, method=method)
    assert (answer.status, answer.headers["cache-control"]) == (200, "private, no-cache")
    if answer.headers["accept-ranges"] == "bytes":
        again = server.get(page, verb=verb, method=method, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.headers["cache-control"]) == (304, "private, no-cache")


@pytest.mark.parametrize("start", [{}, {"start": 0}, {"start": -5}])
@pytest.mark.parametrize("page", ["page", "tube"])
def test_a_live_stream_is_not_stored(server: Server, site: SampleSite, page: str, start: dict[str, Any]) -> None:
    """Broadcasts of both kinds: the page says that the media is live, or only its playlist does."""
    spec = f"clock=step,id=headers-{page}"
    site.broadcast(spec).step(3)
    with server.open(f"/{page}/live/{spec}", receive_bytes=4096, **start) as exchange:
        assert exchange.status == 200
        assert exchange.headers["cache-control"] == "no-store"
        assert "etag" not in exchange.headers
    server.settled()


@pytest.mark.parametrize(
    ("verb", "target", "status"),
    [
        *(("GET", path, 200) for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json")),
        ("HEAD", "/ready", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/stream", 405),
        ("GET", "/stream", 400),
        ("GET", "/info?url=ftp://x", 400),
        ("GET", "/stream?url=http://127.0.0.1:1/", 403),
        ("GET", f"/ready?{'x' * 40_000}", 414),
    ],
)
def test_statistics_and_errors_are_not_stored(server: Server, verb: str, target: str, status: int) -> None:
    answer = server.ask(target, verb=verb)
    assert (answer.status, answer.headers["cache-control"]) == (status, "no-store")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-site"


@pytest.mark.parametrize(
    ("fetch_site", "policy"), [("same-site", "cross-origin"), ("cross-site", "same-site"), ("none", "same-site")]
)
def test_pages_of_the_same_site_may_embed_media(server: Server, fetch_site: str, policy: str) -> None:
    answer = server.get("/page/prog", verb="HEAD", headers={"Sec-Fetch-Site": fetch_site})
    assert answer.headers["cross-origin-resource-policy"] == policy


def test_info_is_not_stored(server: Server) -> None:
    assert server.get("/page/prog", path="/info").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("page", MEDIA)
def test_media_runs_no_scripts_and_keeps_its_origin(server: Server, page: str) -> None:
    headers = server.get(page, verb="HEAD").headers
    policy = {each.strip() for each in headers["content-security-policy"].split(";")}
    assert {"script-src 'none'", "object-src 'none'"} <= policy
    assert not any(each.startswith("sandbox") for each in policy)
    assert headers["x-content-type-options"] == "nosniff"


def test_the_log_line_names_client_host_site_and_status(site: SampleSite) -> None:
    host = re.escape(site.http.removeprefix("http://"))
    with serving(site, log_level="info") as server:
        server.get("/page/prog?key=secret", headers={"Range": "bytes=0-9"})
        server.get("/page/prog?key=secret", headers={"Range": "bytes=99999999-"})
        server.get("/tube/watch/geo")
        server.get("ftp://user:secret@x/")
        server.get("http://127.0.0.1:1/secret")
        lines = [
            rf"[0-9a-f]{{16}} 127\.0\.0\.1 {host} html5 206 relay: complete, 10 bytes in \d",
            rf"[0-9a-f]{{16}} 127\.0\.0\.1 {host} html5 416 relay: range_not_satisfiable, 0 bytes in \d",
            rf"[0-9a-f]{{16}} 127\.0\.0\.1 {host} - 403 -: geo_restricted, 0 bytes in \d",
            r"[0-9a-f]{16} 127\.0\.0\.1 - - 400 -: invalid_url, 0 bytes in \d",
            r"[0-9a-f]{16} 127\.0\.0\.1 127\.0\.0\.1:1 - 403 -: target_forbidden, 0 bytes in \d",
        ]
        wait_for(lambda: all(re.search(line, server.log) for line in lines), lambda: server.log)
        assert "secret" not in server.log


# CORS


@asynccontextmanager
async def calling(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(**settings), checks_host=True)
    add_bugs(app)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def add_bugs(app: FastAPI) -> None:
    """Add a path that raises an unforeseen error. Make a request to `/long` look too long, as only ServerPY's own HTTP
    protocol class reports it."""

    @app.get("/bug")
    async def bug() -> None:
        raise ValueError("unforeseen")

    inner = app.build_middleware_stack()

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/long":
            scope["extensions"] = {TOO_LONG: "headers"}
        await inner(scope, receive, send)

    app.middleware_stack = outer


EVERY = [
    *(
        ("GET", target, {}, status)
        for target, status in (("/docs", 200), ("/nowhere", 404), ("/bug", 500), ("/long", 431))
    ),
    ("POST", "/stream", {}, 405),
    ("GET", "/info", {}, 400),
    ("GET", "/stream?item=0&url=http://x/", {}, 400),
    ("GET", "/nowhere", {"Host": "evil.example"}, 421),
    ("OPTIONS", "/stream", {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}, 200),
]


@pytest.mark.parametrize(("verb", "target", "headers", "status"), EVERY)
async def test_an_allowed_origin_can_read_every_response(
    verb: str, target: str, headers: dict[str, str], status: int
) -> None:
    async with calling(cors_origins=ORIGIN) as client:
        answer = await client.request(verb, target, headers={"Origin": ORIGIN, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        other = await client.request(verb, target, headers={"Origin": "https://other.example", **headers})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(("verb", "target", "headers", "status"), EVERY[:-1])
async def test_without_allowed_origins_no_other_page_can_read_a_response(
    verb: str, target: str, headers: dict[str, str], status: int
) -> None:
    async with calling() as client:
        answer = await client.request(verb, target, headers={"Origin": ORIGIN, **headers})
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-site"
