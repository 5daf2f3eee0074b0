"""Tests that a track in fragments, all of whose moof boxes are known, becomes a plain track with the same times."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverpy.errors import DrmProtected, NotMedia, ServerPYError, UnsupportedConversion
from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.defragment import Moofs, defragmented, defragmented_bytes, end_of
from serverpy.media.mp4.locate import Located
from serverpy.media.mp4.samples import MAX_SAMPLES
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, find_track
from serverpy.media.mp4.trex import Defaults
from serverpy.media.mp4.woven import as_plain, lay_out
from serverpy.sample.encode import LONG_SECONDS
from serverpy.sample.make import ensure_media
from tests.media.mp4.building import Film
from tests.media.mp4.films import Packet, located, packets
from tests.media.mp4.shapes import EMPTY, NO_INDEX, in_fragments, with_later_times
from tests.media.mp4.test_plain import SMALL_BYTES, read

DELAYED = EMPTY + NO_INDEX + "+delay_moov"
"""Options of libav with which a fragmented file has edit lists."""
HANDLERS = {"video": VIDEO_HANDLER, "audio": AUDIO_HANDLER}


@pytest.fixture
def film(media: Path) -> Path:
    return media / "long.mp4"


def merged(sources: dict[str, bytes]) -> bytes:
    video, audio = (as_plain(located(sources[kind]), handler) for kind, handler in HANDLERS.items())
    return read(lay_out(video, audio), sources["video"], sources["audio"])


def fragments(film: Path, flags: str = DELAYED, seconds: float = 2) -> dict[str, bytes]:
    return {kind: in_fragments(film, kind, seconds, flags) for kind in ("video", "audio")}


def times(found: list[Packet]) -> list[tuple[int | None, int | None, str]]:
    return [(packet.pts, packet.dts, packet.digest) for packet in found]


def test_the_edit_list_of_a_fragmented_track_without_an_index_is_kept(film: Path) -> None:
    sources = fragments(film)
    moov = located(sources["video"]).moov
    (edit,) = find_track(moov, VIDEO_HANDLER).edits
    assert (edit.duration, edit.media_time) == (0, 1024)
    merged_film = merged(sources)
    for kind, source in sources.items():
        assert packets(merged_film, kind) == packets(source, kind)
    track = find_track(as_plain(located(sources["video"]), VIDEO_HANDLER).moov, VIDEO_HANDLER)
    (edit,) = track.edits
    assert (edit.media_time, edit.duration / track.movie_scale) == (1024, LONG_SECONDS)


@pytest.mark.parametrize("flags", [DELAYED, EMPTY + NO_INDEX], ids=["with an edit list", "without an edit list"])
@pytest.mark.parametrize("ticks", [1, 500, 700_001])
def test_fragments_whose_times_do_not_begin_at_0_keep_their_times(film: Path, flags: str, ticks: int) -> None:
    """An edit list states the time of the first sample, exact to the tick, because a plain track begins at 0."""
    sources = {kind: with_later_times(source, ticks) for kind, source in fragments(film, flags).items()}
    found = merged(sources)
    for kind, source in sources.items():
        assert times(packets(found, kind)) == times(packets(source, kind))


def test_a_gap_between_the_times_of_fragments_is_kept(film: Path) -> None:
    """The last sample before the gap lasts until its end."""
    sources = {kind: with_later_times(source, 5000, first=3) for kind, source in fragments(film).items()}
    found = merged(sources)
    for kind, source in sources.items():
        assert times(packets(found, kind)) == times(packets(source, kind))


def test_fragments_that_overlap_by_less_than_a_sample_keep_their_times(film: Path) -> None:
    sources = {kind: with_later_times(source, -100, first=3) for kind, source in fragments(film).items()}
    found = merged(sources)
    for kind, source in sources.items():
        assert times(packets(found, kind)) == times(packets(source, kind))


def test_fragments_whose_times_go_back_cannot_be_merged(film: Path) -> None:
    sources = fragments(film)
    sources["video"] = with_later_times(sources["video"], -20_000, first=3)
    with pytest.raises(UnsupportedConversion, match="out of order"):
        merged(sources)


@pytest.mark.parametrize("kind", [b"senc", b"saiz", b"saio"])
def test_encrypted_fragments_without_an_index_are_refused_as_drm_protected(film: Path, kind: bytes) -> None:
    sources = fragments(film)
    sources["video"] = sources["video"].replace(b"tfdt", kind)
    with pytest.raises(DrmProtected):
        merged(sources)


def test_a_run_that_claims_billions_of_samples_cannot_be_merged_and_takes_little_memory(film: Path) -> None:
    source = fragments(film)["audio"]
    at = source.index(b"trun") + 4
    found = located(source[:at] + struct.pack(">II", 1, 0xFFFFFFFF) + source[at + 8 :])
    tracemalloc.start()
    try:
        for convert in (defragmented_bytes_of, plain_of):
            with pytest.raises((UnsupportedConversion, NotMedia)):
                convert(found)
        assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    finally:
        tracemalloc.stop()


NUMBER, DURATION = 7, 2


def moof(*runs: int) -> bytes:
    """Return a moof of the track NUMBER, which begins at the time 0. Each of `runs` is the number of samples of a trun
    box whose samples have the default fields."""
    tfhd = write_full(b"tfhd", 0, 0x000018, struct.pack(">III", NUMBER, DURATION, 1))
    truns = (write_full(b"trun", 0, 0, struct.pack(">I", count)) for count in runs)
    return write(b"moof", write(b"traf", tfhd, write_full(b"tfdt", 0, 0, bytes(4)), *truns))


def moofs(*found: bytes) -> Moofs:
    return Moofs(b"".join(found), array("Q", range(len(found))))


@pytest.mark.parametrize(
    "last",
    [moofs(moof(*[MAX_SAMPLES] * 4000)), moofs(*[moof(MAX_SAMPLES)] * 4000), moofs(moof(3, 0xFFFFFFFF))],
    ids=["runs", "moofs", "one run"],
)
def test_the_end_of_fragments_with_too_many_samples_in_all_their_runs_is_not_computed(last: Moofs) -> None:
    with pytest.raises(UnsupportedConversion, match="more samples"):
        end_of(last, NUMBER, {})


def test_the_end_of_fragments_is_that_of_their_last_sample() -> None:
    assert end_of(moofs(moof(*[3] * 1000)), NUMBER, {}) == 3000 * DURATION
    assert end_of(moofs(moof(5)), NUMBER + 1, {NUMBER: Defaults()}) is None


def test_the_end_of_the_samples_is_computed_once_for_all_edits() -> None:
    """A duration of 0 in the edit list means the whole media, whose end takes a pass over up to 4 Mi samples."""
    edits = [(0, time) for time in range(1000)]
    moov = Film(samples=(), chunked=(), stts=(), handler=AUDIO_HANDLER, edits=edits).moov(0)
    calls = list[str]()
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        plain = defragmented(moov, moofs(moof(5000)), AUDIO_HANDLER, 1 << 40)
    finally:
        sys.setprofile(None)
    assert calls.count("end") == 1
    found = find_track(plain, AUDIO_HANDLER).edits
    assert [edit.duration for edit in found] == [5000 * DURATION - time for time in range(1000)]


def defragmented_bytes_of(found: Located) -> int:
    assert found.moofs is not None
    return defragmented_bytes(found.moov, found.moofs, AUDIO_HANDLER)


def plain_of(found: Located) -> bytes:
    assert found.moofs is not None
    return defragmented(found.moov, found.moofs, AUDIO_HANDLER, found.total)


@pytest.mark.parametrize("seconds", [0.02, 2, 1000])
@pytest.mark.parametrize("kind", HANDLERS)
def test_the_conversion_takes_no_more_memory_than_the_function_defragmented_bytes_returns(
    film: Path, kind: str, seconds: float
) -> None:
    found = located(in_fragments(film, kind, seconds))
    assert found.moofs is not None
    most = defragmented_bytes(found.moov, found.moofs, HANDLERS[kind])
    tracemalloc.start()
    try:
        defragmented(found.moov, found.moofs, HANDLERS[kind], found.total)
        assert tracemalloc.get_traced_memory()[1] <= most
    finally:
        tracemalloc.stop()


def test_the_sample_groups_of_fragments_are_kept(film: Path) -> None:
    """The moov describes a kind of group, and the first fragment assigns samples to it; the others assign none."""
    rolls = write_full(b"sgpd", 1, 0, b"roll", struct.pack(">IIh", 2, 1, -1))
    rows = write_full(b"sbgp", 0, 0, b"roll", struct.pack(">IIIII", 2, 3, 1, 4, 65537))
    source = fragments(film)["audio"]
    found = located(grown(grown(source, rolls, b"moov", b"trak", b"mdia", b"minf", b"stbl"), rows, b"moof", b"traf"))
    moov = as_plain(found, AUDIO_HANDLER).moov
    count = int.from_bytes(moov[moov.index(b"stsz") + 12 :][:4], "big")
    assert rolls in moov
    assert write_full(b"sbgp", 0, 0, b"roll", struct.pack(">IIIII", 2, 3, 1, count - 3, 0)) in moov


def grown(film: bytes, more: bytes, *parents: bytes) -> bytes:
    """Return the film with the box `more` at the end of the last of `parents`, each of which contains the next. Offsets
    become wrong."""
    changed, at = bytearray(film), 0
    for kind in parents:
        at = changed.index(kind, at) - 4
        size = int.from_bytes(changed[at : at + 4], "big")
        changed[at : at + 4] = (size + len(more)).to_bytes(4, "big")
    return bytes(changed[: at + size] + more + changed[at + size :])


MUTATION = st.tuples(st.integers(0, 1 << 16), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
_CACHED = dict[str, bytes]()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([DELAYED, "+default_base_moof" + NO_INDEX]), st.lists(MUTATION, min_size=1, max_size=6))
def test_a_fragmented_mp4_without_an_index_and_with_randomly_changed_bytes_is_merged_or_refused(
    flags: str, changes: list[tuple[int, int]]
) -> None:
    if flags not in _CACHED:
        _CACHED[flags] = in_fragments(ensure_media() / "long.mp4", "audio", 20, flags)
    changed = bytearray(_CACHED[flags])
    ends = [*range(1600), *range(changed.rindex(b"moof"), changed.rindex(b"moof") + 200)]
    for place, value in changes:
        changed[ends[place % len(ends)]] = value
    try:
        layout = lay_out(
            located((ensure_media() / "video-only.mp4").read_bytes()), as_plain(located(bytes(changed)), AUDIO_HANDLER)
        )
    except ServerPYError:
        return
    assert all(
        piece.offset + piece.length <= layout.sizes[piece.source]
        for piece in layout.read(len(layout.header), layout.total)
        if piece.source in (0, 1)
    )
