from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serverpy.sample.site import SampleSite
from tests.matrix.cells import METHODS, Expected
from tests.server import Server, serving

SETTINGS: dict[str, Any] = {
    "stall_timeout": 2,
    "connect_timeout": 5,
    "wait_seconds": 120,
    "max_children": 3,
    "rate_limit": "none",
}
"""Settings with short timeouts. A cell whose media server stalls ends after a few times `stall_timeout` seconds."""


@pytest.fixture(scope="session")
def impatient(site: SampleSite) -> Iterator[Server]:
    """Run a server with a short stall timeout. Requests each method once, so that all processes of the server are
    running."""
    with serving(site, complaints=True, allow_networks="127.0.0.1", **SETTINGS) as server:
        for method in METHODS[:3]:
            assert server.get("/media/clip.mp4", method=method).complete
        yield server
        assert "Traceback" not in server.log, server.log


@pytest.fixture(scope="session")
def expected(impatient: Server) -> Expected:
    return Expected.of(impatient)
