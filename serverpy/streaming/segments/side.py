"""One side of a merge: the segments of one track, read as a sequence of fragments (a moof and the data behind it).

A side holds one chunk of bytes and one moof in memory, and borrows the memory for a long moof. It leaves out the boxes
between two fragments (styp, sidx and emsg), because they describe the source and not the merged file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from serverpy.errors import TooLarge, UnsupportedConversion, UpstreamFailed
from serverpy.media.mp4.boxes import HEADER_BYTES, Box, box_at, damaged
from serverpy.media.mp4.locate import MAX_LARGE_MOOF_BYTES, MAX_MOOF_BYTES
from serverpy.media.mp4.moof import Moof, read_moof
from serverpy.media.mp4.own_trafs import with_own_trafs
from serverpy.media.mp4.sections import Section, read_section
from serverpy.memory.room import Room
from serverpy.net.connection import SMALL_STEP
from serverpy.segment_kinds import JUDGED_BYTES, CodecChange, Kind, kind_of
from serverpy.streaming.segments.segment import Segment
from serverpy.streaming.segments.segmented import SegmentedRead
from serverpy.tasks import in_thread

HOLE_SECONDS = 0.5
"""Minimum length, in seconds, of a gap in the decode times of a track that may mean missing bytes. The bytes count as
missing only if the segments before the gap are shorter than the playlist states, by more than half of the gap."""
SHORT_SECONDS = 1.0
"""Minimum number of seconds by which the last segment must be shorter than the playlist states to count as
truncated."""
BACK_SECONDS = 0.25
"""Maximum number of seconds by which the decode times of a track may go back, because of rounding, without beginning a
new time line."""
_LARGEST_BOX = 1 << 62
_COPIES = 5
"""Number of copies of a moof that are in memory while it is read, patched and sent, according to measurements and with
a margin."""
_BESIDE_BYTES = 4096
"""Number of bytes that are read in addition to a small part, because they probably contain the next moof."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a box, in bytes: its offset in the concatenation of all segments, in the segment that contains
    the box, and in the file that contains the segment."""

    in_all: int
    in_segment: int
    in_file: int


class Side:
    """The fragments of the track of the type `handler`, in the order in which `read` returns them. The caller must
    first call `begin`. For each fragment, the caller must then call `sent` once, `payload` until it returns `b""`, and
    `advance`, which goes to the next fragment. `states_durations` states whether the manifest has a duration for each
    single segment, as in HLS. A DASH manifest may state only one duration for all segments. The side borrows the memory
    for a moof or moov of more than MAX_MOOF_BYTES from `room`: for a moof until it is sent, for a moov until the next
    one or until the side is closed."""

    def __init__(self, read: SegmentedRead, handler: bytes, room: Room, *, states_durations: bool) -> None:
        self._read = read
        self._handler = handler
        self._room = room
        self._borrowed = 0
        """Number of bytes that are borrowed for the last box that was read as a whole."""
        self._section_borrowed = 0
        """Number of bytes that are borrowed for the present initialization section."""
        self._states_durations = states_durations
        self._chunk = b""
        self._used = 0
        self._at = 0
        self._segment: Segment | None = None
        self._segment_at = 0
        """Offset of the first byte of the current segment in the concatenation of all segments."""
        self._segment_ticks = 0
        """Duration, in units of the track's time scale, of the samples that have been read from the current segment."""
        self._short_seconds = 0.0
        """Number of seconds by which the segments that have ended since the last fragment are shorter than the playlist
        states."""
        self._has_own = self._has_unknown = False
        """Whether the current segment has fragments of the track, and whether it has fragments of a track that the
        initialization section does not describe."""
        self._in_box = False
        self._has_media = False
        """Whether the current segment has a moof or mdat box."""
        self._left = 0
        self._is_over = False
        self._section: Section | None = None
        self.moof: Moof | None = None
        """The moof of the next fragment, which has been read but not sent yet; None otherwise."""
        self.position = Position(0, 0, 0)
        """The position of `moof` in its source."""
        self.is_at_break = False
        """Whether a new time line of the track may begin with `moof`. This is so at the beginning of the track, at a
        discontinuity, after an initialization section, and if the decode times go back by more than BACK_SECONDS."""
        self.shift = 0.0
        """Number of seconds by which the times of the track are later in the merged file than in the source."""
        self.end = 0.0
        """The time in the merged file, in seconds, at which the last fragment that was sent ends."""

    @property
    def section(self) -> Section:
        assert self._section is not None
        return self._section

    @property
    def duration(self) -> float | None:
        """Duration of the track in seconds; None if it is unknown."""
        return self._read.duration

    @property
    def stated_end(self) -> float | None:
        """The time in the merged file, in seconds, at which the track ends according to the playlist; None if its
        duration is unknown. The caller must not have sent a fragment yet."""
        return None if self.duration is None else self.begin_time + self.shift + self.duration

    @property
    def total(self) -> int | None:
        """The length of all segments together in bytes; None if the playlist does not state it."""
        return self._read.extent.total

    @property
    def has_foreign(self) -> bool:
        """Whether the segments may have fragments of other tracks."""
        return self.section.has_others

    def listed(self) -> AsyncIterator[Segment]:
        """Yield the segments that the playlist lists. Yields none if the stream is live."""
        return self._read.listed()

    @property
    def begin_time(self) -> float:
        """The time, in seconds on the time line of the source, at which the fragment of `moof` begins."""
        assert self.moof is not None
        if self.moof.time is None:
            return self.end - self.shift
        return self.moof.time / self.section.scale

    @property
    def turn(self) -> float:
        """The time in the merged file, in seconds, at which the next fragment begins. If that time is not known yet,
        the time at which the last fragment ends."""
        return self.end if self.moof is None or self.is_at_break else self.begin_time + self.shift

    async def begin(self) -> None:
        """Read up to the first fragment. Raises `UnsupportedConversion` if the segments are not fragmented MP4, and the
        errors of `kind_of` and `advance`."""
        await self._peek(HEADER_BYTES)
        # judge all bytes that have arrived, because packets of MPEG-TS may follow the signature of an image
        kind = kind_of(self._chunk[:JUDGED_BYTES])
        if kind is not Kind.ISO:
            raise UnsupportedConversion(f"The segments of one of the two formats are not MP4 but {kind.value}.")
        if not await self.advance() or self._section is None:
            raise damaged("the segments contain no movie fragment (moof box)")

    async def advance(self) -> bool:
        """Read up to the next fragment that has samples of the track, and store its moof in `moof`. Returns False at
        the end. Raises `UpstreamFailed` if bytes are missing, `CodecChange` if a new initialization section changes the
        codec parameters, `TooLarge` if a moof or moov has more than MAX_LARGE_MOOF_BYTES, and the errors of
        `_check_tracks`, `read_moof`, `Room.grow` and `SegmentedRead.read`."""
        assert not self._left
        self.moof = None
        while (box := await self._next_box()) is not None:
            if box.kind == b"moov":
                self._take_section(await self._whole(box))
            elif box.kind == b"moof":
                if await self._take_moof(await self._whole(box)):
                    return True
                self._give_back()
                await self._skip_data()
            elif box.kind == b"mdat":
                raise damaged("a segment has an mdat box without a moof box before it")
            else:
                await self._skip(box)
        self._check_tracks()
        self._check_last()
        self._is_over = True
        return False

    async def payload(self, most: int) -> bytes:
        """Return the next bytes of the fragment after its moof, or `b""` at the end of the fragment. Reads at most
        `most` bytes from the media server at once. Boxes between the moof and the mdat become `free` boxes. They are
        not removed, because the data offsets count from the moof."""
        if self.moof is not None:
            return await self._begin_data()
        if not self._left:
            return b""
        part = await self._some(self._left, most)
        self._left -= len(part)
        self._in_box = self._left > 0
        return part

    def sent(self) -> None:
        """Record that the moof was sent. The caller sends the data of the fragment next."""
        assert self.moof is not None
        self.end = self.begin_time + self.shift + self.moof.duration / self.section.scale
        self.is_at_break = False

    async def aclose(self) -> None:
        self._chunk, self.moof = b"", None
        self._room.release()
        await self._read.aclose()

    def _take_section(self, moov: bytes) -> None:
        section = read_section(moov, self._handler)
        if self._section is not None and not section.fits(self._section):
            raise CodecChange("The media changes its codecs or their parameters, which one file cannot express.")
        self._room.shrink(self._section_borrowed)
        self._section = section  # its track may have another number
        self._section_borrowed, self._borrowed = self._borrowed, 0
        self.is_at_break = True

    async def _take_moof(self, data: bytes) -> bool:
        """Store the moof box `data` as the next moof. Returns False if the box has no samples of the track."""
        if self._section is None:
            raise damaged("a moof box comes before the moov box")
        in_all = self._at - len(data)
        in_segment = in_all - self._segment_at
        position = Position(in_all, in_segment, in_segment + (0 if self._segment is None else self._segment.first))
        section = self._section
        parse = partial(_parse, section, data, position)
        moof = parse() if len(data) <= MAX_MOOF_BYTES else await in_thread(parse, name="read a moof")
        if not moof.has_track:
            self._has_unknown |= bool(moof.foreign) and section.others is None
            return False
        self._has_own = True
        self.moof, self.position = moof, position
        self._judge_time(moof)
        self._segment_ticks += moof.duration
        self._short_seconds = 0.0
        return True

    def _judge_time(self, moof: Moof) -> None:
        if moof.time is None or self.is_at_break:
            return
        hole = self.begin_time + self.shift - self.end
        if hole < -BACK_SECONDS:
            self.is_at_break = True
        elif hole > HOLE_SECONDS and self._short_seconds > hole / 2:
            raise _cut()

    def _check_tracks(self) -> None:
        """Raise `NotMedia` if the current segment has fragments of an unknown track instead of fragments of the track.
        Otherwise fragments of unknown tracks are ignored, as players do."""
        if self._has_unknown and not self._has_own:
            raise damaged("the fragments belong to a track that the initialization section does not describe")

    def _check_last(self) -> None:
        """Raise `UpstreamFailed` if the last segment is much shorter than the playlist states, and the media server did
        not state the length of the segment. A small difference is no error, because some packagers round the
        durations."""
        segment = self._segment
        if self._states_durations and not self._read.states_length and segment is not None and segment.duration:
            short = segment.duration - self._seconds(self._segment_ticks)
            if short > max(SHORT_SECONDS, segment.duration / 4):
                raise _cut()

    def _seconds(self, ticks: int) -> float:
        return 0.0 if self._section is None else ticks / self._section.scale

    async def _begin_data(self) -> bytes:
        """Return the boxes between moof and mdat, changed to `free` boxes, and the header of the mdat box."""
        self.moof = None
        self._give_back()
        head = bytearray()
        while (box := await self._next_box()) is not None:
            if box.kind == b"mdat":
                self._left = box.end - box.body
                self._in_box = self._left > 0
                return bytes(head) + header_of(box)
            if box.kind in (b"moof", b"moov"):
                break
            if len(head) + box.end > MAX_MOOF_BYTES:
                raise _too_large()
            whole = bytearray(await self._whole(box))
            whole[4:8] = b"free"
            head += whole
        raise _cut()

    async def _skip_data(self) -> None:
        """Skip the rest of a fragment that has no samples of the track, up to the end of its mdat."""
        while (box := await self._next_box()) is not None:
            await self._skip(box)
            if box.kind == b"mdat":
                return

    async def _next_box(self) -> Box | None:
        """Consume the header of the next box. Returns None at the end of the last segment."""
        head = await self._peek(HEADER_BYTES)
        if not head:
            return None
        box = box_at(memoryview(head), 0, _LARGEST_BOX)
        if box is None:
            raise _cut()
        self._used += box.body
        self._at += box.body
        self._in_box = box.end > box.body
        self._has_media = self._has_media or box.kind in (b"moof", b"mdat")
        return box

    async def _peek(self, count: int) -> bytes:
        """Return the next `count` bytes without consuming them. Returns fewer bytes if these already contain a whole
        box header, and `b""` at the end of the last segment. The bytes come from two segments only if the first segment
        ends within a box header."""
        if self._used == len(self._chunk) and not await self._fill(SMALL_STEP):
            return b""
        while len(self._chunk) - self._used < count:
            box = box_at(memoryview(self._chunk)[self._used :], 0, _LARGEST_BOX)
            if box is not None:
                break
            rest, self._in_box = self._chunk[self._used :], True
            if not await self._fill(SMALL_STEP, held=len(rest)):
                raise _cut()
            self._chunk = rest + self._chunk
        return self._chunk[self._used : self._used + count]

    async def _whole(self, box: Box) -> bytes:
        """Return all bytes of `box`, whose header has been consumed. If these are more than MAX_MOOF_BYTES, borrows the
        memory for them, which `_give_back` gives back."""
        if box.end > MAX_LARGE_MOOF_BYTES:
            raise _too_large()
        if box.end > MAX_MOOF_BYTES:
            await self._room.grow(_COPIES * box.end)
            self._borrowed = _COPIES * box.end
        parts, left = [header_of(box)], box.end - box.body
        while left:
            part = await self._some(left, SMALL_STEP)
            parts.append(part)
            left -= len(part)
        self._in_box = False
        return b"".join(parts)

    def _give_back(self) -> None:
        self._room.shrink(self._borrowed)
        self._borrowed = 0

    async def _skip(self, box: Box) -> None:
        left = box.end - box.body
        while left:
            left -= len(await self._some(left, SMALL_STEP))
        self._in_box = False

    async def _some(self, length: int, most: int) -> bytes:
        """Consume between 1 and `length` bytes. Raises `UpstreamFailed` if the segments have no further byte."""
        # read a large part with exactly its own length: cutting it out of a longer chunk would copy it
        wanted = length if length > SMALL_STEP else length + _BESIDE_BYTES
        if self._used == len(self._chunk) and not await self._fill(min(most, wanted)):
            raise _cut()
        if not self._used and len(self._chunk) <= length:
            part, self._chunk = self._chunk, b""
        else:
            part = self._chunk[self._used : self._used + length]
            self._used += len(part)
        self._at += len(part)
        return part

    async def _fill(self, most: int, held: int = 0) -> bool:
        """Read the next chunk, which replaces the present chunk. `held` is the number of bytes at the end of the
        present chunk that the caller keeps. Returns False at the end of the last segment."""
        self._chunk, self._used = b"", 0
        if not self._is_over:
            self._chunk = await self._read.read(most)
            self._is_over = not self._chunk
            if self._read.segment is not self._segment and self._chunk:
                self._turn_to(self._read.segment, self._at + held)
        return bool(self._chunk)

    def _turn_to(self, segment: Segment | None, at: int) -> None:
        self._check_tracks()
        self._has_own = self._has_unknown = False
        before, self._segment = self._segment, segment
        if before is not None:
            is_without_media = bool(before.duration) and not before.initial and not self._has_media
            if before.length is None and (self._in_box or is_without_media):
                raise _cut()
            if before.duration and not before.initial:
                self._short_seconds += before.duration - self._seconds(self._segment_ticks)
            if segment is not None and segment.discontinuity != before.discontinuity:
                self.is_at_break = True
        self._segment_at, self._segment_ticks, self._has_media = at, 0, False


def _parse(section: Section, data: bytes, position: Position) -> Moof:
    """Read the moof `data` of a fragment of `section`. Removes the traf boxes of other tracks, if there may be any."""
    if section.others is not None:
        data = with_own_trafs(data, position.in_file, section.number, section.others)
    return read_moof(data, section.number, section.default_duration)


def header_of(box: Box) -> bytes:
    """Return the header of `box`, with a size field of the same width as in the source."""
    size = box.end - box.start
    wide = box.body - box.start == HEADER_BYTES
    return (1 if wide else size).to_bytes(4, "big") + box.kind + (size.to_bytes(8, "big") if wide else b"")


def _cut() -> UpstreamFailed:
    return UpstreamFailed("A segment of the media is truncated: bytes of its fragments are missing.")


def _too_large() -> TooLarge:
    return TooLarge("A fragment of one of the two formats is larger than this server allows: choose a single format.")
