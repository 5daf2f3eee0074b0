"""The content of the media addresses: files of the sample, and a large file that is generated as it is read."""

from __future__ import annotations

import hashlib
import mimetypes
import random
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from serverpy.sample.make import ensure_media

PIECE_BYTES = 64 * 1024
MIB = 1 << 20
BOX_HEAD_BYTES = 16
# The number is prime, so that a lost or repeated chunk of a round size shifts the pattern and changes the hash.
PATTERN_BYTES = 1_048_573

TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".vtt": "text/vtt; charset=utf-8",
    ".jpg": "image/jpeg",
    ".key": "application/octet-stream",
}


def type_of(name: str) -> str:
    return TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


class Content(Protocol):
    """Bytes of known length that do not change. `modified` is in seconds since the epoch."""

    @property
    def size(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def modified(self) -> float: ...

    def pieces(self, start: int, stop: int) -> Generator[bytes]:
        """Yield the bytes from `start` up to `stop`, in chunks of at most 64 KiB. The caller closes the generator."""
        ...


@dataclass(frozen=True, slots=True)
class FileContent:
    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def type(self) -> str:
        is_audio = self.path.name.startswith("audio-") and self.path.suffix == ".mp4"
        return "audio/mp4" if is_audio else type_of(self.path.name)

    @property
    def modified(self) -> float:
        return self.path.stat().st_mtime

    def pieces(self, start: int, stop: int) -> Generator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
                start += len(piece)
                yield piece


@dataclass(frozen=True, slots=True)
class HeldContent:
    """Bytes made for one request, few enough to hold in memory."""

    data: bytes
    type: str
    modified: float

    @property
    def size(self) -> int:
        return len(self.data)

    def pieces(self, start: int, stop: int) -> Generator[bytes]:
        for place in range(start, stop, PIECE_BYTES):
            yield self.data[place : min(place + PIECE_BYTES, stop)]


@dataclass(frozen=True, slots=True)
class LargeContent:
    """`prog.mp4`, padded to `size` bytes with one `free` box that has a 64-bit size (ISO/IEC 14496-12 §4.2).

    Players skip the box. Its content is a pattern that is generated as it is read.
    """

    prog: Path
    size: int
    type: str = "video/mp4"

    @property
    def modified(self) -> float:
        return self.prog.stat().st_mtime

    def pieces(self, start: int, stop: int) -> Generator[bytes]:
        film = self.prog.stat().st_size
        if start < film:
            yield from FileContent(self.prog).pieces(start, min(stop, film))
        box = self.size - film
        head = (1).to_bytes(4, "big") + b"free" + box.to_bytes(8, "big")
        if start < film + len(head) and stop > film:
            yield head[max(start - film, 0) : stop - film]
        yield from _pattern(max(start - film - len(head), 0), stop - film - len(head))


_FLIPPED = bytes(255 - value for value in range(256))


@dataclass(frozen=True, slots=True)
class ChangedContent:
    """The bytes of `before` with every bit flipped. If `told` is true, the date and the ETag change too."""

    before: Content
    told: bool

    @property
    def size(self) -> int:
        return self.before.size

    @property
    def type(self) -> str:
        return self.before.type

    @property
    def modified(self) -> float:
        return self.before.modified + 60 * self.told

    def pieces(self, start: int, stop: int) -> Generator[bytes]:
        for piece in self.before.pieces(start, stop):
            yield piece.translate(_FLIPPED)


@cache
def _period() -> bytes:
    return random.Random(2).randbytes(PATTERN_BYTES)


def _pattern(start: int, stop: int) -> Generator[bytes]:
    period = _period()
    while start < stop:
        place = start % PATTERN_BYTES
        piece = period[place : min(place + PIECE_BYTES, place + stop - start)]
        start += len(piece)
        yield piece


def large_content(mib: int, prog: Path) -> LargeContent | None:
    """Return the large file of exactly `mib` MiB. Returns None if `prog.mp4` alone is larger."""
    if mib * MIB < prog.stat().st_size + BOX_HEAD_BYTES:
        return None
    return LargeContent(prog, mib * MIB)


@cache
def large_sha256(mib: int) -> str:
    """Return the hexadecimal SHA-256 of `/media/large-<mib>.mp4`. It is computed chunk by chunk and cached.

    Raises ValueError if there is no large file of that size.
    """
    content = large_content(mib, ensure_media() / "prog.mp4")
    if content is None:
        raise ValueError(f"no large file of {mib} MiB: it would be smaller than prog.mp4, which it contains")
    digest = hashlib.sha256()
    for piece in content.pieces(0, content.size):
        digest.update(piece)
    return digest.hexdigest()
