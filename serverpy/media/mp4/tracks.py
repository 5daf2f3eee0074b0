"""The reader of one track of a moov: the boxes that describe the track, and the fields that differ in the moov of a
merged file.

The module refuses a track that cannot be copied into another file: an encrypted track (`DrmProtected`), or a track
whose media is in another file (`UnsupportedConversion`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from serverpy.errors import DrmProtected, UnsupportedConversion
from serverpy.media.mp4.boxes import Box, box_at, boxes, by_kind, children, damaged, fields, need, sample_entries
from serverpy.media.mp4.gapless import read_gapless
from serverpy.media.mp4.quicktime import as_mp4, is_quicktime

VIDEO_HANDLER = b"vide"
AUDIO_HANDLER = b"soun"
_ENCRYPTED = frozenset({b"encv", b"enca", b"encs", b"enct", b"drms", b"drmi", b"sinf", b"saio", b"saiz", b"senc"})
_ENTRY_FIELDS = {VIDEO_HANDLER: 78, AUDIO_HANDLER: 28}
"""Number of bytes of fields in a sample entry, before its child boxes (§12.1.3, §12.2.3)."""
_REPEATED = frozenset({b"sbgp", b"csgp", b"sgpd", b"subs"})
"""Types of boxes of which a sample table may have more than one: one box for each kind of sample group (§8.9) or
sub-sample information (§8.7.7)."""
_MAX_EDITS = 1024
_UNKNOWN_32, _UNKNOWN_64 = 2**32 - 1, 2**64 - 1
_SELF_CONTAINED = 1


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of an edit list (§8.6.6). `duration` is in the movie's time scale; a `media_time` of -1 marks an empty
    edit, during which nothing is presented."""

    duration: int
    media_time: int
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A track, as the positions of its boxes in `data`, the moov. `samples` are the boxes of the sample table, by type.
    `repeated` are all boxes of the types of which a sample table may have more than one. `media` and `information` are
    the boxes in mdia and minf that are copied into a merged file."""

    data: memoryview
    number: int
    handler: bytes
    movie_scale: int
    """Time scale of the movie header (mvhd), in units per second. The segment durations of the edit list use it,
    too."""
    scale: int
    """Time scale of the media, in units per second."""
    duration: int | None
    """Duration in the movie's time scale, as the track header (tkhd) states it; None if it is unknown."""
    mvhd: Box
    tkhd: Box
    edits: tuple[Edit, ...]
    media: tuple[Box, ...]
    information: tuple[Box, ...]
    samples: dict[bytes, Box]
    repeated: tuple[Box, ...]
    trex: Box | None

    def tables(self, *kinds: bytes) -> list[bytes | memoryview]:
        """Return the boxes of the sample table that have the types `kinds`, in the order of `kinds`. Converts sample
        descriptions of QuickTime to those of MP4."""
        found: list[Box] = []
        for kind in kinds:
            if kind in _REPEATED:
                found += [box for box in self.repeated if box.kind == kind]
            elif kind in self.samples:
                found.append(self.samples[kind])
        return [self._as_mp4(box) for box in found]

    @property
    def is_quicktime(self) -> bool:
        """Whether the track is audio with sample descriptions that only QuickTime defines."""
        return self.handler == AUDIO_HANDLER and is_quicktime(self.data, self.samples[b"stsd"])

    def _as_mp4(self, box: Box) -> bytes | memoryview:
        is_description = box.kind == b"stsd" and self.is_quicktime
        return as_mp4(self.data, box) if is_description else self.bytes_of(box)

    def bytes_of(self, box: Box) -> memoryview:
        return self.data[box.start : box.end]

    @property
    def entries(self) -> list[Box]:
        """The sample entries (§8.5.2)."""
        return sample_entries(self.data, self.samples[b"stsd"])

    @property
    def entry_fields(self) -> int:
        """Number of bytes of fields in a sample entry, before its child boxes."""
        return _ENTRY_FIELDS[self.handler]

    @property
    def delay(self) -> int:
        """Presentation time, in microseconds, of the media time 0. An empty edit at the start increases the
        presentation time; an edit that skips media decreases it."""
        delay = 0
        for edit in self.edits:
            if edit.media_time >= 0:
                return delay - edit.media_time * 1_000_000 // self.scale
            delay += edit.duration * 1_000_000 // self.movie_scale
        return delay


def find_track(moov: bytes, handler: bytes) -> Track:
    """Return the first track of `moov` whose handler type is `handler` (video or audio). Raises `UnsupportedConversion`
    if the moov has no such track."""
    data = memoryview(moov)
    movie = box_at(data, 0, len(data))
    if movie is None or movie.kind != b"moov":
        raise damaged("the moov box is invalid")
    inside = by_kind(data, movie)
    for trak in children(data, movie):
        if trak.kind == b"trak":
            parts = by_kind(data, trak)
            media = by_kind(data, need(parts, b"mdia"))
            if bytes(data[need(media, b"hdlr").body + 8 :][:4]) == handler:
                track = _read_track(data, inside, parts, media, handler)
                return _with_gapless(track, movie, trak, media[b"mdhd"]) if handler == AUDIO_HANDLER else track
    raise UnsupportedConversion(
        "One of the two formats lacks its video or audio track, so the formats cannot be merged."
    )


