"""Tests of the gate, which checks the credentials of each request before its route runs. A table in this module states
whether the gate admits or refuses each kind of caller at each route. A route that is not in the table fails the
test."""

from __future__ import annotations

import base64
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.routing import Route
from starlette.types import Message

from serverpy import Settings, create_app
from serverpy.access.clients import parse_networks
from serverpy.access.credentials import COOKIE
from serverpy.access.key import Key
from serverpy.access.keys import digest_of, format_key
from serverpy.access.links import DIGEST_BYTES, Link, derive
from serverpy.access.links import sign as sign_link
from serverpy.access.sessions import session_secret, sign
from serverpy.access.tries import LIMIT
from serverpy.app import Application

LINK_SECRET = "a-secret-of-this-test-that-signs-links"
ELSEWHERE = "192.0.2.9"
SECRETS = {name: f"{name}-wekibC8900KKKeQD2yJbTK3Fhh8Ji-9N3oPf" for name in ("admin", "plain", "expired", "bound")}


def key(name: str, **rights: Any) -> Key:
    return Key(name=name, digest=digest_of(SECRETS[name].encode()), **rights)


KEYS = (
    format_key(key("admin", admin=True))
    + format_key(key("plain"))
    + format_key(key("expired", admin=True))
    + "expires = 2020-01-01\n"
    + format_key(key("bound", admin=True, networks=parse_networks(["198.51.100.0/24"])))
)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(KEYS)
    return path


def application(path: Path | None, **settings: Any) -> Application:
    return create_app(Settings(api_keys_file=path, link_secret=(SecretStr(LINK_SECRET),), **settings))


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS.get(name, name)}"}


def session(of: Key) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={sign(session_secret(LINK_SECRET), of, 4_000_000_000)}"}


def client_at(app: FastAPI, address: str = ELSEWHERE) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60)


@contextlib.asynccontextmanager
async def calling(app: Application, address: str = ELSEWHERE) -> AsyncIterator[httpx.AsyncClient]:
    async with client_at(app, address) as client, contextlib.aclosing(app):
        yield client


# The table of routes and callers

LINK = Link(
    url="ftp://a/", expires=4_000_000_000, id=b"12345678", key="plain", digest=key("plain").digest[:DIGEST_BYTES]
)
"""A valid link whose page URL the server refuses with 400, so no test needs a page."""
CALLERS: Mapping[str, Mapping[str, str]] = {
    "local": {},
    "none": {},
    "link": {},
    "bad": bearer("wrong"),
    "expired": bearer("expired"),
    "bound": bearer("bound"),
    "plain": bearer("plain"),
    "admin": bearer("admin"),
    "cookie": session(key("admin", admin=True)),
    "stale": session(Key(name="admin", digest=digest_of(b"an older key"))),
    "proxied": {"X-Forwarded-For": "198.51.100.1"},
    "admin by proxy": {"X-Forwarded-For": "198.51.100.1", **bearer("admin")},
}
"""Maps each kind of caller to the header fields of its requests. Only `local` is on this machine. `link` has a signed
link that was issued with the key `plain`. `bound` has a key that only another network may use. `plain` has a key
without admin rights. `cookie` has the session of an admin key, and `stale` has the session of an admin key that was
replaced."""

ANSWERS = {
    # Expected results by what the route needs and by REQUIRE_KEY: `-` if the gate admits the request, otherwise the
    # error code: R key_required, I key_invalid, F key_forbids, L link_invalid (the token in the path is not valid)
    #                       local none link bad expired bound plain admin cookie stale proxied admin-by-proxy
    ("nothing", False): "   -     -    -    -   -       -     -     -     -      -     -       -",
    ("nothing", True): "    -     -    -    -   -       -     -     -     -      -     -       -",
    ("signature", False): " L     L    -    L   L       L     L     L     L      L     L       L",
    ("signature", True): "  L     L    -    L   L       L     L     L     L      L     L       L",
    ("streams", False): "   -     R    R    I   I       F     F     -     -      I     F       F",
    ("streams", True): "    R     R    R    I   I       F     -     -     -      I     R       -",
    ("key", False): "       -     -    -    I   I       F     -     -     -      -     F       F",
    ("key", True): "        R     R    R    I   I       F     -     -     -      I     R       -",
    ("status", False): "    -     R    R    I   I       F     F     -     -      I     F       F",
    ("status", True): "     -     R    R    I   I       F     F     -     -      I     R       -",
}
CODES = {"-": None, "L": "link_invalid", "R": "key_required", "I": "key_invalid", "F": "key_forbids"}

