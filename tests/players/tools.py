"""System commands that play streams in tests, such as ffmpeg, ffprobe and Chromium. The server itself needs none of
them."""

from __future__ import annotations

import os
import shutil
import subprocess

SECONDS = 240.0


def tool(name: str) -> str:
    """Return the path of a system command. Raises AssertionError if the command is not installed."""
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
    assert (done.returncode, done.stderr) == (0, ""), f"{name} {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout


def play_by_mpv(url: str, *options: str) -> None:
    """Play two seconds of `url` in mpv. Raises AssertionError if mpv fails or prints a warning."""
    quiet = ("--no-config", "--ytdl=no", "--vo=null", "--ao=null", "--length=2", "--msg-level=all=warn")
    assert said("mpv", *quiet, "--term-status-msg=", *options, url) == ""


def remux_by_vlc(url: str) -> bytes:
    """Return what VLC plays, as an MPEG transport stream. VLC refuses to run as root."""
    stream = ("-I", "dummy", "--no-media-library", "--play-and-exit", "--sout", "#std{access=file,mux=ts,dst=-}")
    user = ("runuser", "-u", "nobody", "--") if os.getuid() == 0 else ()
    command = [*user, tool("cvlc"), *stream, "-q", url]
    done = subprocess.run(command, env=direct(), stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def codecs_of(data: bytes) -> list[str]:
    """Return the codecs of the tracks in `data`, in alphabetical order."""
    shown = ("-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", "-")
    found = subprocess.run(
        [tool("ffprobe"), *shown], input=data, capture_output=True, timeout=SECONDS, check=True
    ).stdout.decode()
    return sorted(set(found.split()))
