"""The formats that yt-dlp's command line chooses: `python -m tests.replay.stock PROXY [OPTION …] -- URL …`.

Prints a JSON object that maps each URL to the fields of a `Choice`. The tests run this module in a process of its own,
because yt-dlp in the process of the tests may have been loaded without curl_cffi."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from yt_dlp import YoutubeDL, parse_options


@dataclass(frozen=True, slots=True)
class Choice:
    """The ids of the formats that yt-dlp chooses, and the shorter side of their video in pixels. The latter is None if
    yt-dlp does not know it."""

    ids: tuple[str, ...]
    height: int | None


def choices(proxy: str, urls: Sequence[str], *options: str) -> dict[str, Choice]:
    """Return what `yt-dlp OPTION … URL` chooses on each of `urls`. Raises CalledProcessError if yt-dlp fails."""
    command = [sys.executable, "-m", "tests.replay.stock", proxy, *options, "--", *urls]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout)
    return {url: Choice(tuple(ids), height) for url, (ids, height) in found.items()}


def main(proxy: str, *arguments: str) -> None:
    fixed = (
        "--ignore-config",
        "--quiet",
        "--no-update",
        "--no-playlist",
        "--no-cache-dir",
        "--no-check-certificates",
        "--proxy",
        proxy,
    )
    parsed = parse_options([*fixed, *arguments])
    found = {}
    for url in parsed.urls:
        with YoutubeDL(parsed.ydl_opts) as ydl:
            info = ydl.extract_info(url, download=False)
            if info is None:
                raise SystemExit(f"yt-dlp finds no media at {url}")
            parts = info.get("requested_formats") or [info]
            sides = [side for side in (parts[0].get("width"), parts[0].get("height")) if side]
            found[url] = [part["format_id"] for part in parts], min(sides, default=None)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
