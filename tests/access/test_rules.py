"""Tests of the rules of access: which right each route requires, and which callers have that right with and without
REQUIRE_KEY."""

from __future__ import annotations

import itertools

import pytest

from serverpy.access.clients import Client, client_of, parse_networks
from serverpy.access.key import Key
from serverpy.access.rules import Caller, Need, Policy, may_come_by_proxy, need_of, refusal

LOOPBACK = parse_networks(["127.0.0.0/8", "::1"])
HOST = (b"host", b"127.0.0.1:8000")
LOCAL = client_of("127.0.0.1", [HOST])
REMOTE = client_of("192.0.2.1", [HOST])
PLAIN, ADMIN = Key(name="bob", digest=b"b" * 32), Key(name="al", digest=b"a" * 32, admin=True)
CALLERS = {
    "local": Caller(LOCAL),
    "local plain": Caller(LOCAL, PLAIN),
    "remote": Caller(REMOTE),
    "remote plain": Caller(REMOTE, PLAIN),
    "remote admin": Caller(REMOTE, ADMIN),
}


@pytest.mark.parametrize(
    ("need", "require_key", "codes"),
    [
        # the callers: local, local with a key, remote, remote with a key, remote with an admin key
        *((need, require, "- - - - -") for need in (Need.NOTHING, Need.SIGNATURE) for require in (False, True)),
        (Need.KEY, False, "- - - - -"),
        (Need.KEY, True, "key_required - key_required - -"),
        (Need.STATUS, False, "- - key_required key_forbids -"),
        (Need.STATUS, True, "- - key_required key_forbids -"),
        (Need.ADMIN, False, "- - key_required key_forbids -"),
        (Need.ADMIN, True, "key_required key_forbids key_required key_forbids -"),
        (Need.STREAMS, False, "- - key_required key_forbids -"),
        (Need.STREAMS, True, "key_required - key_required - -"),
    ],
)
def test_each_caller_is_allowed_or_refused_as_the_table_in_this_module_states(
    need: Need, require_key: bool, codes: str
) -> None:
    policy = Policy(require_key=require_key, admin_networks=LOOPBACK)
    found = [refusal(need, caller, policy) for caller in CALLERS.values()]
    assert ["-" if error is None else error.code for error in found] == codes.split()


@pytest.mark.parametrize("require_key", [False, True])
def test_admin_keys_see_all_streams_and_so_do_clients_in_admin_networks_if_no_key_is_required(
    require_key: bool,
) -> None:
    policy = Policy(require_key=require_key, admin_networks=LOOPBACK)
    admins = [name for name, caller in CALLERS.items() if policy.is_admin(caller)]
    assert admins == (["remote admin"] if require_key else ["local", "local plain", "remote admin"])


@pytest.mark.parametrize(
    ("client", "networks", "is_admin"),
    [
        (LOCAL, ["127.0.0.0/8"], True),
        (LOCAL, [], False),
        (LOCAL, ["0.0.0.0/0"], True),
        (REMOTE, ["192.0.2.0/24"], True),
        (REMOTE, ["127.0.0.0/8"], False),
        (client_of("127.0.0.1", [HOST, (b"via", b"1.1 proxy")]), ["127.0.0.0/8", "0.0.0.0/0"], False),
        (client_of("192.0.2.1", [HOST, (b"x-real-ip", b"1.1.1.1")]), ["192.0.2.0/24"], False),
        (client_of("127.0.0.1", [(b"host", b"evil.example")]), ["127.0.0.0/8"], False),
        (client_of("127.0.0.1", [HOST, (b"x-forwarded-for", b"127.0.0.1")], LOOPBACK), ["127.0.0.0/8"], False),
        (client_of("127.0.0.1", [HOST, (b"x-forwarded-for", b"192.0.2.1")], LOOPBACK), ["192.0.2.0/24"], True),
        (client_of("", [HOST]), ["0.0.0.0/0", "::/0"], False),
    ],
)
def test_a_client_is_in_admin_networks_only_if_its_own_address_is_known(
    client: Client, networks: list[str], is_admin: bool
) -> None:
    assert Policy(admin_networks=parse_networks(networks)).is_admin_client(client) is is_admin


@pytest.mark.parametrize(("require_key", "is_open"), list(itertools.product([False, True], repeat=2)))
def test_a_request_through_a_proxy_is_allowed_only_if_require_key_or_open_is_set(
    require_key: bool, is_open: bool
) -> None:
    policy = Policy(require_key=require_key, open=is_open)
    proxied = client_of("127.0.0.1", [HOST, (b"x-forwarded-for", b"192.0.2.1")], LOOPBACK)
    assert may_come_by_proxy(proxied, policy) is (require_key or is_open)
    assert may_come_by_proxy(LOCAL, policy)
    assert may_come_by_proxy(REMOTE, policy)


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        *((method, "/", Need.NOTHING) for method in ("GET", "HEAD")),
        *((method, "/", Need.KEY) for method in ("POST", "PUT", "OPTIONS")),
        *(("GET", path, Need.NOTHING) for path in ("/ready", "/docs", "/openapi.json", "/robots.txt", "/login")),
        *(("POST", path, Need.NOTHING) for path in ("/login", "/logout")),
        *(("GET", path, Need.SIGNATURE) for path in ("/s/abc/film.mp4", "/segment/abc/1.ts", "/tunnel")),
        *(("GET", path, Need.STATUS) for path in ("/health", "/metrics", "/health/")),
        *(("GET", path, Need.ADMIN) for path in ("/dashboard", "/events")),
        *((method, path, Need.STREAMS) for method, path in (("GET", "/streams"), ("DELETE", "/streams/7"))),
        *(("GET", path, Need.KEY) for path in ("/stream", "/info", "/nowhere", "/streams2", "/S/abc", "", "*")),
        *(("POST", path, Need.KEY) for path in ("/links", "/add", "/stream", "//health")),
    ],
)
def test_each_route_requires_the_right_that_the_table_in_this_module_states(method: str, path: str, need: Need) -> None:
    assert need_of(method, path) is need


def test_the_account_of_a_caller_is_the_name_of_its_key_or_its_network() -> None:
    assert Caller(REMOTE, PLAIN).account == "bob"
    assert Caller(client_of("2001:db8::1:2:3:4", [HOST])).account == "2001:db8::/64"
    assert Caller(LOCAL).account == "127.0.0.1"
