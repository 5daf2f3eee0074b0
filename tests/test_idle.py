"""The whole server, once its worker has been let go: still ready, still serving what it knows, healing the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serverpy.sample.site import SampleSite
from tests.aio import wait_for
from tests.server import Server, serving


@pytest.fixture(scope="module")
def idle(site: SampleSite) -> Iterator[Server]:
    """A server that keeps its worker for a moment only."""
    with serving(site, worker_idle=1, log_level="info") as running:
        yield running


def let_go(server: Server) -> None:
    wait_for(lambda: not server.children(), lambda: f"still there: {server.children()}")


def test_without_a_worker_it_is_ready_and_says_so(idle: Server) -> None:
    let_go(idle)
    assert idle.ask("/ready").status == 200
    health = idle.health()
    assert (health["status"], health["worker"], health["children"]) == ("ok", "stopped", 0)
    assert health["memory"]["worker"] == {"pss": 0, "uss": 0}
    assert health["yt_dlp"] is not None
    found = {family.name: family for family in text_string_to_metric_families(idle.ask("/metrics").body.decode())}
    assert found["serverpy_workers"].samples[0].value == 0


def test_a_page_that_is_known_is_streamed_without_one(idle: Server, site: SampleSite) -> None:
    film = site.path("prog.mp4").read_bytes()
    assert idle.get("/page/prog", method="relay").body == film
    let_go(idle)
    assert idle.get("/page/prog", method="relay").body == film
    assert (idle.health()["worker"], idle.children()) == ("stopped", [])


def test_a_page_that_is_new_starts_one(idle: Server) -> None:
    let_go(idle)
    assert idle.get("/page/prog?new", path="/info").status == 200
    let_go(idle)


def test_embedded_reads_a_known_page_anew(idle: Server, site: SampleSite) -> None:
    """The extraction that it needs has ended with its worker."""
    assert idle.get("/page/prog?again", path="/info").status == 200
    let_go(idle)
    answer = idle.get("/page/prog?again", method="embedded")
    assert answer.body == site.path("prog.mp4").read_bytes()
    assert answer.headers["x-serverpy-method"] == "embedded"


def test_its_end_is_a_line_in_the_log_and_no_complaint(idle: Server) -> None:
    let_go(idle)
    assert "has had nothing to do" in idle.log
    warnings = [line for line in idle.log.splitlines() if "WARNING" in line]
    assert all("does not end by itself" in line for line in warnings), warnings  # on a busy machine
