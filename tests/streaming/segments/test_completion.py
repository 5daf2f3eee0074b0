"""Tests of the durations that the relay fills into the initialization sections of fragmented MP4s, both for whole files
and for ranges, and wherever a section is in the stream."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from serverpy.extraction.values import DASH_PROTOCOL, Fragment, Track
from serverpy.media.mp4.boxes import write, write_full
from serverpy.ranges import ByteRange
from serverpy.segment_kinds import INITIAL_BYTES
from tests.media.mp4.sections import MOVIE_SCALE, SCALE, Section, stated
from tests.streaming.segments.relaying import Page, hls, stream
from tests.streaming.segments.shelf import Shelf
from tests.streaming.segments.test_segmented import KEY, encrypted

SECTION = Section(mdhd=(0, 0))
BYTES = bytes(SECTION)
INDEX = write(b"styp", b"msdh") + write_full(b"sidx", 0, 0, bytes(32))
FRAGMENTS = [
    write(b"moof", bytes(40)) + write(b"mdat", random.Random(n).randbytes(20_000 + 1000 * n)) for n in range(3)
]
SEGMENTS = [INDEX + fragment for fragment in FRAGMENTS]
SENT = b"".join(INDEX.replace(b"sidx", b"free") + fragment for fragment in FRAGMENTS)
"""The segments as the relay sends them if the stream has no Content-Length."""
LASTS = 9.5
LISTED = "#EXTINF:4,\n0.m4s\n#EXTINF:4,\n1.m4s\n#EXTINF:1.5,\n2.m4s"
MAP = '#EXT-X-MAP:URI="init.mp4"'


def filled(seconds: float, *, grown: bool = True) -> bytes:
    """Return SECTION with the duration `seconds`. The section has an mehd box if `grown` is true."""
    movie, media = round(seconds * MOVIE_SCALE), round(seconds * SCALE)
    section = Section(mvhd=movie, mdhd=(media, media), mehd=movie if grown else None, mehd_version=1)
    return bytes(section)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    files = {f"/{number}.m4s": segment for number, segment in enumerate(SEGMENTS)}
    with Shelf({"/init.mp4": BYTES, **files}) as shelf:
        yield shelf


def test_the_initialization_section_of_a_stream_of_unknown_length_states_the_duration_of_the_playlist(
    shelf: Shelf,
) -> None:
    head, data = stream(shelf, hls(shelf, f"{MAP}\n{LISTED}"))
    assert data == filled(LASTS) + SENT
    assert (head.duration, head.length) == (LASTS, None)


def test_an_initialization_section_that_was_truncated_and_resumed_states_the_duration(shelf: Shelf) -> None:
    shelf.cuts["/init.mp4"] = 300
    assert stream(shelf, hls(shelf, f"{MAP}\n{LISTED}"))[1] == filled(LASTS) + SENT
    assert len(shelf.targets("/init.mp4")) == 2


def test_an_encrypted_initialization_section_states_the_duration_after_it_is_decrypted(shelf: Shelf) -> None:
    shelf.files |= {f"/{n}.m4s": encrypted(segment, 7) for n, segment in enumerate(SEGMENTS)}
    shelf.files |= {"/init.mp4": encrypted(BYTES, 7), "/key": KEY}
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="/key",IV=0x{7:032x}'
    assert stream(shelf, hls(shelf, f"{key}\n{MAP}\n{LISTED}"))[1] == filled(LASTS) + SENT


def test_each_initialization_section_states_the_duration_of_the_whole_stream(shelf: Shelf) -> None:
    shelf.files["/other.mp4"] = bytes(Section(version=1, mdhd=(0,)))
    other = bytes(Section(version=1, mvhd=8000, mdhd=(8 * SCALE,), mehd=8000, mehd_version=1))
    again = '#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="other.mp4"'
    playlist = f"{MAP}\n#EXTINF:4,\n0.m4s\n{again}\n#EXTINF:4,\n0.m4s"
    segment = INDEX.replace(b"sidx", b"free") + FRAGMENTS[0]
    assert stream(shelf, hls(shelf, playlist))[1] == filled(8) + segment + other + segment


def dash(shelf: Shelf, *seconds: float | None) -> Track:
    parts = [Fragment(url=f"{shelf.url}/{n}.m4s", duration=each) for n, each in enumerate(seconds)]
    fragments = (Fragment(url=f"{shelf.url}/init.mp4", initial=True), *parts)
    return hls(shelf, protocol=DASH_PROTOCOL, fragments=fragments)


def test_the_duration_of_a_dash_stream_is_the_sum_of_its_segment_durations(shelf: Shelf) -> None:
    head, data = stream(shelf, dash(shelf, 4.0, 4.0, 1.5))
    assert (head.duration, data) == (LASTS, filled(LASTS) + SENT)


@pytest.mark.parametrize(
    ("playlist", "page", "expected"),
    [
        ("#EXTINF:4,\n0.m4s\n1.m4s\n#EXTINF:4,\n2.m4s", 12.25, 12.25),  # a segment without a duration
        ("#EXTINF:4,\n0.m4s\n#EXTINF:-1,\n1.m4s\n#EXTINF:4,\n2.m4s", 12.25, 12.25),
        ("#EXTINF:0,\n0.m4s\n#EXTINF:0,\n1.m4s\n#EXTINF:0,\n2.m4s", 12.25, 12.25),
        ("#EXTINF:1e300,\n0.m4s\n#EXTINF:1e308,\n1.m4s\n#EXTINF:1e308,\n2.m4s", 12.25, 12.25),
        (LISTED, 12.25, LASTS),  # the duration of the playlist takes precedence over that of the page
        (f"{LISTED}\n#EXT-X-GAP\n#EXTINF:4,\nmissing.m4s", None, LASTS),  # a gap at the end does not count
        ("#EXTINF:4,\n0.m4s\n#EXT-X-GAP\n#EXTINF:4,\nmissing.m4s\n#EXTINF:4,\n1.m4s\n#EXTINF:2,\n2.m4s", None, 14),
    ],
)
def test_the_stated_duration_is_that_of_the_playlist_or_else_that_of_the_page(
    shelf: Shelf, playlist: str, page: float | None, expected: float
) -> None:
    track = hls(shelf, f"{MAP}\n{playlist}")
    head, data = stream(shelf, Page(lambda _: track, duration=page))
    assert (head.duration, data) == (expected, filled(expected) + SENT)


def test_if_a_dash_segment_has_an_unknown_duration_the_stated_duration_is_that_of_the_page(shelf: Shelf) -> None:
    track = dash(shelf, 4.0, None, 4.0)
    head, data = stream(shelf, Page(lambda _: track, duration=LASTS))
    assert (head.duration, data) == (LASTS, filled(LASTS) + SENT)


@pytest.mark.parametrize("page", [None, 0.0, -1.0, 1e12])
def test_an_initialization_section_is_sent_unchanged_if_no_duration_is_known(shelf: Shelf, page: float | None) -> None:
    track = hls(shelf, f"{MAP}\n0.m4s\n1.m4s\n2.m4s")
    head, data = stream(shelf, Page(lambda _: track, duration=page))
    assert (head.duration, data) == (None, BYTES + b"".join(SEGMENTS))


def test_a_format_that_is_only_a_part_of_the_media_does_not_state_the_duration_of_its_page(shelf: Shelf) -> None:
    """The format consists of the segments after the EXT-X-DISCONTINUITY, whose durations are unknown."""
    track = hls(shelf, f"#EXTINF:4,\n9.m4s\n#EXT-X-DISCONTINUITY\n{MAP}\n0.m4s\n1.m4s\n2.m4s", discontinuity=1)
    head, data = stream(shelf, Page(lambda _: track, duration=60.0))
    assert (head.duration, data) == (None, BYTES + b"".join(SEGMENTS))


@pytest.mark.parametrize("start", [None, 0.0])
def test_the_initialization_section_of_a_live_stream_is_sent_unchanged(shelf: Shelf, start: float | None) -> None:
    """The section is unchanged even if the live stream has just ended, as the EXT-X-ENDLIST in its playlist shows."""
    track = hls(shelf, f"{MAP}\n{LISTED}", is_live=True)
    head, data = stream(shelf, Page(lambda _: track, duration=60.0), start=start)
    assert (head.duration, data) == (None, BYTES + b"".join(SEGMENTS))


# Streams of a known length


def one_file(shelf: Shelf, section: bytes) -> Track:
    """Serve an initialization section and all segments as ranges of one file. The playlist of the returned track lists
    the section twice: at the beginning and before the third segment."""
    file, lines, at = section + b"".join(SEGMENTS), [], len(section)
    shelf.files["/all.mp4"] = file
    for number, segment in enumerate(SEGMENTS):
        if number == 2:
            lines.append("#EXT-X-DISCONTINUITY")
            lines.append(f'#EXT-X-MAP:URI="all.mp4?again",BYTERANGE="{len(section)}@0"')
        lines += ["#EXTINF:4,", f"#EXT-X-BYTERANGE:{len(segment)}@{at}", "all.mp4"]
        at += len(segment)
    head = f'#EXT-X-MAP:URI="all.mp4",BYTERANGE="{len(section)}@0"'
    return hls(shelf, "\n".join((head, *lines)))


def as_sent(section: bytes) -> bytes:
    return b"".join((section, *SEGMENTS[:2], section, SEGMENTS[2]))


def test_filling_in_durations_does_not_change_the_length_of_a_stream_of_known_length(shelf: Shelf) -> None:
    whole = as_sent(filled(12, grown=False))
    head, data = stream(shelf, one_file(shelf, BYTES))
    assert data == whole
    assert (head.duration, head.length, head.total) == (12, len(whole), len(whole))


def test_every_range_is_a_slice_of_the_stream_into_whose_sections_durations_were_filled(shelf: Shelf) -> None:
    """The ranges begin and end inside the two copies of the initialization section, and at their borders."""
    track, section = one_file(shelf, BYTES), filled(12, grown=False)
    whole = as_sent(section)
    places = [base + at for base in (0, whole.rindex(section)) for at in (0, 1, 40, 45, len(BYTES) - 1, len(BYTES))]
    for first in places:
        for last in [*(each for each in places if each >= first), first + 1, first + 5000, len(whole) - 1]:
            head, data = stream(shelf, track, ByteRange(first, last))
            assert (first, last, data) == (first, last, whole[first : last + 1])
            assert (head.length, head.total, head.duration) == (last - first + 1, len(whole), 12)


def test_for_a_range_after_the_initialization_section_relay_does_not_request_the_section(shelf: Shelf) -> None:
    track = one_file(shelf, BYTES)
    stream(shelf, track, ByteRange(len(BYTES) + 2000, len(BYTES) + 3000))
    asked = [each.headers["Range"] for each in shelf.asked if each.target == "/all.mp4"]
    assert asked[0] == f"bytes={len(BYTES) + 2000}-{len(BYTES) + 3000}"


# Initialization sections that are too long to be buffered, or damaged

BEFORE = write(b"free", bytes(INITIAL_BYTES))
"""A box that pushes the moov beyond the bytes that the relay buffers."""


@pytest.mark.parametrize(
    "section",
    [BEFORE + BYTES, BYTES[:-1], BYTES.replace(b"mvhd", b"free"), BYTES.replace(b"mvex", b"free")],
    ids=["too long", "truncated", "no mvhd", "not fragmented"],
)
def test_an_initialization_section_that_is_too_long_or_damaged_is_sent_unchanged(shelf: Shelf, section: bytes) -> None:
    shelf.files["/init.mp4"] = section
    assert stream(shelf, hls(shelf, f"{MAP}\n{LISTED}"))[1] == section + SENT
    assert stream(shelf, one_file(shelf, section))[1] == as_sent(section)


def test_an_initialization_section_that_just_fits_into_the_buffer_states_the_duration(shelf: Shelf) -> None:
    padding = write(b"free", bytes(INITIAL_BYTES - len(BYTES) - 8))
    whole = as_sent(padding + filled(12, grown=False))
    track = one_file(shelf, padding + BYTES)
    assert stream(shelf, track)[1] == whole
    first = INITIAL_BYTES - 700
    assert stream(shelf, track, ByteRange(first, first + 999))[1] == whole[first : first + 1000]


def test_a_range_that_begins_in_an_initialization_section_too_long_to_buffer_is_a_slice_of_the_whole_stream(
    shelf: Shelf,
) -> None:
    """The moov is within the bytes of the initialization section that the relay buffers, but the section is longer than
    these bytes."""
    section = BYTES + BEFORE
    whole = as_sent(section)
    track = one_file(shelf, section)
    assert stream(shelf, track)[1] == whole
    assert stream(shelf, track, ByteRange(60, 999))[1] == whole[60:1000]


def test_in_a_stream_of_unknown_length_a_long_initialization_section_states_the_duration_if_its_moov_comes_first(
    shelf: Shelf,
) -> None:
    shelf.files["/init.mp4"] = BYTES + BEFORE
    data = stream(shelf, hls(shelf, f"{MAP}\n{LISTED}"))[1]
    assert data == filled(LASTS) + BEFORE + SENT
    assert stated(data[: len(filled(LASTS))])[b"mehd"] == [9500]
