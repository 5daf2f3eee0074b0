"""The name and drawing style of each measured server in every table and chart, in the order of the tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """Name and drawing style of a measured server. The titles of this server's measurements begin with `cell`."""

    title: str
    colour: str
    marker: str
    dash: str
    cell: str
    what: str


_ROWS = """
nginx          | nginx               | #7d7d7d | s | -- | nginx, proxy_buffering off | `proxy_pass`, `proxy_buffering off`: the limit to reach
nginx-buffered | nginx, buffering    | #7d7d7d | D | :  | nginx, proxy_buffering on  | `proxy_pass` with default buffering
relay          | ServerPY relay      | #3a7fd0 | o | -  | ServerPY relay             | the default method: on the event loop
embedded       | ServerPY embedded   | #128f68 | ^ | -  | ServerPY embedded          | yt-dlp's own downloader in a thread, into a pipe
subprocess     | ServerPY subprocess | #d3483f | v | -  | ServerPY subprocess        | a child process for each request
seed           | the document's code | #c56a0a | X | -. | thread and queue           | `requests` in a thread, a queue of 20 chunks of 8 KB
httpx-relay    | httpx relay         | #c2558d | P | -- | extract, then httpx        | extract, then `httpx.stream` on the event loop
mediaflow      | mediaflow-proxy     | #8b6fd0 | * | -. | mediaflow-proxy            | from PyPI, one process
streamlink     | streamlink          | #8a7d1c | d | :  | streamlink                 | for HLS, one process per stream
"""  # noqa: E501  # keep each row of the table in one line of code


def _style(row: str) -> tuple[str, Style]:
    name, *cells = (cell.strip() for cell in row.split("|"))
    return name, Style(*cells)


STYLES = dict(map(_style, _ROWS.strip().splitlines()))


def style_of(target: str) -> Style:
    """Return the style of a measured server. An unknown server is shown by its own name."""
    return STYLES.get(target) or Style(target, "#1b8ea3", ".", "-", target, "")
