"""Tests of the durations that the server fills into the initialization sections of fragmented MP4s. The tests build the
sections box by box."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.durations import with_duration, without_index
from tests.media.mp4.sections import Section, stated

SECONDS = 10.5
MOVIE, MEDIA = 10_500, 504_000
"""The duration SECONDS in units of the movie's time scale and of the track's time scale."""
UNKNOWN_32, UNKNOWN_64 = 2**32 - 1, 2**64 - 1
MEHD_BYTES = 20


def table(mvhd: int, mdhd: list[int], mehd: int | None = None, tkhd: int | None = None) -> dict[bytes, list[int]]:
    found = {b"mvhd": [mvhd], b"mdhd": mdhd} | ({} if mehd is None else {b"mehd": [mehd]})
    return found | ({} if tkhd is None else {b"tkhd": [tkhd] * len(mdhd)})


FILLED = {
    "version 0": (Section(mehd=0), table(MOVIE, [MEDIA], MOVIE)),
    "version 1": (Section(version=1, mehd=0, mehd_version=1), table(MOVIE, [MEDIA], MOVIE)),
    "versions that differ": (Section(version=1, mehd=0), table(MOVIE, [MEDIA], MOVIE)),
    "all ones": (Section(mvhd=UNKNOWN_32, mdhd=(UNKNOWN_32,), mehd=UNKNOWN_32), table(MOVIE, [MEDIA], MOVIE)),
    "all ones in 64 bits": (Section(version=1, mvhd=UNKNOWN_64, mdhd=(UNKNOWN_64,)), table(MOVIE, [MEDIA])),
    "no mehd": (Section(), table(MOVIE, [MEDIA])),
    "two tracks": (Section(mdhd=(0, 0)), table(MOVIE, [MEDIA, MEDIA])),
    "a track header": (Section(mdhd=(0, 0), tkhd=0), table(MOVIE, [MEDIA, MEDIA], tkhd=MOVIE)),
    "a track header of version 1": (Section(version=1, tkhd=UNKNOWN_64), table(MOVIE, [MEDIA], tkhd=MOVIE)),
    "a track header that states a duration": (Section(tkhd=5, mehd=0), table(MOVIE, [MEDIA], MOVIE, tkhd=5)),
    "64-bit sizes": (Section(is_wide=True, mehd=0), table(MOVIE, [MEDIA], MOVIE)),
    "stated durations": (Section(mvhd=7, mdhd=(0, 8), mehd=9), table(7, [MEDIA, 8], 9)),
    "only mehd is stated": (Section(mehd=9), table(MOVIE, [MEDIA], 9)),
    "too large for 32 bits": (Section(scale=2**32 - 1, mehd=0), table(MOVIE, [0], MOVIE)),
    "another box after the moov": (Section(after=write(b"sidx", bytes(20))), table(MOVIE, [MEDIA])),
    "a truncated box after the moov": (
        Section(after=struct.pack(">I4s", 5000, b"free") + bytes(9)),
        table(MOVIE, [MEDIA]),
    ),
}


@pytest.mark.parametrize("name", FILLED)
def test_the_server_fills_in_missing_durations_without_changing_the_offset_of_any_box(name: str) -> None:
    section, expected = FILLED[name]
    filled = with_duration(bytes(section), SECONDS, may_grow=False)
    assert stated(filled.removesuffix(section.after)) == expected
    assert len(filled) == len(bytes(section))


@pytest.mark.parametrize("name", [name for name, (section, _) in FILLED.items() if section.mehd is None])
def test_the_server_inserts_a_missing_mehd_if_the_initialization_section_may_grow(name: str) -> None:
    section, expected = FILLED[name]
    filled = with_duration(bytes(section), SECONDS, may_grow=True)
    assert filled.endswith(section.after)
    assert stated(filled.removesuffix(section.after)) == expected | {b"mehd": [MOVIE]}
    assert len(filled) == len(bytes(section)) + MEHD_BYTES


@pytest.mark.parametrize("name", [name for name, (section, _) in FILLED.items() if section.mehd is not None])
def test_an_initialization_section_with_an_mehd_never_grows(name: str) -> None:
    section, _ = FILLED[name]
    filled = with_duration(bytes(section), SECONDS, may_grow=True)
    assert filled == with_duration(bytes(section), SECONDS, may_grow=False)


def test_filling_in_durations_changes_only_the_duration_fields() -> None:
    """An initialization section (ftyp and moov) into which durations were filled has the same bytes as a section that
    was built with these durations."""
    section = Section(version=1, mdhd=(0, 0), tkhd=0, mehd=0, mehd_version=1)
    written = replace(section, mvhd=MOVIE, mdhd=(MEDIA, MEDIA), tkhd=MOVIE, mehd=MOVIE)
    assert with_duration(bytes(section), SECONDS, may_grow=False) == bytes(written)


def test_the_inserted_mehd_is_the_first_box_in_mvex() -> None:
    written = Section(mvhd=MOVIE, mdhd=(MEDIA,), mehd=MOVIE, mehd_version=1)
    assert with_duration(bytes(Section()), SECONDS, may_grow=True) == bytes(written)


def test_an_initialization_section_with_samples_does_not_grow() -> None:
    """The chunk offsets (stco) count from the beginning of the file, so that inserting a box would make them wrong."""
    section = bytes(Section(chunks=2))
    filled = with_duration(section, SECONDS, may_grow=True)
    assert (len(filled), stated(filled)) == (len(section), table(MOVIE, [MEDIA]))


def test_filling_in_durations_a_second_time_changes_nothing() -> None:
    once = with_duration(bytes(Section()), SECONDS, may_grow=True)
    assert with_duration(once, 2 * SECONDS, may_grow=True) == once


def resized(section: bytes, kind: bytes, size: int) -> bytes:
    """Return the section after setting the size field of its first box of `kind` to `size`."""
    at = section.index(kind) - 4
    return section[:at] + struct.pack(">I", size) + section[at + 4 :]


WHOLE = bytes(Section(mdhd=(0, 0), mehd=0))
MOOV_AT = WHOLE.index(b"moov") - 4
UNCHANGED = {
    "not fragmented": bytes(Section(has_mvex=False)),
    "a movie with a time scale of 0": bytes(Section(movie_scale=0)),
    "a track with a time scale of 0": bytes(Section(scale=0)),
    "an unknown version": bytes(Section(version=2)),
    "an unknown version of mehd": bytes(Section(mehd=0, mehd_version=2)),
    "no mvhd": WHOLE.replace(b"mvhd", b"free"),
    "no mdhd in the second track": WHOLE[: WHOLE.rindex(b"mdhd")] + b"free" + WHOLE[WHOLE.rindex(b"mdhd") + 4 :],
    "no mdia": WHOLE.replace(b"mdia", b"free"),
    "no stbl": WHOLE.replace(b"stbl", b"free"),
    "a box larger than its parent": resized(WHOLE, b"mvhd", 9999),
    "a box without a size": resized(WHOLE, b"mvhd", 0),
    "a moov up to the end of the file": resized(WHOLE, b"moov", 0),
    "a short mehd": bytes(Section(mehd=0)).replace(write_full(b"mehd", 0, 0, bytes(4)), write(b"mehd", bytes(4), b"")),
    "no moov": write(b"ftyp", b"iso5", bytes(4)),
    "nothing": b"",
    "text": b"<html>this is no media</html>",
    "WebM": b"\x1a\x45\xdf\xa3" + bytes(range(200)),
    "MPEG-TS": b"\x47\x40\x00\x10" + bytes(184),
}


@pytest.mark.parametrize("may_grow", [False, True])
@pytest.mark.parametrize("name", UNCHANGED)
def test_an_initialization_section_that_cannot_be_completed_is_returned_unchanged(name: str, may_grow: bool) -> None:
    section = UNCHANGED[name]
    assert with_duration(section, SECONDS, may_grow=may_grow) is section


def test_a_truncated_initialization_section_is_returned_unchanged() -> None:
    for length in range(len(WHOLE)):
        section = WHOLE[:length]
        assert with_duration(section, SECONDS, may_grow=True) is section


def test_an_initialization_section_with_a_damaged_byte_raises_no_error_and_grows_at_most_by_an_mehd() -> None:
    for place in range(len(WHOLE)):
        for value in (0, 1, 0x7F, 0xFF):
            damaged = WHOLE[:place] + bytes((value,)) + WHOLE[place + 1 :]
            assert len(with_duration(damaged, SECONDS, may_grow=False)) == len(WHOLE)
            assert len(with_duration(damaged, SECONDS, may_grow=True)) in (len(WHOLE), len(WHOLE) + MEHD_BYTES)


SIDX = write_full(b"sidx", 0, 0, bytes(32))
FREE = SIDX.replace(b"sidx", b"free")
STYP, PRFT, MOOF = write(b"styp", b"msdh"), write_full(b"prft", 1, 0, bytes(20)), write(b"moof", SIDX)
WITH_INDEX = {
    "a sidx": (STYP + SIDX + MOOF, STYP + FREE + MOOF),
    "no styp": (SIDX + MOOF, FREE + MOOF),
    "a sidx for each track": (STYP + SIDX + SIDX + MOOF, STYP + FREE + FREE + MOOF),
    "prft boxes around the sidx": (STYP + PRFT + SIDX + PRFT + MOOF, STYP + PRFT + FREE + PRFT + MOOF),
    "nothing after the sidx": (STYP + SIDX, STYP + FREE),
    "a truncated moof after the sidx": (STYP + SIDX + MOOF[:20], STYP + FREE + MOOF[:20]),
    "an invalid box after the sidx": (SIDX + struct.pack(">I4s", 4, b"styp"), FREE + struct.pack(">I4s", 4, b"styp")),
    "another sidx after the moof": (SIDX + MOOF + SIDX + MOOF, FREE + MOOF + SIDX + MOOF),
}


@pytest.mark.parametrize("name", WITH_INDEX)
def test_each_sidx_before_the_first_moof_of_a_segment_is_replaced_by_a_free_box(name: str) -> None:
    segment, expected = WITH_INDEX[name]
    assert without_index(segment) == expected


@pytest.mark.parametrize(
    "segment",
    [
        MOOF + SIDX,
        STYP + MOOF,
        write(b"ftyp", b"iso5") + WHOLE + SIDX,  # this is a whole file, whose sidx may be correct
        SIDX[:7],
        SIDX[:-1],
        struct.pack(">I4s", 4, b"styp") + SIDX,
        b"\x47\x40\x00\x10sidx" + bytes(180),
        b"",
    ],
)
def test_a_segment_without_a_complete_sidx_before_its_first_moof_is_returned_unchanged(segment: bytes) -> None:
    assert without_index(segment) is segment
