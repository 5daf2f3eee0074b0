"""Tests of the removal of other tracks from a moof."""

from __future__ import annotations

import itertools
import struct

import pytest

from serverpy.errors import NotMedia, UnsupportedConversion
from serverpy.media.mp4.boxes import box_at, children, write, write_full
from serverpy.media.mp4.fragment_runs import read_tfhd, read_trun, track_number
from serverpy.media.mp4.own_trafs import with_own_trafs
from serverpy.media.mp4.trex import Defaults

OWN, OTHER, START = 1, 2, 1000
BASE, BASE_IS_MOOF = 0x1, 0x20000
DEFAULTS = {OWN: Defaults(size=10), OTHER: Defaults(size=7)}


def traf(number: int, count: int, offset: int | None, flags: int = 0, base: int = 0, runs: int = 1) -> bytes:
    """Return a traf with `runs` runs of `count` samples, of which only the first has a data offset, if that is
    given."""
    optional = struct.pack(">Q", base) if flags & BASE else b""
    truns = [trun(count, None if each else offset) for each in range(runs)]
    return write(b"traf", write_full(b"tfhd", 0, flags, struct.pack(">I", number), optional), *truns)


def trun(count: int, offset: int | None) -> bytes:
    rows = b"" if offset is None else struct.pack(">i", offset)
    return write_full(b"trun", 0, 0 if offset is None else 1, struct.pack(">I", count), rows)


def moof(*trafs: bytes) -> bytes:
    return write(b"moof", write_full(b"mfhd", 0, 0, struct.pack(">I", 1)), *trafs)


def places(data: bytes, number: int) -> list[int]:
    """Return the offset in the file of each run of the track `number`, as §8.8.7 and §8.8.8 define it."""
    view, implicit, found = memoryview(data), START, list[int]()
    box = box_at(view, 0, len(view))
    assert box is not None
    for each in children(view, box):
        if each.kind == b"traf":
            inside = list(children(view, each))
            own = track_number(view, inside)
            header = read_tfhd(view, inside, DEFAULTS[own])
            base = implicit = header.base_in(START, implicit)
            for child in inside:
                if child.kind == b"trun":
                    run = read_trun(view, child, header)
                    at = implicit if run.data_offset is None else base + run.data_offset
                    implicit = at + run.nbytes
                    found += [at] if own == number else []
    return found


TRAFS = {
    "own": traf(OWN, 3, 100),
    "own, without an offset": traf(OWN, 3, None),
    "own, from the moof": traf(OWN, 3, 500, BASE_IS_MOOF),
    "own, from the file": traf(OWN, 3, 20, BASE, 1300),
    "own, two runs": traf(OWN, 3, None, runs=2),
    "other": traf(OTHER, 5, 300),
    "other, without an offset": traf(OTHER, 5, None),
    "other, from the file": traf(OTHER, 5, 0, BASE, 1700),
}


@pytest.mark.parametrize("first", TRAFS)
def test_the_samples_of_a_track_stay_in_place_when_other_tracks_are_removed(first: str) -> None:
    for names in itertools.product(TRAFS, repeat=2):
        given = moof(*(TRAFS[name] for name in (first, *names)))
        changed = with_own_trafs(given, START, OWN, DEFAULTS)
        assert len(changed) == len(given)
        assert places(changed, OTHER) == []
        assert places(changed, OWN) == places(given, OWN), names


@pytest.mark.parametrize("empty", [[traf(OWN, 0, None, runs=0)], [traf(OWN, 0, None, runs=0)] * 2], ids=["one", "two"])
def test_trafs_without_runs_do_not_move_the_samples_behind_them(empty: list[bytes]) -> None:
    given = moof(traf(OTHER, 5, 300), *empty, traf(OWN, 3, 100), traf(OWN, 2, None))
    assert places(with_own_trafs(given, START, OWN, DEFAULTS), OWN) == places(given, OWN)
    without = moof(traf(OTHER, 5, 300), *empty, traf(OWN, 3, None))
    with pytest.raises(UnsupportedConversion, match="data offset"):
        with_own_trafs(without, START, OWN, DEFAULTS)


def test_a_moof_without_other_tracks_does_not_change() -> None:
    given = moof(traf(OWN, 3, 100), traf(OWN, 2, None))
    assert with_own_trafs(given, START, OWN, DEFAULTS) == given


def test_an_offset_that_does_not_fit_into_its_field_cannot_be_merged() -> None:
    given = moof(traf(OTHER, 5, 0, BASE, 1 << 40), traf(OWN, 3, 0))
    with pytest.raises(UnsupportedConversion, match="data offset"):
        with_own_trafs(given, START, OWN, DEFAULTS)


def test_a_data_offset_is_not_inserted_if_no_removed_traf_precedes_its_traf_directly() -> None:
    given = moof(traf(OTHER, 5, 0), write(b"free"), traf(OWN, 3, None))
    with pytest.raises(UnsupportedConversion, match="data offset"):
        with_own_trafs(given, START, OWN, DEFAULTS)


@pytest.mark.parametrize("data", [b"", moof(write(b"traf")), moof(write(b"traf", write_full(b"tfhd", 0, 0)))])
def test_a_damaged_moof_is_refused(data: bytes) -> None:
    with pytest.raises(NotMedia):
        with_own_trafs(data, START, OWN, DEFAULTS)
