"""Pytest fixtures: the egress proxy on asyncio's event loop and on uvloop, and the HTTP clients that use the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from serverpy.net.guard import Guard
from tests.net.egress.clients import LOOPBACK, Fetch, LoopFactory, by_curl, by_requests, by_urllib
from tests.net.egress.threads import EgressThread


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test if an event loop logs any message, because event loops log only exceptions of callbacks."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelname != "DEBUG"] == []


@pytest.fixture
def egress(loop_factory: LoopFactory) -> Iterator[EgressThread]:
    with EgressThread(LOOPBACK, loop_factory=loop_factory) as thread:
        yield thread


@pytest.fixture
def closed_egress(loop_factory: LoopFactory) -> Iterator[EgressThread]:
    """Run an egress proxy that allows only the public internet."""
    with EgressThread(Guard(), loop_factory=loop_factory) as thread:
        yield thread


@pytest.fixture(params=[by_urllib, by_requests, by_curl], ids=["urllib", "requests", "curl_cffi"])
def fetch(request: pytest.FixtureRequest) -> Fetch:
    client: Fetch = request.param
    return client