NEEDS = {
    "GET /ready": "nothing",
    "GET /docs": "nothing",
    "GET /openapi.json": "nothing",
    "GET /robots.txt": "nothing",
    "POST /login": "nothing",
    "POST /logout": "nothing",
    "GET /stream": "key",
    "GET /info": "key",
    "POST /links": "key",
    "GET /s/{token}/{filename}": "signature",
    "GET /s/{token}/": "signature",
    "GET /s/{token}": "signature",
    "GET /streams": "streams",
    "DELETE /streams/{id}": "streams",
    "GET /health": "status",
    "GET /metrics": "status",
    # paths and methods without a route
    "GET /": "nothing",
    "POST /": "key",
    "GET /nowhere": "key",
    "POST /stream": "key",
    "GET /health/": "status",
}
"""Maps each route to what it needs from its caller (nothing, a key, a signed link, or rights). This need is the first
part of the keys of `ANSWERS`. HEAD needs the same as GET."""


def routes_of(app: Application) -> Iterator[str]:
    for route in app.routes:
        assert isinstance(route, Route), route
        yield from (f"{method} {route.path}" for method in route.methods or ())


@pytest.mark.parametrize("require_key", [False, True])
async def test_the_gate_admits_or_refuses_each_caller_at_each_route_as_the_table_in_this_module_states(
    keys_file: Path, require_key: bool
) -> None:
    app = application(keys_file, require_key=require_key)
    asked = {*NEEDS, *(f"HEAD {name[4:]}" for name in NEEDS if name.startswith("GET "))}
    missing = set(routes_of(app)) - asked
    assert not missing, f"add these routes to the table: {missing}"
    found, expected = {}, {}
    async with contextlib.aclosing(app):
        for number, route in enumerate(sorted(asked)):
            need = NEEDS[route.replace("HEAD", "GET")]
            expected[route] = dict(zip(CALLERS, map(CODES.get, ANSWERS[need, require_key].split()), strict=True))
            found[route] = {caller: await code(app, route, caller, f"192.0.2.{number}") for caller in CALLERS}
    assert found == expected


async def code(app: Application, route: str, caller: str, address: str) -> str | None:
    """Return the error code if the gate refuses the request, or None if the gate admits it. Also check that the status,
    the error code and `WWW-Authenticate` are consistent."""
    method, _, path = route.partition(" ")
    if caller == "link":
        path = path.replace("{token}", sign_link(LINK, derive(LINK_SECRET)))
    async with client_at(app, "127.0.0.1" if caller == "local" else address) as client:
        answer = await client.request(method, path, headers=CALLERS[caller])
    offered = answer.headers.get_list("www-authenticate")
    if answer.status_code not in (401, 403):
        # `/ready` is answered with 503 until the server has started
        assert answer.status_code < 429 or answer.status_code == 503, answer.text
        assert not offered
        return None
    if answer.status_code == 401:
        assert [each.partition(" ")[0] for each in offered] == ["Bearer", "Basic"]
    if method == "HEAD":  # a response to HEAD has no body that could contain the error code
        forbids = "link_invalid" if path.startswith("/s/") else "key_forbids"
        return forbids if answer.status_code == 403 else code_of_challenge(offered[0])
    found: str = answer.json()["code"]
    assert (found in ("key_forbids", "link_invalid")) is (answer.status_code == 403)
    assert answer.status_code == 403 or code_of_challenge(offered[0]) == found
    return found


