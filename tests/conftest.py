"""What many tests share: one sample site for the whole run, over http and https."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serverpy.sample.site import SampleSite


@pytest.fixture(scope="session")
def site() -> Iterator[SampleSite]:
    with SampleSite(port=0, https_port=0) as site:
        yield site
