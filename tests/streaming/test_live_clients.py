"""Tests of many clients of one live stream: the clients share one upstream, each client gets every byte, and no
connection stays open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving
from tests.wire import Exchange

CLIENTS = 10


class Show:
    """Live broadcast that a test advances segment by segment. Its first playlist lists three segments, and the third
    one is the live edge."""

    def __init__(self, server: Server, parts: str, *, page: str = "tube") -> None:
        spec = f"clock=step,target=0,begin=3,{parts}"
        self.server, self.site = server, server.site
        self.broadcast = self.site.broadcast(spec)
        self.page = f"/{page}/live/{spec}"
        self._folder = f"/tube/media/live/{spec}/" if page == "tube" else f"/live/{spec}/"

    def bytes(self, first: int, end: int | None = None) -> bytes:
        """Return the bytes of the initialization section, if there is one, and of the segments from number `first` up
        to but not including `end`, or up to the newest segment if `end` is None."""
        show, end = self.broadcast.show, self.broadcast.made if end is None else end
        initial = self.site.path(f"hls/fmp4/{show.quality}-init.mp4").read_bytes() if show.kind == "fmp4" else b""
        return initial + b"".join(self.site.path(show.source(number)).read_bytes() for number in range(first, end))

    @contextmanager
    def clients(self, count: int) -> Iterator[list[Exchange]]:
        """Open `count` clients, one after the other, and read the head of each response."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.client()) for _ in range(count)]

    def client(self, *, receive_bytes: int | None = None, **params: Any) -> Exchange:
        exchange = self.server.open(self.page, receive_bytes=receive_bytes, **params)
        assert exchange.status == 200
        return exchange

    def step(self, clients: list[Exchange], first: int = 2) -> None:
        """Publish a segment, and check that all clients get this segment. The clients began with segment number
        `first`."""
        self.broadcast.step()
        self.await_all(clients, first)

    def await_all(self, clients: list[Exchange], first: int = 2) -> None:
        wanted = self.bytes(first)
        for client in clients:
            assert client.read(len(wanted)) == wanted

    def asked(self, suffix: str = "ts") -> dict[str, int]:
        """Return the number of requests for each file whose name ends in `suffix`."""
        paths = self.site.counts(self._folder)
        return {name: count for path, count in paths.items() if (name := path.rpartition("/")[2]).endswith(suffix)}


def once(first: int, end: int) -> dict[str, int]:
    return {f"{number}.ts": 1 for number in range(first, end)}


def finish(client: Exchange) -> bytes:
    answer = client.rest()
    assert answer.complete
    return answer.body


@pytest.mark.parametrize("page", ["tube", "page"])
def test_ten_clients_of_a_live_stream_cause_only_one_upstream_request_per_segment(server: Server, page: str) -> None:
    """In one case, the page states that the stream is live. In the other case, only the playlist states it."""
    show = Show(server, f"window=6,quality=low,id=ten-{page}", page=page)
    with show.clients(CLIENTS) as clients:
        for _ in range(4):
            show.step(clients)
        assert server.health()["upstreams"] <= 1
        show.broadcast.end()
        assert {finish(client) for client in clients} == {show.bytes(2, 7)}
    assert show.asked() == once(2, 7)
    server.settled()


@pytest.mark.parametrize("page", ["tube", "page"])
def test_clients_that_connect_at_the_same_time_share_one_upstream(server: Server, page: str) -> None:
    show = Show(server, f"window=6,quality=low,id=rush-{page}", page=page)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.open(show.page)) for _ in range(CLIENTS)]
        show.await_all(clients)
        show.step(clients)
        show.broadcast.end()
        assert {finish(client) for client in clients} == {show.bytes(2, 4)}
    assert show.asked() == once(2, 4)
    assert show.asked("init.mp4") == {}


