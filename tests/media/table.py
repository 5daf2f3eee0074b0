"""Writes docs/media.md: what comes of each sample by each method, found by asking a real server for it.

Run as `make media-doc`; it takes some minutes. tests/media/test_table.py holds the page against what is so.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from serverpy.sample.site import SampleSite
from tests.media.measuring import METHODS, NONE, WOVEN, Costs, Facts, costs_of, facts_of
from tests.media.samples import DASH, FILES, HLS, LIVE, PAIRS, Sample, written
from tests.server import Server, serving

PAGE = Path(__file__).parents[2] / "docs" / "media.md"

HEAD = """\
# Media

<!-- Made by `make media-doc`, which asks a server for all of it: change tests/media/table.py. -->

What becomes of each sample of [the sample site](sample.md), by each method:

- **Exact**: the stream's bytes are those that yt-dlp's own command line writes (with `--fixup never`), for every format
  of the page; by `subprocess` for the best one alone. A woven film has the packets of both its sources, byte for byte
  and to the tick. Where not, the reason stands there: of an answer that was refused its status, code and text; then
  there is nothing to tell in the other columns (–).
- **Length**: whether the answer has a `Content-Length`. Playlists do not say how long their segments are, unless they
  name a range for each; what `embedded` and `subprocess` write is not known before.
- **Range**: whether a range is answered with 206 and that part of the whole. It takes a known length, and an upstream
  that gives ranges of its own: `post` is the answer to a POST.
- **First byte**: milliseconds until a client on the same machine has it, at the first visit of the page and at the
  next. One try each, on one machine that had other things to do: the magnitude counts. A child extracts at each visit
  anew.
- **Memory**: what is reserved from `MEMORY_BUDGET` for the stream while its client reads slowly, in KiB: the most that
  it may hold ([memory](memory.md)), not what was measured. A woven film's is with its layout, which all who watch it
  share. A child of `subprocess` takes some 55 MB besides, outside the budget. *Over at once*: the kernel's buffers take
  all of a small file before anybody can look; what was reserved is much the same as in the method's other rows.
"""

TITLES = {
    "Files": FILES,
    "HLS": HLS,
    "DASH": DASH,
    "Live HLS": LIVE,
    "Picture and sound apart": PAIRS,
}

NOTES = {
    "HLS": """
The rows are of formats that were named. Without `format`, pages whose sound is in segments of its own (`hls-audio`,
`hls-group`, `hls-group-muxed`) are refused with 422: segments are not woven yet. Of the latter two yt-dlp does not know
that the picture may be silent: by `subprocess` they come as they are.
""",
    "DASH": """
The rows are of formats that were named. Without `format`, picture and sound are woven where each is one file
(`dash-on-demand`), and refused with 422 where they are segments.
""",
    "Picture and sound apart": """
Woven by `relay`; the film is what the page gives by default. Nothing but `relay` weaves: `embedded` and `subprocess`
give either track alone, and refuse both together, as `pair` shows.
""",
}

COLUMNS = "| sample | method | exact | length | Range | first byte, ms | memory, KiB |\n|---|---|---|---|---|---|---|"
SMALL = "*over at once*"


@dataclass(frozen=True, slots=True)
class Row:
    sample: Sample
    method: str
    facts: Facts
    costs: Costs | None

    def __str__(self) -> str:
        cells = (self.sample.title, self.method, self.facts.exact, self.facts.length, self.facts.ranges, *self._costs())
        return f"| {' | '.join(cells)} |"

    def _costs(self) -> tuple[str, str]:
        if self.costs is None:
            return NONE, NONE
        reserved = SMALL if self.costs.reserved is None else str(round(self.costs.reserved / 1024))
        return f"{self.costs.first}, {self.costs.again}", reserved


def asked() -> Iterator[tuple[Sample, str]]:
    """All rows of the table, in their order."""
    for sample in (*FILES, *HLS, *DASH, *LIVE):
        yield from ((sample, method) for method in METHODS)
        if sample.title == "dash-on-demand":
            yield sample, WOVEN
    for sample in PAIRS:
        yield sample, WOVEN
        if sample.title == "pair":
            yield from ((sample, method) for method in METHODS if method != "relay")


def rows(server: Server, folder: Path) -> Iterator[Row]:
    """Each as soon as it is found."""
    expected = written(server.site, folder, (*FILES, *HLS, *DASH))
    for sample, method in asked():
        facts = facts_of(server, sample, method, expected.get(sample.title, {}))
        yield Row(sample, method, facts, costs_of(server, sample, method) if facts.streams else None)


def page(found: list[Row]) -> str:
    parts = [HEAD, _circumstances()]
    for title, samples in TITLES.items():
        lines = "\n".join(str(row) for row in found if row.sample in samples)
        parts.append(f"\n## {title}\n{NOTES.get(title, '')}\n{COLUMNS}\n{lines}\n")
    return "".join(parts)


def _circumstances() -> str:
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"\nMade with yt-dlp {version('yt-dlp')} and Python {platform.python_version()}, on {machine}.\n"


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory(prefix="serverpy-media-") as folder, SampleSite() as site, serving(site) as server:
        for row in rows(server, Path(folder)):
            print(row, file=sys.stderr, flush=True)
            found.append(row)
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
