"""Tests of `POST /login`, which returns a session cookie in exchange for a key, and of `POST /logout`, which removes
the cookie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from serverpy.access.credentials import COOKIE
from serverpy.access.key import Key
from serverpy.access.keys import parse_keys
from serverpy.access.tries import LIMIT
from tests.api.test_access import ELSEWHERE, KEYS, SECRETS, application, basic, calling, key, keys_file, session

__all__ = ["keys_file"]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def log_in(client: httpx.AsyncClient, secret: str = SECRETS["admin"], **headers: str) -> Any:
    return client.post("/login", data={"key": secret}, headers=headers)


async def test_a_login_by_form_or_json_sets_a_session_cookie_that_has_the_rights_of_the_key(keys_file: Path) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        answers = [
            await log_in(client),
            await client.post("/login", json={"key": SECRETS["admin"]}),
            await client.post(
                "/login",
                content=f'{{"key":"{SECRETS["admin"]}"}}',
                headers={"Content-Type": "Application/JSON; charset=utf-8"},
            ),
        ]
        for answer in answers:
            assert (answer.status_code, answer.content) == (204, b"")
            name, *attributes = answer.headers["set-cookie"].split("; ")
            assert name.startswith("serverpy_session=admin.")
            assert SECRETS["admin"] not in name
            assert attributes == ["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=strict"]
            assert answer.headers["cache-control"] == "no-store"
        assert (await client.get("/health")).status_code == 200
        assert client.cookies  # `client` has stored the session cookie


async def test_a_logout_removes_the_session_cookie(keys_file: Path) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        await log_in(client)
        answer = await client.post("/logout")
        assert answer.status_code == 204
        assert re.fullmatch(
            r'serverpy_session=""; HttpOnly; Max-Age=0; Path=/; SameSite=strict', answer.headers["set-cookie"]
        )
        assert (await client.get("/stream")).status_code == 401


async def test_a_session_is_refused_after_its_key_was_replaced(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serverpy.access.key_file.CHECK_SECONDS", 0.0)
    async with calling(application(keys_file, require_key=True)) as client:
        await log_in(client, SECRETS["plain"])
        assert (await client.get("/stream")).status_code == 400
        plain = parse_keys(KEYS).get("plain")
        assert plain is not None
        keys_file.write_text(KEYS.replace(plain.digest.hex(), "0" * 64))
        answer = await client.get("/stream")
        assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("other", ["", "nonsense", "stale"])
async def test_a_valid_session_cookie_is_accepted_beside_an_invalid_one(
    keys_file: Path, order: int, other: str
) -> None:
    """A browser sends two cookies of one name if they were set for different paths, for example before and after a
    change of ROOT_PATH."""
    valid = session(key("plain"))["Cookie"]
    invalid = session(Key(name="plain", digest=bytes(32)))["Cookie"] if other == "stale" else f"{COOKIE}={other}"
    async with calling(application(keys_file, require_key=True)) as client:
        both = "; ".join([valid, invalid][::order])
        assert (await client.get("/stream", headers={"Cookie": both})).status_code == 400
        answer = await client.get("/stream", headers={"Cookie": f"{invalid}; {invalid}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")


@pytest.mark.parametrize(
    ("headers", "is_secure"),
    [
        ({}, False),
        ({"Origin": "https://127.0.0.1:8000"}, True),
        ({"Origin": "http://127.0.0.1:8000"}, False),
        ({"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "http"}, False),
    ],
)
async def test_the_session_cookie_is_secure_if_the_browser_uses_https(
    keys_file: Path, headers: dict[str, str], is_secure: bool
) -> None:
    async with calling(application(keys_file, require_key=True, trusted_proxies=ELSEWHERE)) as client:
        answer = await log_in(client, **headers)
        assert answer.status_code == 204
        assert ("Secure" in answer.headers["set-cookie"].split("; ")) is is_secure


@pytest.mark.parametrize(("headers", "is_secure"), [({}, True), ({"Origin": "http://127.0.0.1:8000"}, False)])
async def test_the_session_cookie_is_secure_if_public_url_is_https_unless_the_origin_of_the_request_is_http(
    keys_file: Path, headers: dict[str, str], is_secure: bool
) -> None:
    app = application(keys_file, require_key=True, public_url="https://media.example")
    async with calling(app) as client:
        for answer in (await log_in(client, **headers), await client.post("/logout", headers=headers)):
            assert ("Secure" in answer.headers["set-cookie"].split("; ")) is is_secure


@pytest.mark.parametrize(("trusted", "status"), [(ELSEWHERE, 204), ("203.0.113.1", 403)])
async def test_a_login_through_a_proxy_that_replaces_host_is_accepted_only_if_the_proxy_is_trusted(
    keys_file: Path, trusted: str, status: int
) -> None:
    headers = {
        "X-Forwarded-For": "198.51.100.1", "X-Forwarded-Host": "media.example", "Origin": "https://media.example",
    }  # fmt: skip
    async with calling(application(keys_file, require_key=True, trusted_proxies=trusted)) as client:
        assert (await log_in(client, **headers)).status_code == status
        assert (await client.post("/logout", headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("secret", "status", "code"),
    [
        ("wrong", 401, "key_invalid"),
        ("", 401, "key_invalid"),
        ("a b", 401, "key_invalid"),
        ("é" * 300, 401, "key_invalid"),
        (SECRETS["expired"], 401, "key_invalid"),
        (SECRETS["bound"], 403, "key_forbids"),
    ],
)
async def test_a_login_with_an_invalid_or_forbidden_key_sets_no_cookie(
    keys_file: Path, secret: str, status: int, code: str
) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.post("/login", json={"key": secret})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert "set-cookie" not in answer.headers
        if status == 401:  # with Basic, the browser would show its password prompt over the form
            assert [each.partition(" ")[0] for each in answer.headers.get_list("www-authenticate")] == ["Bearer"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ('{"key":"KEY"}', {"Content-Type": "text/plain"}),
        ("key=KEY", {"Content-Type": "text/plain;charset=UTF-8"}),
        ("key=KEY", {"Content-Type": "multipart/form-data; boundary=x"}),
        ("key=KEY", {}),
        *(
            (body, JSON)
            for body in (
                "",
                "{",
                "[]",
                "null",
                '"KEY"',
                "{}",
                '{"key": 1}',
                '{"key": ["KEY"]}',
                r'{"key": "\ud800"}',
                "[" * 4000,
            )
        ),
        *((body, FORM) for body in ("", "key=", "key=KEY&key=KEY", "other=KEY", "&".join(["a=b"] * 20), "\xff")),
    ],
)
async def test_a_login_without_exactly_one_key_in_a_form_or_json_body_is_refused(
    keys_file: Path, body: str, headers: dict[str, str]
) -> None:
    content = body.replace("KEY", SECRETS["admin"]).encode("latin-1")
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.post("/login", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_a_login_body_above_the_size_limit_is_refused(keys_file: Path) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.post("/login", content=b"key=" + b"a" * 5000, headers=FORM)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}]
)
async def test_a_login_or_logout_by_a_page_of_another_origin_is_refused(
    keys_file: Path, path: str, headers: dict[str, str]
) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        answer = await client.post(path, data={"key": SECRETS["admin"]}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "key_forbids")
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ("https://app.example", "https://app.example", 204),
        ("https://App.example:443", "https://app.example", 204),
        ("https://app.example", "https://app.example:8443", 403),
        ("https://app.example", "http://app.example", 403),
        ("https://app.example", "null", 403),
        ("*", "https://app.example", 403),
    ],
)
async def test_pages_of_the_origins_in_cors_origins_may_log_in_and_send_the_cookie_or_password_of_the_browser(
    keys_file: Path, origins: str, origin: str, status: int
) -> None:
    page = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    async with calling(application(keys_file, require_key=True, cors_origins=origins)) as client:
        assert (await log_in(client, SECRETS["plain"], **page)).status_code == status
        for own in (session(key("plain")), {"Authorization": basic(SECRETS["plain"])}):
            answer = await client.delete("/streams/1", headers={**own, **page})
            assert answer.status_code == (404 if status == 204 else 403)


async def test_failed_logins_count_toward_the_limit_on_invalid_keys(keys_file: Path) -> None:
    async with calling(application(keys_file, require_key=True)) as client:
        found = [(await log_in(client, f"wrong{number}")).status_code for number in range(LIMIT + 1)]
        assert found == [401] * LIMIT + [429]


async def test_a_login_is_refused_if_the_server_has_no_keys_or_if_the_request_came_through_a_disallowed_proxy(
    keys_file: Path,
) -> None:
    async with calling(application(None)) as client:
        answer = await log_in(client)
        assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")
        assert answer.json()["detail"].startswith("This server has no API keys")
    async with calling(application(keys_file)) as client:
        assert (await log_in(client, **{"X-Forwarded-For": "198.51.100.1"})).status_code == 403
