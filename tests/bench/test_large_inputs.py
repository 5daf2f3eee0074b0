"""Tests of the requests of the scenario `callbacks`: they check statuses, and no request waits without a time limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.scenarios import large_inputs
from serverpy.bench.measure.scenarios.large_inputs import Load
from tests.net.reading import Answer, Reply, refusal, serving, whole

SILENT = Reply(b"")
NO = Reply(refusal(503).data, "FIN")


def load(url: str) -> Load:
    """Return a load for the server at `url`, which is not ServerPY."""
    host, _, port = url.split("/")[2].partition(":")
    running = SimpleNamespace(host=host, port=int(port))
    return Load(cast(Any, running), cast(Any, None), cast(Any, None), 1.0)


@pytest.mark.parametrize("answer", [lambda _: NO, lambda _: Reply(b"", "FIN"), lambda _: whole()])
async def test_a_connection_raises_an_error_if_the_status_is_not_among_the_expected_statuses(answer: Answer) -> None:
    async with serving(answer) as (url, _):
        with pytest.raises(BenchError, match="was answered with status"):
            async with load(url).connection("/stream", 201):
                pass


@pytest.mark.parametrize(("status", "statuses"), [(206, ()), (404, (404, 502))])
async def test_a_request_returns_the_body_if_the_status_is_among_the_expected_statuses(
    status: int, statuses: tuple[int, ...]
) -> None:
    async with serving(lambda _: Reply(refusal(status, b"the body").data, "FIN")) as (url, _):
        assert await load(url).ask("/info", *statuses) == b"the body"


@pytest.mark.parametrize("reply", [SILENT, Reply(whole().data[:20]), Reply(whole().data[:1000])])
async def test_a_request_to_a_server_that_stops_sending_times_out(
    reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_inputs, "SECONDS", 0.05)
    async with serving(lambda _: reply) as (url, _):
        with pytest.raises(TimeoutError):
            await load(url).ask("/info")
