"""Tests of the records of running streams: what a record contains, and how a record ends its stream."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message

from serverpy.access.refusals import Refusals
from serverpy.api.protocol import CUT, LEFT
from serverpy.api.responses import StreamResponse
from serverpy.delivery import Stream
from serverpy.extraction.values import Fragment, Track
from serverpy.plan import Plan
from serverpy.running import Record, Running
from serverpy.tasks import spawn
from tests.aio import eventually


class Client:
    """A client's connection, as an ASGI application sees it. `cut` is set once the server has cut the connection."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()
        self.leave: Any = None
        self.scope = {
            "type": "http",
            "method": "GET",
            "client": ("192.0.2.1", 1234),
            "extensions": {CUT: self.cut.set, LEFT: self.watch},
        }

    def watch(self, leave: Any) -> None:
        self.leave = leave

    async def receive(self) -> Message:
        # the call waits forever, like the connection of a client that stays connected
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)


async def test_cancelling_the_record_of_a_stream_that_is_not_open_ends_its_request_and_cuts_the_connection() -> None:
    running, client = Running(), Client()

    async def never(record: Record) -> Stream:
        record.is_admitted = True
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # the stream never opens

    response = StreamResponse(
        never, lambda stream: (200, {}), running=running, request_id="7", stall_timeout=60, refusals=Refusals()
    )
    serving = spawn(response(client.scope, client.receive, client.send), name="serve")
    await eventually(lambda: running.streams == 1)
    (record,) = running
    assert (record.id, record.client, record.method) == ("7", "192.0.2.1", None)
    record.cancel("cancelled")
    await serving
    assert client.cut.is_set()
    assert record.end == "cancelled"
    assert list(running) == []


async def test_the_server_does_not_cut_the_connection_of_a_client_that_has_left() -> None:
    running, client = Running(), Client()

    async def never(record: Record) -> Stream:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # the stream never opens

    response = StreamResponse(
        never, lambda stream: (200, {}), running=running, request_id="7", stall_timeout=60, refusals=Refusals()
    )
    serving = spawn(response(client.scope, client.receive, client.send), name="serve")
    await eventually(lambda: client.leave is not None)
    (record,) = running
    assert running.streams == 0
    client.leave()
    await serving
    assert not client.cut.is_set()
    assert record.end == "left"


def test_the_function_without_lists_removes_the_segment_lists_from_the_tracks_of_a_plan() -> None:
    fragments = tuple(Fragment(url=f"https://example.com/{n}") for n in range(3))
    track = Track(id="1", url="https://example.com", protocol="http_dash_segments", ext="mp4", fragments=fragments)
    plan = Plan(opener="relay", method="relay", nbytes=1, tracks=(track,)).without_lists()
    assert plan.tracks[0].fragments == ()
    assert plan.tracks[0].id == "1"
