"""Tests of the fragments that are made for a plain track, for a merged file whose other track is in fragments."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from pathlib import Path

import pytest

from serverpy.errors import NotMedia, UnsupportedConversion
from serverpy.media.mp4.layout import AUDIO, MADE, VIDEO, Layout
from serverpy.media.mp4.made_fragments import MOST_SECONDS, Made, make_fragments
from serverpy.media.mp4.samples import read_samples
from serverpy.media.mp4.tracks import AUDIO_HANDLER, find_track
from serverpy.media.mp4.woven import lay_out, peak_bytes
from tests.media.mp4.building import Film, sample_table
from tests.media.mp4.films import located
from tests.media.mp4.test_plain import SMALL_BYTES


def made(film: Film) -> Made:
    found = located(bytes(film))
    track = find_track(found.moov, film.handler)
    return make_fragments(track, read_samples(track, found.total), 1, found.total)


def seconds(count: int, *sync: int) -> Film:
    """Return a film with `count` samples of half a second, of which those with the numbers `sync` are sync samples; all
    are, if no number is given."""
    replaced = {b"stss": sample_table(b"stss", len(sync), *sync)} if sync else {}
    return Film([b"sample"] * count, [count], [(count, 500)], replaced=replaced)


def lengths(film: Film) -> list[int]:
    """Return the number of half seconds of each fragment."""
    return [reference.duration // 500 for reference in made(film).index.references]


@pytest.mark.parametrize(
    ("film", "expected"),
    [
        (seconds(10), [4, 4, 2]),
        (seconds(10, 1), [10]),
        (seconds(12, 1, 7), [6, 6]),
        (seconds(12, 1, 3, 5, 7), [4, 8]),
        (seconds(12, 5), [4, 8]),
        (seconds(50, 1), [20, 20, 10]),
        (Film([b"x"] * 4, [1, 1, 2], [(4, 500)], descriptions=[1, 2, 2]), [1, 3]),
        (Film([b"x"] * 4, [4], [(4, 500)], handler=AUDIO_HANDLER), [4]),
    ],
    ids=["all sync", "first", "two", "often", "late", "rare", "descriptions", "audio"],
)
def test_a_fragment_lasts_at_least_two_seconds_and_ends_before_a_sync_sample(film: Film, expected: list[int]) -> None:
    assert lengths(film) == expected
    assert max(expected) <= 2 * MOST_SECONDS


def test_the_index_states_whether_a_fragment_begins_with_a_sync_sample() -> None:
    assert [reference.access >> 31 for reference in made(seconds(50, 1)).index.references] == [1, 0, 0]


def test_a_fragment_states_the_fields_of_each_sample() -> None:
    shifts = sample_table(b"ctts", 2, 1, 80, 2, 0xFFFFFFD8)
    film = Film(
        [b"first", b"second", b"third"],
        [2, 1],
        [(1, 40), (2, 50)],
        replaced={b"ctts": shifts, b"stss": sample_table(b"stss", 1, 1)},
    )
    found = made(film)
    head = found.heads[found.ends[0] : found.ends[1]]
    rows = [
        struct.pack(">IIIi", *row) for row in ((40, 5, 1 << 25, 80), (50, 6, 0x1010000, -40), (50, 5, 0x1010000, -40))
    ]
    assert b"".join(rows) in head
    assert head[-8:] == struct.pack(">I4s", 8 + 16, b"mdat")
    (offset,) = struct.unpack_from(">i", head, head.index(b"trun") + 12)
    assert offset == len(head)


@pytest.mark.parametrize("kind", [b"stts", b"ctts"])
def test_a_table_that_describes_more_samples_than_the_track_has_is_refused(kind: bytes) -> None:
    with pytest.raises(NotMedia):
        made(Film(replaced={kind: sample_table(kind, 1, 0xFFFFFFFF, 1)}))


def test_a_layout_reads_the_beginnings_of_fragments_from_itself_and_their_samples_from_the_source(media: Path) -> None:
    layout = lay_out(located((media / "video-sidx.mp4").read_bytes()), located((media / "audio-only.mp4").read_bytes()))
    assert layout.numbers[AUDIO] is None
    assert layout.numbers[VIDEO] is not None
    kinds = [piece.source for piece in layout.read(len(layout.header), layout.total)]
    assert kinds.count(MADE) == 5
    assert all(after == AUDIO for before, after in itertools.pairwise(kinds) if before == MADE)
    assert sum(lengths_of(layout, MADE)) == len(layout.made)


def lengths_of(layout: Layout, source: int) -> list[int]:
    return [piece.length for piece in layout.read(len(layout.header), layout.total) if piece.source == source]


COSTLY = {
    "many samples": Film(samples=[b"x"] * 5000, chunked=[20] * 250, stts=[(5000, 40)]),
    "a chunk for each": Film(samples=[b"x"] * 5000, chunked=[1] * 5000, stts=[(5000, 40)], wide=True),
    "two seconds each": Film(samples=[b"x"] * 5000, chunked=[20] * 250, stts=[(5000, 2000)]),
    "one size for all": Film(
        samples=[b"x"] * 5000, chunked=[5000], stts=[(5000, 40)], replaced={b"stsz": sample_table(b"stsz", 1, 5000)}
    ),
    "a description for each": Film([b"x"] * 5000, [1] * 5000, [(5000, 40)], descriptions=[1, 2] * 2500),
}


@pytest.mark.parametrize("film", COSTLY.values(), ids=COSTLY)
def test_making_fragments_takes_no_more_memory_than_the_function_peak_bytes_returns(media: Path, film: Film) -> None:
    video, audio = located(bytes(film)), located((media / "audio-sidx.mp4").read_bytes())
    tracemalloc.start()
    try:
        lay_out(video, audio)
        assert tracemalloc.get_traced_memory()[1] <= peak_bytes(video, audio) + SMALL_BYTES
    finally:
        tracemalloc.stop()


def test_more_fragments_than_an_index_can_list_are_not_made(media: Path) -> None:
    """The description changes with each sample, so each sample needs a fragment."""
    count = 1 << 16
    film = Film([b"x"] * count, [1] * count, [(count, 40)], descriptions=[1, 2] * (count // 2))
    video, audio = located(bytes(film)), located((media / "audio-sidx.mp4").read_bytes())
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedConversion, match="too many"):
            lay_out(video, audio)
        assert tracemalloc.get_traced_memory()[1] <= peak_bytes(video, audio) + SMALL_BYTES
    finally:
        tracemalloc.stop()


def test_chunks_that_overlap_make_no_more_fragments_than_are_counted() -> None:
    """Each of 1000 chunks is the same sample of more than 4 MiB, so two of them do not fit into one fragment."""
    places = sample_table(b"stco", 1000, *[100] * 1000)
    sizes = sample_table(b"stsz", 5 << 20, 1000)
    film = Film([b""] * 1000, [1] * 1000, [(1000, 1)], replaced={b"stco": places, b"stsz": sizes})
    track = find_track(located(bytes(film)).moov, film.handler)
    total = 6 << 20
    with pytest.raises(UnsupportedConversion, match="too many"):
        make_fragments(track, read_samples(track, total), 1, total)
