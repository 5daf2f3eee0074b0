"""Helpers that run the real `serverpy` command in a child process, which may connect only to the sample site on
loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from serverpy.sample import PLUGIN_PATH
from serverpy.sample.site import SampleSite

SECONDS = 240.0


def command_line(site: SampleSite, name: str, *arguments: str) -> list[str]:
    allowed = site.http.removeprefix("http://")
    return [sys.executable, "-m", "serverpy", name, "--allow-networks", allowed, *arguments]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PLUGIN_PATH), **more}


def run(
    site: SampleSite, name: str, *arguments: str, cwd: Path, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command_line(site, name, *arguments),
        cwd=cwd,
        env=environment(**more),
        input=stdin.encode(),
        capture_output=True,
        timeout=SECONDS,
    )


def start(site: SampleSite, name: str, *arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    """Start the `serverpy` command in a new process group, as a shell does. The caller must wait for the process."""
    with interruptible():
        return subprocess.Popen(
            command_line(site, name, *arguments),
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let child processes that are started in the block react to SIGINT, even if this process runs in the background
    and ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def lines(output: bytes) -> list[str]:
    return output.decode().splitlines()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
