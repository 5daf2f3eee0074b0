"""Tests of the fragments (moof boxes) of a merged MP4: fragments keep their length when they are renumbered, and
offsets that count from the start of the file are adjusted."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from serverpy.errors import DrmProtected, NotMedia, UnsupportedConversion
from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.fragments import lay_out_fragments, patch_moof
from serverpy.media.mp4.layout import AUDIO, VIDEO
from serverpy.media.mp4.locate import Located
from serverpy.media.mp4.mfra import read_mfra
from serverpy.media.mp4.sidx import read_sidx
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, find_track
from serverpy.media.mp4.woven import lay_out
from serverpy.sample.encode import LONG_SECONDS, SECONDS
from tests.media.mp4.films import located, own_boxes
from tests.media.mp4.sections import stated

BASE, BASE_IS_MOOF, DURATION = 0x1, 0x20000, 0x8


def tfhd(flags: int, number: int = 5, *optional: bytes) -> bytes:
    return write_full(b"tfhd", 0, flags, struct.pack(">I", number), *optional)


def moof(*trafs: bytes) -> bytes:
    return write(b"moof", write_full(b"mfhd", 0, 0, struct.pack(">I", 99)), *trafs)


def patched(*trafs: bytes) -> bytes:
    return patch_moof(moof(*trafs), 5, 2, 7, -100)


def test_patching_a_moof_changes_only_its_sequence_number_and_track_numbers() -> None:
    trun = write_full(b"trun", 0, 1, struct.pack(">II", 3, 120))
    given = moof(write(b"traf", tfhd(BASE_IS_MOOF | DURATION, 5, b"\0\0\0\x28"), trun, trun))
    expected = given.replace(struct.pack(">I", 99), struct.pack(">I", 7)).replace(
        struct.pack(">II", BASE_IS_MOOF | DURATION, 5), struct.pack(">II", BASE_IS_MOOF | DURATION, 2)
    )
    assert patch_moof(given, 5, 2, 7, -100) == expected


def test_patching_a_moof_adjusts_its_base_data_offset() -> None:
    assert tfhd(BASE, 2, struct.pack(">Q", 900)) in patched(write(b"traf", tfhd(BASE, 5, struct.pack(">Q", 1000))))


def test_patching_a_moof_changes_each_of_its_trafs() -> None:
    traf = write(b"traf", tfhd(BASE_IS_MOOF))
    assert patched(traf, traf).count(tfhd(BASE_IS_MOOF, 2)) == 2


def test_a_moof_with_neither_base_data_offset_nor_default_base_is_moof_may_have_several_trafs_of_its_track() -> None:
    """The data of the second traf begins where that of the first ends, which both move with the moof (§8.8.7)."""
    traf = write(b"traf", tfhd(0))
    assert patched(traf, traf) == patched(traf, traf).replace(tfhd(0), tfhd(0, 2))
    assert patched(traf, traf).count(tfhd(0, 2)) == 2


@pytest.mark.parametrize("kind", [b"senc", b"saio", b"saiz"])
def test_an_encrypted_moof_is_refused_as_drm_protected(kind: bytes) -> None:
    with pytest.raises(DrmProtected):
        patched(write(b"traf", tfhd(BASE_IS_MOOF), write_full(kind, 0, 0, bytes(4))))


@pytest.mark.parametrize(
    "traf",
    [
        write(b"traf", tfhd(BASE_IS_MOOF, 6)),
        write(b"traf", write_full(b"tfhd", 0, BASE)),
        write(b"traf", tfhd(BASE, 5, b"\0\0\0\0")),
        write(b"traf", struct.pack(">I4s", 100, b"tfhd")),
        write(b"traf", struct.pack(">I4s", 0, b"tfhd")),
    ],
)
def test_fragments_of_a_different_track_and_damaged_fragments_are_refused(traf: bytes) -> None:
    with pytest.raises(NotMedia):
        patched(traf)


def test_a_merged_fragmented_mp4_has_for_each_track_a_sidx_that_covers_the_fragments_of_both_tracks(
    media: Path,
) -> None:
    """A player can seek with the sidx of either track alone. The last sidx is that of the track whose fragment comes
    first, because Chromium and libav then open the file with few requests."""
    layout = lay_out(located((media / "video-sidx.mp4").read_bytes()), located((media / "audio-sidx.mp4").read_bytes()))
    head = own_boxes(layout.header)
    assert [box.kind for box in head] == [b"ftyp", b"moov", b"sidx", b"sidx"]
    for source, box in zip((AUDIO, VIDEO), head[2:], strict=True):
        index = read_sidx(layout.header[box.start : box.end], box.end, layout.total)
        places = [layout.starts[run] for run, each in enumerate(layout.sources) if each == source]
        assert [reference.offset for reference in index.references] == places
        assert index.references[-1].offset + index.references[-1].size == layout.total


def test_the_last_sidx_is_that_of_the_audio_track_if_an_audio_fragment_comes_first(media: Path) -> None:
    video, audio = (located((media / f"{kind}-sidx.mp4").read_bytes()) for kind in ("video", "audio"))
    assert video.sidx is not None
    later = changed(video, sidx=with_first_time(video.sidx, 1))
    layout = lay_out(later, audio)
    assert layout.sources[0] == AUDIO
    numbers = [struct.unpack_from(">I", layout.header, box.body + 4)[0] for box in own_boxes(layout.header)[2:]]
    assert numbers == [1, 2]


def with_first_time(sidx: bytes, time: int) -> bytes:
    """Return `sidx` with another earliest presentation time (§8.16.3)."""
    changed = bytearray(sidx)
    struct.pack_into(">Q" if sidx[8] else ">I", changed, 20, time)
    return bytes(changed)


def test_the_fragments_of_a_merged_mp4_are_sorted_by_their_start_times(media: Path) -> None:
    layout = lay_out(located((media / "video-sidx.mp4").read_bytes()), located((media / "audio-sidx.mp4").read_bytes()))
    assert list(layout.sources) == [VIDEO, AUDIO] * 5


def woven_mehd(video: Located, audio: Located) -> int | None:
    """Return the duration in the mehd box of a merged MP4, in milliseconds, or None if the MP4 has no mehd box."""
    durations = stated(lay_out(video, audio).header).get(b"mehd")
    return None if durations is None else durations[0]


@pytest.mark.parametrize("layout", ["sidx", "based", "runs", "fragments", "long-sidx"])
def test_a_merged_fragmented_mp4_states_its_duration(media: Path, layout: str) -> None:
    video, audio = (located((media / f"{kind}-{layout}.mp4").read_bytes()) for kind in ("video", "audio"))
    seconds = LONG_SECONDS if layout == "long-sidx" else SECONDS
    assert woven_mehd(video, audio) == pytest.approx(1000 * seconds, abs=100)
    assert lay_out(video, audio).seconds == pytest.approx(seconds, abs=0.1)


def test_the_duration_of_a_merged_mp4_is_that_of_the_longer_track(media: Path) -> None:
    short, long = (located((media / name).read_bytes()) for name in ("video-sidx.mp4", "audio-long-sidx.mp4"))
    assert woven_mehd(short, long) == pytest.approx(1000 * LONG_SECONDS, abs=50)


@pytest.mark.parametrize("layout", ["fragments", "based"])
def test_the_last_fragments_determine_when_a_track_with_an_mfra_ends(media: Path, layout: str) -> None:
    """An mfra does not state when its last entry ends. This one has only one entry."""
    video, audio = (located(without_sidx((media / f"{kind}-{layout}.mp4").read_bytes())) for kind in ("video", "audio"))
    assert woven_mehd(video, audio) == pytest.approx(1000 * SECONDS, abs=30)
    alone = [
        changed(source, mfra=mfra((0, source.moof_start), number=find_track(source.moov, handler).number))
        for source, handler in ((video, VIDEO_HANDLER), (audio, AUDIO_HANDLER))
    ]
    assert woven_mehd(*alone) == pytest.approx(1000 * SECONDS, abs=30)
    assert woven_mehd(*(changed(source, tail=None) for source in alone)) is None


def without_sidx(film: bytes) -> bytes:
    """Return a film whose sidx box is a `free` box."""
    return film.replace(b"sidx", b"free", 1) if b"sidx" in film else film


def test_a_merged_mp4_states_no_duration_if_the_duration_would_be_too_large_for_an_mehd_box(media: Path) -> None:
    """The earliest presentation time in the sidx is close to the maximum of 64 bits."""
    video, audio = (located((media / f"{kind}-sidx.mp4").read_bytes()) for kind in ("video", "audio"))
    entry = struct.pack(">III", 1000, 1, 0)
    late = write_full(b"sidx", 1, 0, struct.pack(">IIQQHH", 1, 1, 2**64 - 2, 0, 0, 1), entry)
    assert woven_mehd(changed(video, sidx=late), audio) is None
    assert lay_out(changed(video, sidx=late), audio).seconds is None


def test_an_mp4_merged_from_plain_mp4_sources_has_a_known_duration(media: Path) -> None:
    video, audio = (located((media / f"{kind}-only.mp4").read_bytes()) for kind in ("video", "audio"))
    assert lay_out(video, audio).seconds == pytest.approx(SECONDS, abs=0.05)


def changed(source: Located, **fields: object) -> Located:
    values = {name: getattr(source, name) for name in source.__slots__}
    return Located(**(values | fields))


def sidx(*references: int, scale: int = 1000) -> bytes:
    entries = b"".join(struct.pack(">III", reference, 100, 0) for reference in references)
    return write_full(b"sidx", 0, 0, struct.pack(">IIIIHH", 1, scale, 0, 0, 0, len(references)), entries)


def sidx_at_the_end_of_time() -> bytes:
    entries = struct.pack(">IIIIII", 0, 1, 0, 10, 1, 0)
    return write_full(b"sidx", 1, 0, struct.pack(">IIQQHH", 1, 1000, 0xFFFFFFFFFFFFFFFF, 0, 0, 2), entries)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (sidx(), NotMedia),
        (sidx(10, 0x7FFFFFFF), NotMedia),
        (sidx(10, scale=0), NotMedia),
        (sidx(10)[:-4], NotMedia),
        (sidx(0x80000010), UnsupportedConversion),
        (sidx_at_the_end_of_time(), NotMedia),
        (None, UnsupportedConversion),
    ],
    ids=["empty", "beyond the end", "time scale 0", "truncated", "of indices", "time overflow", "missing"],
)
def test_a_fragmented_track_with_an_unusable_sidx_or_mfra_is_refused(
    media: Path, index: bytes | None, error: type[Exception]
) -> None:
    video, audio = (located((media / f"{kind}-sidx.mp4").read_bytes()) for kind in ("video", "audio"))
    with pytest.raises(error):
        lay_out_fragments(video, changed(audio, sidx=index))


def mfra(*entries: tuple[int, int], number: int = 1) -> bytes:
    rows = b"".join(struct.pack(">QQBBB", time, moof, 1, 1, 1) for time, moof in entries)
    tfra = write_full(b"tfra", 1, 0, struct.pack(">III", number, 0, len(entries)), rows)
    return write(b"mfra", tfra)


def test_an_mfra_box_can_replace_a_missing_sidx() -> None:
    """An mfra box lists moof boxes and their times. The segment of a moof extends to the next moof in the list. For the
    last segment, no duration follows from the list, so the duration of the previous segment is used."""
    index = read_mfra(mfra((0, 100), (50, 300), (50, 300), (90, 700)), 1, 1000, 100, 1000)
    found = [(each.offset, each.size, each.time, each.duration) for each in index.references]
    assert found == [(100, 200, 0, 50), (300, 400, 50, 40), (700, 300, 90, 40)]


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (mfra(), UnsupportedConversion),
        (mfra((0, 100), number=2), UnsupportedConversion),
        (mfra((0, 300), (50, 700)), UnsupportedConversion),
        (mfra((0, 100), (50, 1000)), NotMedia),
        (mfra((0, 100), (50, 700), (60, 300)), NotMedia),
        (mfra((50, 100), (40, 300), (30, 400)), NotMedia),
        (mfra((0, 100), (1 << 40, 300)), NotMedia),
        (write(b"mfra", write_full(b"tfra", 1, 0, struct.pack(">III", 1, 0, 0xFFFFFFFF))), UnsupportedConversion),
        (write(b"mfra", write_full(b"tfra", 1, 0, struct.pack(">III", 1, 0, 9))), NotMedia),
        (b"\0\0\0\0mfra", NotMedia),
    ],
    ids=[
        *("empty", "of another track", "late", "beyond the end", "backwards", "back in time", "too long"),
        *("of 64 GB", "truncated", "damaged"),
    ],
)
def test_an_mfra_box_that_cannot_be_used_is_refused(index: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_mfra(index, 1, 1000, 100, 1000)