def code_of_challenge(challenge: str) -> str:
    return "key_invalid" if "invalid_token" in challenge else "key_required"


# Ways to send a key


def basic(secret: str) -> str:
    return "Basic " + base64.b64encode(f"x:{secret}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        bearer("plain"),
        {"Authorization": f"api-key {SECRETS['plain']}"},
        {"Authorization": basic(SECRETS["plain"])},
        session(key("plain")),
    ],
)
async def test_a_key_is_accepted_as_bearer_or_api_key_or_basic_password_or_session_cookie(
    keys_file: Path, headers: dict[str, str]
) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        assert (
            await client.get("/stream", headers=headers)
        ).status_code == 400  # the gate admits the request, which the route refuses because it lacks `url`


async def test_a_key_in_the_query_string_is_ignored(keys_file: Path) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.get("/stream", params={"key": SECRETS["plain"], "api_key": SECRETS["plain"]})
        assert answer.status_code == 401


async def test_a_server_without_a_keys_file_ignores_the_credentials_of_a_request() -> None:
    """The credentials may be meant for a proxy in front of the server."""
    async with calling(application(None)) as client:
        for headers in (bearer("x"), {"Authorization": "Digest nonsense"}, {"Cookie": f"{COOKIE}=x"}):
            assert (await client.get("/stream", headers=headers)).status_code == 400


@pytest.mark.parametrize(
    ("headers", "schemes"),
    [
        ({}, ["Bearer", "Basic"]),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, ["Bearer", "Basic"]),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "video"}, ["Bearer", "Basic"]),
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, ["Bearer"]),
        ({"Sec-Fetch-Mode": "same-origin", "Sec-Fetch-Dest": "empty"}, ["Bearer"]),
        ({"X-Requested-With": "fetch"}, ["Bearer"]),
    ],
)
async def test_a_401_response_offers_basic_authentication_unless_a_script_sent_the_request(
    keys_file: Path, headers: dict[str, str], schemes: list[str]
) -> None:
    """If a script received an offer of Basic authentication, the browser would show its own password prompt over the
    page."""
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.get("/stream", headers=headers)
        assert answer.status_code == 401
        assert [each.partition(" ")[0] for each in answer.headers.get_list("www-authenticate")] == schemes


async def test_a_post_by_a_page_of_another_origin_is_refused_if_the_browser_adds_the_cookie_or_the_password(
    keys_file: Path,
) -> None:
    """A request with a Bearer key is accepted from any origin, because a browser does not add such a key by itself."""
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    async with calling(application(keys_file, require_key=True)) as client:
        for own in (session(key("plain")), {"Authorization": basic(SECRETS["plain"])}):
            assert (await client.post("/stream", headers={**own, **foreign})).status_code == 403
            assert (await client.post("/stream", headers=own)).status_code == 405
            assert (await client.get("/stream", headers={**own, **foreign})).status_code == 400
        assert (await client.post("/stream", headers={**bearer("plain"), **foreign})).status_code == 405


async def test_a_page_of_another_origin_cannot_list_streams_even_if_its_browser_is_in_admin_networks() -> None:
    """A browser on this machine has an address in ADMIN_NETWORKS, and sends the requests of every page that the browser
    shows."""
    for origins in ("*", "http://app.example"):
        async with calling(application(None, cors_origins=origins), "127.0.0.1") as client:
            for origin in ("http://evil.example", "http://app.example"):
                assert (await client.get("/streams", headers={"Origin": origin})).status_code == 403
            assert (await client.get("/streams")).status_code == 200


