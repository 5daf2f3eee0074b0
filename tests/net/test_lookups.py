"""Tests of look-ups of host names. A name that no DNS server answers for delays neither other names nor other clients.
An error does not reveal whether a name does not exist or resolves to a private address."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from serverpy.errors import TargetForbidden, UpstreamFailed
from serverpy.net import resolver as resolvers
from serverpy.net.guard import Guard
from serverpy.net.lookups import CLIENT_THREADS, MAX_WAITING, THREADS, UNKNOWN_THREADS, Job, Pool, asking_client
from serverpy.net.resolver import MAX_FAILED, Resolver
from tests.aio import eventually


class NameServers:
    """A fake of the system's resolver. The look-up of a name that begins with `dead` waits until the test sets `end`,
    and then fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = threading.Event()

    def find(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.startswith("dead"):
            self.end.wait()
            raise OSError("timed out")
        return ["8.8.8.8"]


@asynccontextmanager
async def pooled() -> AsyncIterator[tuple[Pool, NameServers]]:
    servers = NameServers()
    pool = Pool(servers.find)
    try:
        yield pool, servers
    finally:
        servers.end.set()
        await eventually(lambda: not pool.running and not pool.waiting)


async def test_a_name_that_has_resolved_before_is_looked_up_even_while_new_names_occupy_all_their_threads() -> None:
    async with pooled() as (pool, servers):
        assert await pool.submit("cdn.example", None).answer == ["8.8.8.8"]
        for number in range(3 * THREADS):
            pool.submit(f"dead{number}.example", None)
        await eventually(lambda: len(servers.asked) == 1 + UNKNOWN_THREADS)
        new = pool.submit("new.example", None)
        assert await pool.submit("cdn.example", None).answer == ["8.8.8.8"]
        assert not new.answer.done()
        assert pool.running == UNKNOWN_THREADS
        servers.end.set()
        assert await new.answer == ["8.8.8.8"]


async def test_the_look_ups_of_one_client_do_not_delay_those_of_another() -> None:
    async with pooled() as (pool, servers):
        for number in range(3 * THREADS):
            pool.submit(f"dead{number}.example", "2001:db8::/64")
        assert await pool.submit("new.example", "192.0.2.1").answer == ["8.8.8.8"]
        assert pool.running == CLIENT_THREADS
        servers.end.set()


async def test_the_number_of_waiting_look_ups_is_bounded() -> None:
    async with pooled() as (pool, servers):
        for number in range(UNKNOWN_THREADS + MAX_WAITING):
            pool.submit(f"dead{number}.example", None)
        with pytest.raises(OSError, match="too many"):
            pool.submit("new.example", None)
        servers.end.set()


async def test_concurrent_callers_for_the_same_name_share_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pooled() as (pool, servers):
        monkeypatch.setattr(resolvers, "pool", pool)
        resolver = Resolver()
        found = await asyncio.gather(*(resolver.resolve(Guard(), "site.example", port) for port in (80, 443, 8443)))
        assert (found, servers.asked) == ([("8.8.8.8",)] * 3, ["site.example"])


async def test_a_name_whose_look_up_times_out_fails_and_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolvers, "LOOK_UP_SECONDS", 0.05)
    async with pooled() as (pool, servers):
        monkeypatch.setattr(resolvers, "pool", pool)
        resolver = Resolver()
        for _ in range(20):
            with pytest.raises(UpstreamFailed):
                await resolver.resolve(Guard(), "dead.example", 80)
        assert servers.asked == ["dead.example"]
        monkeypatch.setattr(resolvers, "FAILED_SECONDS", 0.0)
        for _ in range(3):  # the cached failure has expired, but the look-up is still running
            with pytest.raises(UpstreamFailed):
                await resolver.resolve(Guard(), "dead.example", 443)
        assert servers.asked == ["dead.example"]


async def test_the_failed_look_up_of_a_forbidden_name_is_cached_like_that_of_a_name_that_does_not_exist() -> None:
    asked: list[str] = []

    async def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        if host == "inside.example":
            return ["10.0.0.1"]
        raise OSError("no such name")

    resolver = Resolver(lookup=lookup)
    texts = {}
    for host in ("inside.example", "nothing.example"):
        for _ in range(3):
            with pytest.raises(UpstreamFailed) as caught:
                await resolver.resolve(Guard(), host, 80)
            texts[host] = str(caught.value).replace(host, "")
    assert asked == ["inside.example", "nothing.example"]
    assert len(set(texts.values())) == 1
    for host in ("10.0.0.1", "localhost"):  # the error for an address or for `localhost` reveals nothing new
        with pytest.raises(TargetForbidden):
            await Resolver().resolve(Guard(), host, 80)


async def test_the_number_of_cached_failed_look_ups_is_bounded() -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    resolver = Resolver(lookup=lookup)
    for number in range(MAX_FAILED + 10):
        with pytest.raises(UpstreamFailed):
            await resolver.resolve(Guard(), f"x{number}.example", 80)
    assert len(resolver._failed) == MAX_FAILED  # a private attribute, because no public one shows the number


async def test_a_look_up_counts_toward_the_client_of_the_request_or_else_toward_the_client_of_the_resolver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pooled() as (pool, _):
        monkeypatch.setattr(resolvers, "pool", pool)
        clients: list[object] = []
        submit = pool.submit

        def noted(_: Pool, host: str, client: object) -> Job:
            clients.append(client)
            return submit(host, client)

        monkeypatch.setattr(Pool, "submit", noted)
        await Resolver(client="child").resolve(Guard(), "one.example", 80)
        asking_client.set("192.0.2.1")
        await Resolver(client="child").resolve(Guard(), "two.example", 80)
        assert clients == ["child", "192.0.2.1"]
