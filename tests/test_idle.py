"""Tests of a server whose idle worker has been stopped. The server is ready, streams pages whose extraction is cached,
and starts a worker for other pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving


@pytest.fixture(scope="module")
def idle(site: SampleSite) -> Iterator[Server]:
    """Run a server that stops its worker after one second without requests."""
    with serving(site, worker_idle=1, log_level="info") as running:
        yield running


def wait_for_worker_stop(server: Server) -> None:
    wait_for(lambda: not server.children(), lambda: f"still there: {server.children()}")


def test_a_server_whose_worker_has_stopped_is_ready_and_reports_the_worker_as_stopped(idle: Server) -> None:
    wait_for_worker_stop(idle)
    assert idle.ask("/ready").status == 200
    health = idle.health()
    assert (health["status"], health["worker"], health["children"]) == ("ok", "stopped", 0)
    assert health["memory"]["worker"] == {"pss": 0, "uss": 0}
    assert health["yt_dlp"] is not None
    found = {family.name: family for family in text_string_to_metric_families(idle.ask("/metrics").body.decode())}
    assert found["serverpy_workers"].samples[0].value == 0


def test_a_page_with_a_cached_extraction_is_relayed_without_starting_a_worker(idle: Server, site: SampleSite) -> None:
    film = site.path("prog.mp4").read_bytes()
    assert idle.get("/page/prog", method="relay").body == film
    wait_for_worker_stop(idle)
    assert idle.get("/page/prog", method="relay").body == film
    assert (idle.health()["worker"], idle.children()) == ("stopped", [])


def test_a_page_without_a_cached_extraction_starts_a_worker(idle: Server) -> None:
    wait_for_worker_stop(idle)
    assert idle.get("/page/prog?new", path="/info").status == 200
    wait_for_worker_stop(idle)


def test_after_the_worker_has_stopped_embedded_extracts_a_page_again_even_if_its_extraction_is_cached(
    idle: Server, site: SampleSite
) -> None:
    """The embedded method needs yt-dlp's own result of the extraction, which was lost when the worker stopped."""
    assert idle.get("/page/prog?again", path="/info").status == 200
    wait_for_worker_stop(idle)
    answer = idle.get("/page/prog?again", method="embedded")
    assert answer.body == site.path("prog.mp4").read_bytes()
    assert answer.headers["x-serverpy-method"] == "embedded"


def test_stopping_an_idle_worker_logs_no_warning(idle: Server) -> None:
    wait_for_worker_stop(idle)
    assert "was idle and is stopped" in idle.log
    warnings = [line for line in idle.log.splitlines() if "WARNING" in line]
    # on a busy machine, the worker may have to be killed, which logs this warning
    assert all("does not end by itself" in line for line in warnings), warnings
