"""The demo of `serve --demo`: the sample site runs as a child process of the server."""

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
"""The value of `serverpy.sample.PLUGIN_PATH`, repeated here because importing `serverpy.sample` would load the media
generator into the server."""
START_SECONDS = 120.0
"""Seconds that the sample site may take to start. On its first start, the site generates its media."""
STOP_SECONDS = 5.0


@contextlib.contextmanager
def sample_site() -> Iterator[str]:
    """Run the sample site in a child process, and yield the site's origin once the site listens. On exit, this process
    ends the child; if this process dies, the child ends because its stdin closes. Processes that start later find the
    site's yt-dlp plugin on their PYTHONPATH."""
    child = subprocess.Popen(
        [sys.executable, "-m", "serverpy", "sample", "--with-parent", "--port", str(_port())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl+C must not reach the sample site, because the site must run until all streams from it have ended
        start_new_session=True,
    )
    output = threading.Thread(target=_drop, args=(child.stdout,), name="sample-output")
    try:
        origin = _origin(child)
        output.start()  # the thread reads the pipe so that the pipe does not fill up; the thread ends with the child
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{PLUGIN_PATH}{os.pathsep}{path}" if path else str(PLUGIN_PATH)
        yield origin
    finally:
        _stop(child)
        if output.ident is not None:
            output.join()
        with child:  # at the end of the block, Popen closes this process's ends of the pipes
            pass


def allowed(settings: Settings, origin: str) -> Settings:
    """Return a copy of the settings that also allows the sample site's address and port as a media server."""
    return settings.model_copy(update={"allow_networks": (*settings.allow_networks, urlsplit(origin).netloc)})


def _port() -> int:
    """Return the usual port of the sample site if that port is free. Returns 0 otherwise, so that the site picks a free
    port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT


def _origin(child: subprocess.Popen[str]) -> str:
    """Return the sample site's origin, which is in the first line that the site prints once it listens. Raises
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