def test_a_client_that_joins_a_live_stream_begins_with_the_latest_segment(server: Server) -> None:
    show = Show(server, "window=6,quality=low,kind=fmp4,id=joins")
    with show.client() as first:
        show.step([first])
        show.step([first])
        with show.client() as second:
            show.step([second], first=4)
            show.await_all([first])
            show.broadcast.end()
            assert (finish(first), finish(second)) == (show.bytes(2, 6), show.bytes(4, 6))
    assert show.asked("init.mp4") == {"init.mp4": 1}
    assert set(show.asked("m4s").values()) == {1}


def test_a_client_that_sets_start_does_not_share_its_upstream_with_other_clients(server: Server) -> None:
    show = Show(server, "window=6,quality=low,id=own")
    with show.client() as edge, show.client(start=0) as own:
        show.step([edge])
        show.broadcast.end()
        assert (finish(edge), finish(own)) == (show.bytes(2, 4), show.bytes(0, 4))
    assert show.asked() == {"0.ts": 1, "1.ts": 1, "2.ts": 2, "3.ts": 2}


def test_a_client_that_stalls_is_cut_while_the_other_clients_get_every_byte(site: SampleSite) -> None:
    """The memory budget is small, so that the ring buffer shared by the clients is small as well."""
    with serving(site, memory_budget="8MiB", max_streams=20, wait_seconds=30, stall_timeout=120) as server:
        show = Show(server, "window=4,id=stalls")
        with show.clients(CLIENTS - 1) as clients, show.client(receive_bytes=4096) as stalled:
            for _ in range(9):
                show.step(clients)
                assert server.health()["budget"]["used"] <= 4 << 20
            # the stalled client has read nothing, so the server cuts its stream
            wait_for(lambda: "relay: too_slow" in server.log, lambda: server.log)
            assert server.health()["streams"] == CLIENTS - 1
            show.broadcast.end()
            whole = show.bytes(2, 12)
            assert {finish(client) for client in clients} == {whole}
            left = stalled.rest()
            assert not left.complete
            assert whole.startswith(left.body)
        assert show.asked() == once(2, 12)
        server.settled()
        assert server.log.count("relay: complete") == CLIENTS - 1
        assert server.log.count("relay: too_slow") == 1
        assert b"serverpy_live_cuts_total 1.0" in server.ask("/metrics").body


def test_an_expired_playlist_token_is_renewed_once_for_all_clients(server: Server) -> None:
    show = Show(server, "window=6,quality=low,expire=3,id=token")
    with show.clients(CLIENTS) as clients:
        visits = server.site.counts(show.page)[show.page]
        for _ in range(9):
            show.step(clients)
        show.broadcast.end()
        assert {finish(client) for client in clients} == {show.bytes(2, 12)}
        assert server.site.counts(show.page)[show.page] == visits + 3
    assert show.asked() == once(2, 12)


def test_every_client_is_cut_if_a_live_playlist_drops_segments_faster_than_they_are_read(server: Server) -> None:
    show = Show(server, "window=2,keep=0,quality=low,id=overrun")
    with show.clients(3) as clients:
        show.step(clients)
        before = show.bytes(2, 4)
        show.broadcast.step(9)
        answers = [client.rest() for client in clients]
        assert {(answer.complete, answer.body) for answer in answers} == {(False, before)}
    server.settled()


def test_clients_that_leave_do_not_affect_the_others_and_the_upstream_is_closed_when_the_last_one_leaves(
    server: Server,
) -> None:
    show = Show(server, "window=6,quality=low,id=leave")
    with show.clients(3) as clients:
        show.step(clients)
        clients[0].leave()
        show.step(clients[1:])
        clients[1].leave()
        show.step(clients[2:])
        assert server.health()["streams"] <= 2
    server.settled()
    assert show.asked() == once(2, 6)
    with show.clients(1) as (again,):
        show.await_all([again], first=5)
    server.settled()


def test_info_lists_relay_as_the_only_method_for_a_broadcast(server: Server) -> None:
    show = Show(server, "quality=low,id=info")
    (track,) = server.get(show.page, path="/info").json()["formats"]
    assert (track["methods"], track["to"]) == (["relay"], ["source"])
