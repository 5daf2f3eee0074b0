"""Pytest fixtures for the sample site, its media and an environment without settings. Also contains the hook that runs
async tests."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverpy.net import range_requests
from serverpy.sample.make import ensure_media
from serverpy.sample.site import SampleSite
from serverpy.streaming.segments import retries
from tests.aio import run
from tests.server import hurried, server

__all__ = ["hurried", "server"]

_STATE = tempfile.TemporaryDirectory(prefix="serverpy-state-")
os.environ["XDG_STATE_HOME"] = _STATE.name  # the default of STATE_DIR is in the home of the user
for variable in [name for name in os.environ if name.upper().startswith("SERVERPY_")]:
    del os.environ[variable]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test in a new event loop. Returns None if the test is not async, so that pytest calls the test
    itself."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    values = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    run(lambda: test(**values))
    return True


@pytest.fixture(scope="session")
def site() -> Iterator[SampleSite]:
    with SampleSite(port=0, https_port=0) as site:
        yield site


@pytest.fixture(scope="session")
def media() -> Path:
    return ensure_media()


@pytest.fixture
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between attempts to read from a media server, for modules that test hundreds of retries."""
    for module in (range_requests, retries):
        monkeypatch.setattr(module, "BACK_OFF_SECONDS", (0.005,) * len(module.BACK_OFF_SECONDS))
