"""Commands of the system that play our streams: ffmpeg, ffprobe and Chromium. The product needs none of them."""

from __future__ import annotations

import os
import shutil
import subprocess

SECONDS = 240.0


def tool(name: str) -> str:
    """Where the command is. Fails where it is not installed."""
    path = shutil.which(name)
    assert path is not None, f"{name} is missing on this machine: `make system` installs it, or says how"
    return path


def direct() -> dict[str, str]:
    """The environment, without proxies: everything is on loopback."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def said(name: str, *arguments: str) -> str:
    """What the command prints, which must succeed and complain of nothing."""
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
