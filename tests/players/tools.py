"""System commands that play streams in tests: ffmpeg, ffprobe and Chromium. The server needs none of them."""

from __future__ import annotations

import os
import shutil
import subprocess

SECONDS = 240.0


def tool(name: str) -> str:
    """Return the path of a system command. Raises AssertionError if it is not installed."""
    path = shutil.which(name)
    assert path is not None, f"{name} is missing on this machine: `make system` installs it, or says how"
    return path


def direct() -> dict[str, str]:
    """Return the environment without proxy variables, because all servers are on loopback."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def said(name: str, *arguments: str) -> str:
    """Run a command and return its output. Raises AssertionError if the command fails or writes to stderr."""
    done = subprocess.run(
        [tool(name), *arguments],
        env=direct(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{name} {' '.join(arguments)}: {done.stderr}"
    return done.stdout
