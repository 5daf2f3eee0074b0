"""System commands that play streams in tests, such as ffmpeg, ffprobe and Chromium. The server itself needs none of
them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

SECONDS = 240.0
NODE = Path(__file__).parents[1] / "node"
"""Folder of the scripts for Node.js."""


def missing(name: str, remedy: str) -> NoReturn:
    """Skip the test, or fail it if the environment variable CI is true."""
    end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    end(f"{name} is missing: {remedy}")


def tool(name: str) -> str:
    """Return the path of a system command. Skips the test as `missing` does if the command is not installed."""
    return shutil.which(name) or missing(name, "`make system` installs it, or says how")


def node_path(package: str) -> str:
    """Return the NODE_PATH with which Node.js finds an npm package. Skips the test as `missing` does if the package is
    not installed."""
    packages = NODE.parents[1] / ".venv" / "node" / "node_modules"
    return str(packages) if (packages / package).is_dir() else missing(package, "`make node` installs it")


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
    assert (done.returncode, done.stderr) == (0, ""), f"{name} {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout


def play_by_mpv(url: str, *options: str) -> None:
    """Play two seconds of `url` in mpv. Raises AssertionError if mpv fails or prints a warning."""
    quiet = ("--no-config", "--ytdl=no", "--vo=null", "--ao=null", "--length=2", "--msg-level=all=warn")
    assert said("mpv", *quiet, "--term-status-msg=", *options, url) == ""


def remux_by_vlc(url: str) -> bytes:
    """Return what VLC plays, as an MPEG transport stream, or b"" if it plays nothing. VLC refuses to run as root."""
    options = ("-I", "dummy", "--no-media-library", "--keystore=memory", "--play-and-exit", "-q")
    done = subprocess.run(
        [tool("cvlc"), *options, "--sout", "#std{access=file,mux=ts,dst=-}", url],
        env=direct(),
        user="nobody" if os.getuid() == 0 else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def codecs_of(data: bytes) -> list[str]:
    """Return the codecs of the tracks in `data`, in alphabetical order."""
    shown = ("-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", "-")
    found = subprocess.run(
        [tool("ffprobe"), *shown], input=data, capture_output=True, timeout=SECONDS, check=True
    ).stdout.decode()
    return sorted(set(found.split()))
