"""Tests of `GET /streams`, which lists the running streams, and of `DELETE /streams/{id}`, which ends a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.api.test_leaving import BIG, SMALL_BUFFER
from tests.api.test_revocation import give
from tests.server import Server, serving

PROMPT_SECONDS = 5.0
"""Maximum number of seconds until a stream has ended: many times the 0.1 s that a machine with two busy cores needs,
and less than any timeout of the server."""


@pytest.fixture(scope="module")
def watched(site: SampleSite) -> Iterator[Server]:
    """Run a server that logs the end of each stream, and allows three streams at once."""
    with serving(site, max_streams=3, wait_seconds=60, log_level="info", open=True) as running:
        yield running


def streams(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.ask("/streams").json()
    return found


def until_state(server: Server, id: str, state: str) -> None:
    def found() -> list[str]:
        return [stream["state"] for stream in streams(server) if stream["id"] == id]

    wait_for(lambda: found() == [state], found)


def test_a_running_stream_is_listed_without_its_url(watched: Server, site: SampleSite) -> None:
    with watched.open(
        f"{BIG}?secret=1", headers={"X-Request-ID": "film"}, receive_bytes=SMALL_BUFFER, format="mp4"
    ) as stream:
        stream.read(1)
        until_state(watched, "film", "running")
        text = watched.ask("/streams").body.decode()
        (shown,) = streams(watched)
    assert "secret" not in text
    assert shown["host"] == site.http.removeprefix("http://")
    assert shown.pop("seconds") > 0
    assert shown.pop("bytes") >= 0
    assert shown == {
        "id": "film",
        "account": "127.0.0.1",
        "client": "127.0.0.1",
        "state": "running",
        "host": shown["host"],
        "site": shown["site"],
        "method": "relay",
        "format": "mp4",
        "status": 200,
    }
    watched.settled()
    assert streams(watched) == []


def test_a_delete_request_for_a_stream_that_has_already_ended_is_answered_with_404(watched: Server) -> None:
    assert watched.get("/page/prog", headers={"X-Request-ID": "over"}).complete
    watched.settled()
    answer = watched.ask("/streams/over", verb="DELETE")
    assert (answer.status, answer.code) == (404, "not_found")
    assert answer.json()["detail"] == "No running stream has this id: GET /streams lists the ids."


@pytest.mark.parametrize("method", ["relay", "embedded", "subprocess"])
def test_a_delete_request_for_a_running_stream_cuts_its_connection_at_once(watched: Server, method: str) -> None:
    id = f"ended-{method}"
    with watched.open(BIG, method=method, headers={"X-Request-ID": id}, receive_bytes=SMALL_BUFFER) as stream:
        stream.read(1)
        other = watched.open(BIG, headers={"X-Request-ID": "other"}, receive_bytes=SMALL_BUFFER)
        other.read(1)
        begun = time.monotonic()
        assert watched.ask(f"/streams/{id}", verb="DELETE").status == 204
        answer = stream.rest()
        seconds = time.monotonic() - begun
    assert not answer.complete
    assert seconds < PROMPT_SECONDS
    assert [stream["id"] for stream in streams(watched)] == ["other"]
    wait_for(lambda: f"{method}: cancelled" in watched.log, lambda: watched.log)
    with other:
        pass
    watched.settled()


def test_a_delete_request_for_a_waiting_stream_cuts_its_connection(watched: Server) -> None:
    running = [watched.open(BIG, receive_bytes=SMALL_BUFFER) for _ in range(3)]
    for stream in running:
        stream.read(1)
    with watched.open("/page/prog", headers={"X-Request-ID": "waiting"}) as waiting:
        until_state(watched, "waiting", "waiting")
        assert watched.ask("/streams/waiting", verb="DELETE").status == 204
        with pytest.raises(ConnectionError):
            waiting.head()
    for stream in running:
        stream.leave()
    watched.settled()


def test_a_delete_request_ends_all_streams_with_the_same_request_id(watched: Server) -> None:
    same = {"X-Request-ID": "same"}
    first = watched.open(BIG, headers=same, receive_bytes=SMALL_BUFFER)
    second = watched.open(BIG, headers=same, receive_bytes=SMALL_BUFFER)
    with first, second:
        assert first.read(1)
        assert second.read(1)
        assert watched.ask("/streams/same", verb="DELETE").status == 204
        assert (first.rest().complete, second.rest().complete) == (False, False)
    watched.settled()


def test_a_key_can_neither_see_nor_end_the_streams_of_another_key(site: SampleSite, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    bob, al = give(keys, "bob"), give(keys, "al")
    with serving(site, require_key=True, api_keys_file=keys) as server:
        with server.open(BIG, headers={**bob, "X-Request-ID": "film"}, receive_bytes=SMALL_BUFFER) as stream:
            assert stream.read(1)
            assert server.ask("/streams", headers=al).json() == []
            answer = server.ask("/streams/film", verb="DELETE", headers=al)
            assert (answer.status, answer.code) == (404, "not_found")
            (shown,) = server.ask("/streams", headers=bob).json()
            assert (shown["id"], shown["account"]) == ("film", "bob")
            assert stream.read(1_000_000)
            assert server.ask("/streams/film", verb="DELETE", headers=bob).status == 204
            assert not stream.rest().complete
        server.settled()
