"""What the tests of the weave share: sources in memory, the weave of a pair, and what a demuxer reads of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from dataclasses import dataclass

import av

from serverpy.media.mp4.boxes import Box, boxes
from serverpy.media.mp4.locate import Located, Span, locate


def located(film: bytes) -> Located:
    """What `locate` finds in `film`."""
    return drive(locate(len(film)), film)[0]


def drive(reading: Generator[Span, bytes, Located], film: bytes) -> tuple[Located, list[Span]]:
    """The outcome, and the ranges that it asked for."""
    asked = list[Span]()
    try:
        asked.append(next(reading))
        while True:
            asked.append(reading.send(film[asked[-1].first : asked[-1].end]))
    except StopIteration as end:
        return end.value, asked


@dataclass(frozen=True)
class Packet:
    """A packet as a demuxer gives it, its bytes by their digest."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_keyframe: bool
    digest: str


def packets(film: bytes, kind: str) -> list[Packet]:
    """Those of the first stream of `kind`, "video" or "audio"; times in the stream's own units."""
    with av.open(io.BytesIO(film), "r") as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            Packet(packet.pts, packet.dts, packet.duration, packet.is_keyframe, _digest(bytes(packet)))
            for packet in container.demux(stream)
            if packet.dts is not None
        ]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def own_boxes(film: bytes) -> list[Box]:
    """The boxes of a file, not those inside them."""
    return list(boxes(memoryview(film), 0, len(film)))
