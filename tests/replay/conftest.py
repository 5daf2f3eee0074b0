"""Fixtures: the replayed internet, a server that reaches it, and the choices of yt-dlp's command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.sample.site import SampleSite
from tests.replay.internet import Internet
from tests.replay.results import SINGLE
from tests.replay.sites import PAGES, SITES
from tests.replay.stock import Choice, choices
from tests.server import Server, serving


@pytest.fixture(scope="package")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with Internet(SITES, tmp_path_factory.mktemp("internet")) as internet:
        yield internet
    assert internet.failures == []


@pytest.fixture(scope="package")
def replayed(internet: Internet, site: SampleSite) -> Iterator[Server]:
    """Run a server that reaches the replayed internet by the setting PROXY."""
    with serving(site, proxy=internet.proxy, proxy_dns="remote", ca_file=internet.ca_file, stall_timeout=30) as server:
        yield server


@pytest.fixture(scope="package")
def stock(internet: Internet) -> dict[str, Choice]:
    """Return the formats that `yt-dlp -S res:1080` chooses on each page with one item."""
    return choices(internet.proxy, [PAGES[name][1] for name in SINGLE], "-S", "res:1080")
