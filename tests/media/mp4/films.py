"""Helpers for tests of merged MP4s. They locate the boxes of an MP4 in memory, and read its packets with a demuxer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import av

from serverpy.media.mp4.boxes import Box, boxes
from serverpy.media.mp4.locate import Located, Span, locate


def located(film: bytes) -> Located:
    """Return the boxes and tracks that `locate` finds in the MP4 `film`."""
    return drive(locate(len(film)), film)[0]


class Film(Protocol):
    """The bytes of a film."""

    def __getitem__(self, span: slice, /) -> bytes: ...


def drive(reading: Generator[Span, bytes, Located], film: Film) -> tuple[Located, list[Span]]:
    """Run the generator `reading`, which requests byte spans of a file, with the bytes of `film`. Returns the result of
    the generator, and the requested spans."""
    asked = list[Span]()
    try:
        asked.append(next(reading))
        while True:
            asked.append(reading.send(film[asked[-1].first : asked[-1].end]))
    except StopIteration as end:
        return end.value, asked


@dataclass(frozen=True)
class Packet:
    """A packet from a demuxer, with a digest of its bytes."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_keyframe: bool
    digest: str


def packets(film: bytes, kind: str) -> list[Packet]:
    """Return the packets of the first stream of type `kind`, which is "video" or "audio". Times are in the stream's
    time base."""
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
    """Return the top-level boxes of a file."""
    return list(boxes(memoryview(film), 0, len(film)))


class CountedReads(io.BytesIO):
    """A file object that counts its seeks to another position. For each of these seeks, a player over HTTP would send a
    request."""

    jumps = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        before = self.tell()
        after = super().seek(offset, whence)
        self.jumps += after != before
        return after


def decoded(film: bytes, kind: str) -> list[float]:
    """Return the presentation times of all decoded frames of the first stream of type `kind`. Raises av.FFmpegError if
    a frame cannot be decoded."""
    with av.open(io.BytesIO(film), "r") as container:
        frames = container.decode(video=0) if kind == "video" else container.decode(audio=0)
        times = [frame.time for frame in frames]
    return [time for time in times if time is not None]


def sought(film: bytes, seconds: float) -> tuple[float, bool, int]:
    """Seek to `seconds` in a newly opened file, as a player does. Returns the time in seconds of the first video packet
    after the seek, whether that packet is a key frame, and the number of seeks in the file."""
    file = CountedReads(film)
    with av.open(file, "r") as container:
        video = container.streams.video[0]
        assert video.time_base is not None
        container.seek(round(seconds / video.time_base), stream=video)
        packet = next(packet for packet in container.demux(video) if packet.pts is not None)
        assert packet.pts is not None
        return float(packet.pts * video.time_base), packet.is_keyframe, file.jumps