@pytest.mark.parametrize("route", ["/health", "/metrics", "/streams"])
async def test_a_right_that_depends_on_the_address_of_a_client_requires_a_request_for_a_host_name_of_this_server(
    route: str,
) -> None:
    """A page can let its own host name resolve to the address of this server (DNS rebinding). Then the browser sends
    the requests of the page from an address in ADMIN_NETWORKS."""
    app = application(None, open=True, admin_networks="10.0.0.0/8", allowed_hosts="media.example")
    async with calling(app, "10.0.0.7") as client:
        for host, status in (("evil.example", 421), ("media.example:8000", 200), ("10.0.0.1:8000", 200)):
            assert (await client.get(route, headers={"Host": host})).status_code == status
        assert (await client.delete("/streams/1", headers={"Host": "evil.example"})).status_code == 421


# Invalid keys


async def test_a_client_that_sent_too_many_invalid_keys_gets_429_for_invalid_keys_but_not_for_valid_keys(
    keys_file: Path,
) -> None:
    app = application(keys_file, require_key=True)
    async with calling(app) as client:
        assert (await client.get("/stream", headers=bearer("plain"))).status_code == 400
        wrong = [(await client.get("/stream", headers=bearer(f"wrong{n}"))).status_code for n in range(LIMIT)]
        assert wrong == [401] * LIMIT
        for headers in (bearer("another"), {"Authorization": "nonsense"}):
            answer = await client.get("/stream", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert 0 < int(answer.headers["retry-after"]) <= 60
        assert (await client.get("/stream", headers=bearer("plain"))).status_code == 400
        assert (await client.get("/stream", headers=bearer("admin"))).status_code == 400, (
            "a valid key that this client has not used before"
        )
        assert (await client.get("/stream", headers=session(key("admin")))).status_code == 400
        assert (await client.get("/stream")).status_code == 401
        assert +app.state.server.refusals.codes == {"key_invalid": LIMIT, "rate_limited": 2, "key_required": 1}
        async with client_at(app, "192.0.2.10") as other:
            assert (await other.get("/stream", headers=bearer("admin"))).status_code == 400


async def test_invalid_keys_from_all_addresses_of_an_ipv6_network_count_together(keys_file: Path) -> None:
    app = application(keys_file, require_key=True)
    async with contextlib.aclosing(app):
        found = []
        for number in range(LIMIT + 1):
            async with client_at(app, f"2001:db8::{number:x}") as client:
                found.append((await client.get("/stream", headers=bearer("wrong"))).status_code)
        assert found == [401] * LIMIT + [429]


def guesses(secret: str) -> Iterator[bytes]:
    """Yield 10,000 keys that are random, or mutations of `secret`. None of these keys is `secret` itself."""
    randomness = random.Random(11)
    bits = [(place, 1 << bit) for place in range(len(secret)) for bit in range(8)]
    for place, bit in bits:
        changed = bytearray(secret.encode())
        changed[place] ^= bit
        yield bytes(changed)
    yield from (secret[:length].encode() for length in range(len(secret)))
    yield from (secret[length + 1 :].encode() for length in range(len(secret)))
    digest = digest_of(secret.encode())
    yield from (digest, digest.hex().encode(), secret.swapcase().encode(), secret.encode() * 2, b"", b"null", b"*")
    for _ in range(10_000 - len(bits) - 2 * len(secret) - 7):
        yield randomness.randbytes(randomness.randrange(64)).translate(None, b"\r\n")


def shown(guess: bytes, number: int) -> tuple[bytes, bytes]:
    """Return the header field that sends `guess` as a key. `number` selects one of four header fields in turn:
    Authorization with Bearer, Api-Key or Basic, or the session cookie."""
    password = base64.b64encode(b"x:" + guess)
    fields = (
        (b"authorization", b"Bearer " + guess),
        (b"authorization", b"API-KEY " + guess),
        (b"authorization", b"Basic " + password),
        (b"cookie", f"{COOKIE}=".encode() + guess),
    )
    return fields[number % len(fields)]


async def statuses(app: Application, fields: Iterable[tuple[bytes, bytes]]) -> set[int]:
    """Send one request for each header field in `fields`, and return the set of status codes. Each request comes from
    another address, so that the limit on invalid keys cannot hide an accepted key."""
    found = set()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            found.add(message["status"])

    for number, field in enumerate(fields):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/nowhere",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), field],
            "client": (f"10.1.{number // 256}.{number % 256}", 4711),
        }
        await app(scope, receive, send)
    return found


