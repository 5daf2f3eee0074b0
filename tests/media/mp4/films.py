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


class CountedReads(io.BytesIO):
    """A file that counts the seeks to places which were not next: over HTTP each is a request."""

    jumps = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        before = self.tell()
        after = super().seek(offset, whence)
        self.jumps += after != before
        return after


def decoded(film: bytes, kind: str) -> list[float]:
    """The times of all frames of the first stream of `kind`. Raises av.FFmpegError for what cannot be decoded."""
    with av.open(io.BytesIO(film), "r") as container:
        frames = container.decode(video=0) if kind == "video" else container.decode(audio=0)
        times = [frame.time for frame in frames]
    return [time for time in times if time is not None]


def sought(film: bytes, seconds: float) -> tuple[float, bool, int]:
    """Where a player that seeks in a newly opened film lands: the time of the first picture that it reads, whether it
    is a key frame, and the jumps that it took."""
    file = CountedReads(film)
    with av.open(file, "r") as container:
        video = container.streams.video[0]
        assert video.time_base is not None
        container.seek(round(seconds / video.time_base), stream=video)
        packet = next(packet for packet in container.demux(video) if packet.pts is not None)
        assert packet.pts is not None
        return float(packet.pts * video.time_base), packet.is_keyframe, file.jumps
