"""DASH manifests that address the fragments made by `cut.py` in different ways, and copies of the fragments under other
file names."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from serverpy.sample.boxes import boxes, within
from serverpy.sample.cut import Representation, write_lines
from serverpy.sample.encode import SECONDS, SEGMENT_SECONDS

SEGMENTS = SECONDS // SEGMENT_SECONDS
FIRST_PERIOD_SEGMENTS = 3
INDEXED = {"video-360": "video-sidx.mp4", "video-180": "video-180-sidx.mp4", "audio": "audio-sidx.mp4"}
"""Map from each representation to its file with a `sidx`. Manifests of the on-demand profile refer to these files."""

Tracks = list[tuple[Representation, int]]
"""Representations, each with its average bandwidth in bit/s."""


@dataclass(frozen=True, slots=True)
class Period:
    """A period of a manifest. `segments` returns the XML content of a representation's element; `base` and `set_base`
    are the BaseURLs of the period and of its adaptation sets."""

    seconds: int
    segments: Callable[[Representation], str]
    base: str = ""
    set_base: str = ""


def make_dash_shapes(folder: Path, tracks: Tracks) -> None:
    """Write the manifests of `SHAPES` into `folder`, which must already have the fragments of all tracks. The parent
    folder must have the files with a `sidx`."""
    for name, make in SHAPES.items():
        make(folder, name, tracks)


def manifest(tracks: Tracks, periods: list[Period], base: str = "") -> list[str]:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT2S"'
        f' profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT{SECONDS}S">',
        *_base_url(base),
    ]
    for number, period in enumerate(periods, start=1):
        lines += [f'<Period id="{number}" duration="PT{period.seconds}S">', *_base_url(period.base)]
        for kind in ("video", "audio"):
            lines.append(f'<AdaptationSet contentType="{kind}" mimeType="{kind}/mp4" segmentAlignment="true">')
            lines += _base_url(period.set_base)
            for track, bandwidth in tracks:
                if track.kind == kind:
                    lines += [
                        f'<Representation id="{track.name}" codecs="{track.codecs}" bandwidth="{bandwidth}"'
                        f" {track.attributes}>",
                        period.segments(track),
                        "</Representation>",
                    ]
            lines.append("</AdaptationSet>")
        lines.append("</Period>")
    return [*lines, "</MPD>"]


def _base_url(base: str) -> list[str]:
    return [f"<BaseURL>{base}</BaseURL>"] if base else []


def _template(media: str, inside: str = "", init: str = "$RepresentationID$-init.mp4", **attributes: int) -> str:
    named = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<SegmentTemplate initialization="{init}" media="{media}"{named}>{inside}</SegmentTemplate>'


def _by_number(folder: Path, name: str, tracks: Tracks) -> None:
    def segments(_track: Representation) -> str:
        return _template(
            "$RepresentationID$-$Number$.m4s", timescale=1000, duration=SEGMENT_SECONDS * 1000, startNumber=1
        )

    write_lines(folder / name, manifest(tracks, [Period(SECONDS, segments)]))


def _by_list(folder: Path, name: str, tracks: Tracks) -> None:
    def segments(track: Representation) -> str:
        urls = "".join(f'<SegmentURL media="{track.name}-{n}.m4s"/>' for n in range(1, SEGMENTS + 1))
        return (
            f'<SegmentList timescale="1000" duration="{SEGMENT_SECONDS * 1000}">'
            f'<Initialization sourceURL="{track.name}-init.mp4"/>{urls}</SegmentList>'
        )

    write_lines(folder / name, manifest(tracks, [Period(SECONDS, segments)]))


def _on_demand(folder: Path, name: str, tracks: Tracks) -> None:
    """Write the manifest in which each representation is one file, and the manifest states the byte range of the file's
    sidx."""
    for track, source in INDEXED.items():
        shutil.copyfile(folder.parent / source, folder / f"{track}.mp4")

    def segments(track: Representation) -> str:
        film = (folder / f"{track.name}.mp4").read_bytes()
        (index,) = (box for box in boxes(film) if box.kind == b"sidx")
        return (
            f'<BaseURL>{track.name}.mp4</BaseURL><SegmentBase indexRange="{index.start - 8}-{index.stop - 1}">'
            f'<Initialization range="0-{index.start - 9}"/></SegmentBase>'
        )

    write_lines(folder / name, manifest(tracks, [Period(SECONDS, segments)]))


def _by_time(folder: Path, name: str, tracks: Tracks) -> None:
    """Write the manifest with a SegmentTimeline, in which each segment is named by its start time."""

    def segments(track: Representation) -> str:
        clock, starts = _starts(folder, track.name)
        for number, start in enumerate(starts, start=1):
            shutil.copyfile(folder / f"{track.name}-{number}.m4s", folder / f"{track.name}-at-{start}.m4s")
        ends = [*starts[1:], SECONDS * clock]
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        if len(set(lengths)) == 1:
            line = f'<S t="0" d="{lengths[0]}" r="{len(lengths) - 1}"/>'
        else:
            line = "".join(f'<S t="{start}" d="{length}"/>' for start, length in zip(starts, lengths, strict=True))
        timeline = f"<SegmentTimeline>{line}</SegmentTimeline>"
        return _template("$RepresentationID$-at-$Time$.m4s", timeline, timescale=clock)

    write_lines(folder / name, manifest(tracks, [Period(SECONDS, segments)]))


def _starts(folder: Path, track: str) -> tuple[int, list[int]]:
    """Return the timescale of a track, and the start time of each fragment in that timescale, from a version 0 `mdhd`
    (ISO/IEC 14496-12 §8.4.2) and version 1 `tfdt` boxes (§8.8.12)."""
    head = (folder / f"{track}-init.mp4").read_bytes()
    (clock,) = (struct.unpack_from(">I", head, box.start + 12)[0] for box in within(head) if box.kind == b"mdhd")
    starts = []
    for number in range(1, SEGMENTS + 1):
        fragment = (folder / f"{track}-{number}.m4s").read_bytes()
        starts += [struct.unpack_from(">Q", fragment, b.start + 4)[0] for b in within(fragment) if b.kind == b"tfdt"]
    return clock, starts


def _periods(folder: Path, name: str, tracks: Tracks) -> None:
    """Write the manifest with two periods. The second period uses the same initialization segment and continues the
    segment numbers of the first."""
    second = FIRST_PERIOD_SEGMENTS + 1

    def segments(start: int) -> Callable[[Representation], str]:
        return lambda _track: _template("$RepresentationID$-$Number$.m4s", duration=SEGMENT_SECONDS, startNumber=start)

    seconds = FIRST_PERIOD_SEGMENTS * SEGMENT_SECONDS
    periods = [Period(seconds, segments(1)), Period(SECONDS - seconds, segments(second))]
    write_lines(folder / name, manifest(tracks, periods))


def _restart(folder: Path, name: str, tracks: Tracks) -> None:
    """Write the manifest with two periods. The second period plays the first segments again, whose times begin at 0
    like the period itself."""

    def segments(_track: Representation) -> str:
        return _template("$RepresentationID$-$Number$.m4s", duration=SEGMENT_SECONDS, startNumber=1)

    seconds = FIRST_PERIOD_SEGMENTS * SEGMENT_SECONDS
    write_lines(folder / name, manifest(tracks, [Period(seconds, segments), Period(SECONDS - seconds, segments)]))


def _ranges(folder: Path, name: str, tracks: Tracks) -> None:
    """Write the manifest that lists the fragments, and the initialization segment, as byte ranges of one file."""

    def segments(track: Representation) -> str:
        parts = [(folder / f"{track.name}-{part}").read_bytes() for part in ("init.mp4", *_fragments())]
        (folder / f"{track.name}-whole.mp4").write_bytes(b"".join(parts))
        ends = list(accumulate(map(len, parts)))
        urls = "".join(
            f'<SegmentURL media="{track.name}-whole.mp4" mediaRange="{first}-{end - 1}"/>'
            for first, end in pairwise(ends)
        )
        return (
            f'<SegmentList timescale="1000" duration="{SEGMENT_SECONDS * 1000}">'
            f'<Initialization sourceURL="{track.name}-whole.mp4" range="0-{ends[0] - 1}"/>{urls}</SegmentList>'
        )

    write_lines(folder / name, manifest(tracks, [Period(SECONDS, segments)]))


def _fragments() -> list[str]:
    return [f"{number}.m4s" for number in range(1, SEGMENTS + 1)]


def _bases(folder: Path, name: str, tracks: Tracks) -> None:
    """Write the manifest whose URLs combine BaseURLs of all four levels; the BaseURL of the first level has the origin.
    Segment numbers have three digits."""
    for track, _ in tracks:
        target = folder / "bases" / track.name
        target.mkdir(parents=True)
        shutil.copyfile(folder / f"{track.name}-init.mp4", target / "init.mp4")
        for number in range(1, SEGMENTS + 1):
            shutil.copyfile(folder / f"{track.name}-{number}.m4s", target / f"{number:03}.m4s")

    def segments(track: Representation) -> str:
        template = _template("$Number%03d$.m4s", init="init.mp4", duration=SEGMENT_SECONDS, startNumber=1)
        return f"<BaseURL>{track.name}/</BaseURL>{template}"

    period = Period(SECONDS, segments, base="dash/", set_base="bases/")
    write_lines(folder / name, manifest(tracks, [period], base="{origin}/"))


SHAPES: dict[str, Callable[[Path, str, Tracks], None]] = {
    "manifest.mpd": _by_number,
    "list.mpd": _by_list,
    "on-demand.mpd": _on_demand,
    "time.mpd": _by_time,
    "periods.mpd": _periods,
    "ranges.mpd": _ranges,
    "restart.mpd": _restart,
    "bases.mpd": _bases,
}
