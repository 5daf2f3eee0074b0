"""Tests of the fields that a merge reads in a moof and changes there: track ids, sequence numbers, times and data
offsets."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverpy.errors import DrmProtected, NotMedia, ServerPYError, UnsupportedConversion
from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.moof import Moof, read_moof

BASE, IS_MOOF, DURATION = 0x000001, 0x020000, 0x000008
OWN, OTHER = 7, 8
DEFAULT = 100


def tfhd(number: int = OWN, flags: int = IS_MOOF, *values: bytes) -> bytes:
    return write_full(b"tfhd", 0, flags, struct.pack(">I", number), *values)


def tfdt(time: int, version: int = 1) -> bytes:
    return write_full(b"tfdt", version, 0, struct.pack(">Q" if version else ">I", time))


def trun(*durations: int, count: int = 0, offset: int = 0) -> bytes:
    """Return a trun box with one sample for each of `durations`. If there are no durations, the box has `count` samples
    with the track's default duration and size."""
    entries = b"".join(struct.pack(">II", duration, 9) for duration in durations)
    flags = 0x000001 | (0x000300 if durations else 0)
    return write_full(b"trun", 0, flags, struct.pack(">Ii", len(durations) or count, offset), entries)


def moof(*trafs: bytes) -> bytes:
    return write(b"moof", write_full(b"mfhd", 0, 0, struct.pack(">I", 1)), *trafs)


def traf(*inside: bytes) -> bytes:
    return write(b"traf", *inside)


def read(*trafs: bytes) -> Moof:
    return read_moof(moof(*trafs), OWN, DEFAULT)


def patched(found: Moof, *, ticks: int = 0, old: tuple[int, ...] = (0,), place: int = 5000) -> Moof:
    data = found.patched(number=2, sequence=9, ticks=ticks, old_places=old, place=place)
    assert len(data) == len(found.data)
    assert struct.unpack_from(">I", data, 20) == (9,)
    return read_moof(data, 2, DEFAULT)


def test_the_duration_of_a_moof_is_the_sum_of_the_durations_of_its_samples() -> None:
    assert read(traf(tfhd(), tfdt(3), trun(10, 20), trun(5))).duration == 35
    assert read(traf(tfhd(), tfdt(3), trun(count=4))).duration == 4 * DEFAULT
    own = tfhd(OWN, IS_MOOF | DURATION, struct.pack(">I", 30))
    assert read(traf(own, tfdt(3), trun(count=4))).duration == 120


@pytest.mark.parametrize("version", [0, 1])
def test_patching_a_moof_shifts_its_decode_time_and_refuses_a_time_that_is_out_of_range(version: int) -> None:
    found = read(traf(tfhd(), tfdt(50, version), trun(10)))
    assert (found.time, patched(found, ticks=-50).time, patched(found, ticks=7).time) == (50, 0, 57)
    with pytest.raises(NotMedia):
        patched(found, ticks=-51)
    if version == 0:
        with pytest.raises(NotMedia):
            patched(found, ticks=1 << 32)


@pytest.mark.parametrize("behind", [0, "moof", "data"])
@pytest.mark.parametrize("place", [300, 40_300, 900_300])
def test_a_base_data_offset_keeps_its_distance_from_its_moof_when_the_moof_moves(behind: int | str, place: int) -> None:
    def with_base(value: int) -> Moof:
        return read(traf(tfhd(OWN, BASE, struct.pack(">Q", value)), tfdt(3), trun(10)))

    length = len(with_base(0).data)
    distance = {"moof": length, "data": length + 8}.get(str(behind), 0)
    found = patched(with_base(place + distance), old=(300, 40_300, 900_300))
    assert [base.value for base in found.bases] == [5000 + distance]


def test_a_base_data_offset_that_fits_no_known_position_of_its_moof_is_refused() -> None:
    found = read(traf(tfhd(OWN, BASE, struct.pack(">Q", 100_000)), tfdt(3), trun(10)))
    with pytest.raises(NotMedia):
        patched(found, old=(300, 40_300))


def test_patching_a_moof_replaces_the_traf_of_another_track_by_a_free_box() -> None:
    found = read(traf(tfhd(OTHER), tfdt(99), trun(1)), traf(tfhd(), tfdt(3), trun(10)))
    assert (found.time, found.duration) == (3, 10)
    again = patched(found)
    assert (again.numbers, again.foreign) == (found.numbers, ())
    assert again.data.count(b"free") == 1
    assert not read(traf(tfhd(OTHER), tfdt(99), trun(1))).has_track


def test_patching_refuses_a_traf_whose_data_position_depends_on_the_traf_of_another_track() -> None:
    first, second = traf(tfhd(OTHER, 0), tfdt(99), trun(1)), traf(tfhd(OWN, 0), tfdt(3), trun(10))
    assert read(second).has_track
    assert read(second, first).has_track
    with pytest.raises(UnsupportedConversion):
        read(first, second)


PIFF = write(b"uuid", bytes.fromhex("a2394f525a9b4f14a2446c427c648df4"))


@pytest.mark.parametrize("box", [write(b"senc", bytes(8)), write(b"saio", bytes(8)), PIFF])
def test_an_encrypted_moof_is_refused_as_drm_protected(box: bytes) -> None:
    with pytest.raises(DrmProtected):
        read(traf(tfhd(), tfdt(3), trun(10), box))
    assert read(traf(tfhd(), tfdt(3), trun(10), write(b"uuid", bytes(16)))).has_track


WHOLE = moof(traf(tfhd(), tfdt(50), trun(10, 20, 30)))


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4))
def test_reading_a_damaged_moof_raises_no_exception_other_than_serverpy_error(at: int, noise: bytes) -> None:
    data = (WHOLE[:at] + noise + WHOLE[at + len(noise) :])[: len(WHOLE)]
    try:
        found = read_moof(data, OWN, DEFAULT)
        found.patched(number=1, sequence=1, ticks=5, old_places=(0,), place=99)
    except ServerPYError:
        pass