def _with_gapless(track: Track, movie: Box, trak: Box, mdhd: Box) -> Track:
    """Return the track with an edit for the gapless data of iTunes, unless its edit list already skips samples. The
    time scale of the movie becomes a multiple of that of the media, so that the edit is exact to the sample."""
    if any(edit.media_time for edit in track.edits) or len(track.edits) > 1:
        return track
    gapless = read_gapless(track.data, movie, trak)
    is_wide = _version(track.data, mdhd) > 0
    length = 0 if gapless is None else fields("Q" if is_wide else "I", track.data, mdhd, 24 if is_wide else 16)[0]
    unknown = _UNKNOWN_64 if is_wide else _UNKNOWN_32
    played = None if gapless is None else gapless.within(0 if length == unknown else length)
    scale = math.lcm(track.movie_scale, track.scale)
    if played is None or scale > _UNKNOWN_32:
        return track
    begin, count = played
    duration = count * scale // track.scale
    return replace(track, movie_scale=scale, edits=(Edit(duration, begin, 1 << 16),), duration=duration)


def count_tracks(moov: bytes) -> int:
    data = memoryview(moov)
    movie = box_at(data, 0, len(data))
    return 0 if movie is None else sum(child.kind == b"trak" for child in children(data, movie))


def has_samples(moov: bytes) -> bool:
    """Return whether `moov` lists samples of a video or audio track."""
    data = memoryview(moov)
    movie = box_at(data, 0, len(data))
    for trak in () if movie is None else children(data, movie):
        if trak.kind == b"trak":
            media = by_kind(data, need(by_kind(data, trak), b"mdia"))
            sizes = by_kind(data, need(by_kind(data, need(media, b"minf")), b"stbl")).get(b"stsz")
            kind = bytes(data[need(media, b"hdlr").body + 8 :][:4])
            if kind in _ENTRY_FIELDS and sizes is not None and fields("I", data, sizes, 8)[0]:
                return True
    return False


def _read_track(
    data: memoryview, movie: dict[bytes, Box], parts: dict[bytes, Box], media: dict[bytes, Box], handler: bytes
) -> Track:
    mvhd, tkhd = need(movie, b"mvhd"), need(parts, b"tkhd")
    information = by_kind(data, need(media, b"minf"))
    samples = by_kind(data, need(information, b"stbl"))
    _refuse_encrypted(data, need(samples, b"stsd"), samples, handler)
    if handler == AUDIO_HANDLER and is_quicktime(data, samples[b"stsd"]):
        as_mp4(data, samples[b"stsd"])  # raises an error if the entry cannot be converted to MP4
    _refuse_elsewhere(data, information)
    is_wide = _version(data, tkhd) > 0
    number, duration = fields("I4xQ" if is_wide else "I4xI", data, tkhd, 20 if is_wide else 12)
    return Track(
        data=data,
        number=number,
        handler=handler,
        movie_scale=_scale(data, mvhd),
        scale=_scale(data, need(media, b"mdhd")),
        duration=None if duration == (_UNKNOWN_64 if is_wide else _UNKNOWN_32) else duration,
        mvhd=mvhd,
        tkhd=tkhd,
        edits=_read_edits(data, parts.get(b"edts")),
        media=tuple(media[kind] for kind in (b"mdhd", b"hdlr", b"elng") if kind in media),
        information=tuple(box for kind, box in information.items() if kind != b"stbl"),
        samples=samples,
        repeated=tuple(box for box in children(data, information[b"stbl"]) if box.kind in _REPEATED),
        trex=_find_trex(data, movie.get(b"mvex"), number),
    )


def _version(data: memoryview, box: Box) -> int:
    return fields("B", data, box)[0]


def _scale(data: memoryview, box: Box) -> int:
    """Return the time scale of an mvhd or mdhd box. Both kinds of box begin with the same fields (§8.2.2, §8.4.2)."""
    (scale,) = fields("I", data, box, 20 if _version(data, box) else 12)
    if scale == 0:
        raise damaged("a track or the movie has a time scale of 0")
    return scale


def _read_edits(data: memoryview, edts: Box | None) -> tuple[Edit, ...]:
    elst = None if edts is None else by_kind(data, edts).get(b"elst")
    if elst is None:
        return ()
    version, count = fields("B3xI", data, elst)
    layout, size = ("QqI", 20) if version else ("IiI", 12)
    if count > _MAX_EDITS:
        raise damaged("an edit list (elst) has too many entries")
    return tuple(Edit(*fields(layout, data, elst, 8 + number * size)) for number in range(count))


def _find_trex(data: memoryview, mvex: Box | None, number: int) -> Box | None:
    if mvex is not None:
        for box in children(data, mvex):
            if box.kind == b"trex" and fields("I", data, box, 4)[0] == number:
                return box
    return None


def _refuse_encrypted(data: memoryview, stsd: Box, samples: dict[bytes, Box], handler: bytes) -> None:
    entries = sample_entries(data, stsd)
    kinds = {entry.kind for entry in entries} | set(samples)
    for entry in entries:
        inside = min(entry.body + _ENTRY_FIELDS[handler], entry.end)
        if (
            handler == VIDEO_HANDLER
            # only for video: an audio entry of QuickTime has more fields before its child boxes, and an encrypted audio
            # entry is recognised by its own type
        ):
            kinds |= {box.kind for box in boxes(data, inside, entry.end)}
    if kinds & _ENCRYPTED:
        raise DrmProtected("This format is encrypted, so it cannot be merged.")


def _refuse_elsewhere(data: memoryview, information: dict[bytes, Box]) -> None:
    """Raise `UnsupportedConversion` if a data reference names another file (§8.7.2), because ServerPY does not open
    other files that a media file names."""
    dinf = information.get(b"dinf")
    dref = None if dinf is None else by_kind(data, dinf).get(b"dref")
    if dref is None:
        raise damaged("a required dref box is missing")
    for entry in children(data, dref, skip=8):
        if not fields("I", data, entry)[0] & _SELF_CONTAINED:
            raise UnsupportedConversion(
                "The media of one of the two formats is in another file, so the formats cannot be merged."
            )
