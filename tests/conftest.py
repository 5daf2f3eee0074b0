"""What many tests share: one sample site for the whole run, over http and https."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.sample.site import SampleSite
from tests.server import hurried, server

__all__ = ["hurried", "server", "site"]


@pytest.fixture(scope="session")
def site() -> Iterator[SampleSite]:
    with SampleSite(port=0, https_port=0) as site:
        yield site
