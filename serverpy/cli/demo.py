"""The sample site as a child process of the server: `serve --demo`."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import serverpy
from serverpy.cli.sample import DEFAULT_PORT
from serverpy.errors import ConfigurationError
from serverpy.settings import Settings

PLUGIN_PATH = Path(serverpy.__file__).parent / "sample" / "plugins"
"""The path `serverpy.sample.PLUGIN_PATH`. Importing `serverpy.sample` would load the media generator into the
server."""
START_SECONDS = 120.0
"""Seconds that the site may take to start. At its first start, the site generates its media."""
STOP_SECONDS = 5.0


@contextlib.contextmanager
def sample_site() -> Iterator[str]:
    """Run the sample site in a child, and yield its origin once it answers. On exit, the parent ends the child; if the
    parent dies, the child ends because its stdin closes. Processes that start later find the site's plugin on their
    PYTHONPATH."""
    child = subprocess.Popen(
        [sys.executable, "-m", "serverpy", "sample", "--with-parent", "--port", str(_port())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl+C must not reach the sample site, which runs until the streams from it have ended
        start_new_session=True,
    )
    output = threading.Thread(target=_drop, args=(child.stdout,), name="sample-output")
    try:
        origin = _origin(child)
        output.start()  # the thread keeps the pipe from filling up; it ends with the child
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{PLUGIN_PATH}{os.pathsep}{path}" if path else str(PLUGIN_PATH)
        yield origin
    finally:
        _stop(child)
        if output.ident is not None:
            output.join()
        with child:  # the exit closes this process's ends of the child's pipes
            pass


def allowed(settings: Settings, origin: str) -> Settings:
    """Return a copy of the settings that also allows the sample site's address and port."""
    return settings.model_copy(update={"allow_networks": (*settings.allow_networks, urlsplit(origin).netloc)})


def _port() -> int:
    """Return the usual port if it is free, otherwise 0, so that the sample site picks a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT


def _origin(child: subprocess.Popen[str]) -> str:
    """Read the sample site's origin from its first line of output, which the site prints once it listens. Raises
    ConfigurationError if there is no such line within START_SECONDS."""
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        line = child.stdout.readline() if selector.select(START_SECONDS) else ""
    match = re.search(r"http://127\.0\.0\.1:\d+", line)
    if match is None:
        raise ConfigurationError("the sample site did not start; the lines above say why")
    return match[0]


def _drop(stream: IO[str]) -> None:
    for _ in stream:
        pass


def _stop(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
