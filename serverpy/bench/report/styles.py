"""How each target is named and drawn, the same in every table and chart. Order is that of the tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    title: str
    colour: str
    marker: str
    dash: str
    what: str
    cell: str
    """How the titles of its measurements start."""


SHOWN: dict[str, Look] = {
    "nginx": Look(
        "nginx",
        "#7d7d7d",
        "s",
        "--",
        "`proxy_pass`, `proxy_buffering off`: the limit to reach",
        "nginx, proxy_buffering off",
    ),
    "nginx-buffered": Look(
        "nginx, buffering", "#7d7d7d", "D", ":", "`proxy_pass` as it comes", "nginx, proxy_buffering on"
    ),
    "relay": Look("ServerPY relay", "#3a7fd0", "o", "-", "the default method: on the event loop", "ServerPY relay"),
    "embedded": Look(
        "ServerPY embedded",
        "#128f68",
        "^",
        "-",
        "yt-dlp's own downloader in a thread, into a pipe",
        "ServerPY embedded",
    ),
    "subprocess": Look(
        "ServerPY subprocess", "#d3483f", "v", "-", "a child process for each request", "ServerPY subprocess"
    ),
    "seed": Look(
        "the document's code",
        "#c56a0a",
        "X",
        "-.",
        "`requests` in a thread, a queue of 20 chunks of 8 KB",
        "thread and queue",
    ),
    "httpx-relay": Look(
        "httpx relay", "#c2558d", "P", "--", "extract, then `httpx.stream` on the event loop", "extract, then httpx"
    ),
    "mediaflow": Look("mediaflow-proxy", "#8b6fd0", "*", "-.", "from PyPI, as it comes", "mediaflow-proxy"),
    "streamlink": Look("streamlink", "#8a7d1c", "d", ":", "for HLS, one process a stream", "streamlink"),
}


def shown(target: str) -> Look:
    """A target that is new here is shown by its own name."""
    return SHOWN.get(target) or Look(target, "#1b8ea3", ".", "-", "", target)