async def test_no_random_or_mutated_key_is_accepted(keys_file: Path) -> None:
    app = application(keys_file, require_key=True)
    tried = [shown(guess, number) for number, guess in enumerate(guesses(SECRETS["plain"]))]
    assert len(tried) == 10_000
    assert await statuses(app, tried) == {401}
    assert await statuses(app, [shown(SECRETS["plain"].encode(), number) for number in range(3)]) == {404}


# Requests through proxies


async def test_the_refusal_of_a_request_through_a_proxy_names_the_settings_that_would_allow_it(keys_file: Path) -> None:
    async with calling(application(None), "127.0.0.1") as client:
        answer = await client.get("/stream", headers={"Via": "1.1 proxy"})
        assert (answer.status_code, answer.json()["code"]) == (403, "key_forbids")
        assert all(word in answer.json()["detail"] for word in ("REQUIRE_KEY", "--open", "TRUSTED_PROXIES"))


async def test_a_server_with_the_setting_open_allows_streams_through_a_proxy_but_not_health() -> None:
    async with calling(application(None, open=True)) as client:
        forwarded = {"X-Forwarded-For": "198.51.100.1"}
        assert (await client.get("/stream", headers=forwarded)).status_code == 400
        assert (await client.get("/health", headers=forwarded)).status_code == 401


async def test_a_key_that_only_certain_networks_may_use_is_refused_if_the_address_of_the_client_is_unknown(
    keys_file: Path,
) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.1", **bearer("bound")}
    async with calling(application(keys_file, require_key=True)) as client:
        assert (await client.get("/stream", headers=forwarded)).status_code == 403
    async with calling(application(keys_file, require_key=True, trusted_proxies=ELSEWHERE)) as client:
        assert (await client.get("/stream", headers=forwarded)).status_code == 400
        assert (await client.get("/stream", headers=bearer("bound"))).status_code == 403


# Mounted applications, and crawlers


@pytest.mark.parametrize("prefix", ["/media", "/health", "/s"])
async def test_the_gate_of_a_mounted_application_ignores_the_mount_prefix_in_the_path(
    keys_file: Path, prefix: str
) -> None:
    app = application(keys_file, require_key=True)
    parent = FastAPI()
    parent.mount(prefix, app)
    async with contextlib.aclosing(app), client_at(parent) as client:
        assert (await client.get(f"{prefix}/ready")).status_code in (200, 503)
        assert (await client.get(f"{prefix}/stream")).status_code == 401
        assert (await client.get(f"{prefix}/stream", headers=bearer("plain"))).status_code == 400
        assert (await client.get(f"{prefix}/health", headers=bearer("plain"))).status_code == 403


async def test_robots_txt_and_the_response_headers_ask_crawlers_to_stay_away(keys_file: Path) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.get("/robots.txt")
        assert (answer.status_code, answer.text) == (200, "User-agent: *\nDisallow: /\n")
        for path in ("/robots.txt", "/stream", "/docs"):
            headers = (await client.get(path)).headers
            assert headers["x-robots-tag"] == "noindex, nofollow"
            assert headers["referrer-policy"] == "no-referrer"


async def test_the_error_for_a_key_limited_to_networks_names_trusted_proxies_if_an_untrusted_proxy_sent_the_request(
    keys_file: Path,
) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        through = await client.get("/stream", headers={**bearer("bound"), "X-Forwarded-For": "198.51.100.1"})
        direct = await client.get("/stream", headers=bearer("bound"))
    assert (through.status_code, through.json()["title"]) == (403, "Not allowed")
    assert "TRUSTED_PROXIES" in through.json()["detail"]
    assert direct.json()["detail"] == (
        "This API key may not be used from this client address: ask the operator to allow the address."
    )
