"""Tests that untrusted MP4 boxes of any content result in a layout or a clear error, and use little memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverpy.errors import DrmProtected, NotMedia, ServerPYError, UnsupportedConversion
from serverpy.media.mp4.boxes import write
from serverpy.media.mp4.layout import Layout
from serverpy.media.mp4.locate import MAX_INDEX_BYTES, Span, locate
from serverpy.media.mp4.tracks import AUDIO_HANDLER
from serverpy.media.mp4.woven import lay_out
from serverpy.sample.make import ensure_media
from tests.media.mp4.building import Film, sample_table
from tests.media.mp4.films import located

AUDIO_FILM = bytes(Film(handler=AUDIO_HANDLER))
FTYP = write(b"ftyp", b"isom", bytes(4))
SMALL_BYTES = 1 << 20


def laid_out(video: bytes, audio: bytes = AUDIO_FILM) -> Layout:
    return lay_out(located(video), located(audio))


def entry(kind: bytes, *is_valid: bytes) -> bytes:
    return write(kind, bytes(6), b"\0\1", bytes(70), *is_valid)


DAMAGED = {
    "a box of size 0 within another": FTYP + write(b"moov", struct.pack(">I4s", 0, b"trak"), bytes(64)),
    "a box of a size smaller than its header": FTYP + struct.pack(">I4s", 7, b"moov") + bytes(64),
    "a missing 64-bit size": FTYP + write(b"moov", struct.pack(">I4s", 1, b"trak")),
    "a 64-bit size smaller than its header": FTYP + struct.pack(">I4sQ", 1, b"moov", 15) + bytes(64),
    "a size of -1": FTYP + struct.pack(">I4s", 0xFFFFFFFF, b"moov") + bytes(64),
    "a 64-bit size of -1": FTYP + struct.pack(">I4sQ", 1, b"moov", 0xFFFFFFFFFFFFFFFF) + bytes(64),
    "too many boxes": FTYP + write(b"moov", *[write(b"free")] * 5000),
    "no moov": FTYP + write(b"mdat", bytes(100)),
    "only a box header": b"\0\0\0\x08ftyp",
    "a time scale of 0": bytes(Film(scale=0)),
    "a movie's time scale of 0": bytes(Film(movie_scale=0)),
    "a stsz of 4 GB": bytes(Film(replaced={b"stsz": sample_table(b"stsz", 0, 0x3FFFFF, 1)})),
    "a stts of 16 GB": bytes(Film(replaced={b"stts": sample_table(b"stts", 0x7FFFFFFF, 1, 1)})),
    "a stco of 16 GB": bytes(Film(replaced={b"stco": sample_table(b"stco", 0xFFFFFFFF, 1)})),
    "a stsc of 48 GB": bytes(Film(replaced={b"stsc": sample_table(b"stsc", 0xFFFFFFFF, 1, 1, 1)})),
    "more samples than the chunks hold": bytes(Film(chunked=(1, 1))),
    "fewer samples than the chunks hold": bytes(Film(chunked=(2, 2))),
    "chunks of 4 billion samples": bytes(Film(replaced={b"stsc": sample_table(b"stsc", 1, 1, 0xFFFFFFFF, 1)})),
    "chunks that do not begin with 1": bytes(Film(replaced={b"stsc": sample_table(b"stsc", 1, 2, 1, 1)})),
    "chunks that go backwards": bytes(
        Film(replaced={b"stsc": sample_table(b"stsc", 3, 1, 1, 1, 2, 1, 1, 1, 1, 1)}),
    ),
    "no samples": bytes(Film(samples=(), chunked=(), stts=())),
    "a chunk beyond the end": bytes(Film(replaced={b"stco": sample_table(b"stco", 2, 0, 0x7FFFFFFF)})),
    "a sample of 4 GB": bytes(Film(replaced={b"stsz": sample_table(b"stsz", 0, 3, 5, 0xFFFFFFFF, 5)})),
    "compact sizes of 5 bits": bytes(Film(compact_bits=8, replaced={b"stz2": sample_table(b"stz2", 5, 3, 0)})),
    "a reference to a missing sample description": bytes(Film(replaced={b"stsd": sample_table(b"stsd", 3)})),
    "too many edits": bytes(Film(edits=[(1, 0)] * 2000)),
}


@pytest.mark.parametrize("film", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_mp4_is_refused_as_not_media_and_takes_little_memory(film: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotMedia):
            laid_out(film)
        assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    finally:
        tracemalloc.stop()


LARGE = {
    "a stsz of 4 GB, in one number": Film(replaced={b"stsz": sample_table(b"stsz", 1, 0xFFFFFFFF)}),
    "a stsz of 4 GB": Film(replaced={b"stsz": sample_table(b"stsz", 0, 0xFFFFFFFF)}),
    "a stz2 of 2 GB": Film(compact_bits=8, replaced={b"stz2": sample_table(b"stz2", 4, 0xFFFFFFFF)}),
}


@pytest.mark.parametrize("film", LARGE.values(), ids=LARGE)
def test_an_mp4_with_more_samples_than_the_server_allows_cannot_be_merged(film: Film) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedConversion):
            laid_out(bytes(film))
        assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    finally:
        tracemalloc.stop()


def test_a_moov_that_is_too_large_is_refused_before_it_is_read() -> None:
    size = MAX_INDEX_BYTES + 1
    search = locate(size + 100)
    asked = next(search)
    assert asked.end - asked.first < SMALL_BYTES
    with pytest.raises(UnsupportedConversion):
        search.send((FTYP + struct.pack(">I4s", size, b"moov")).ljust(asked.end, b"\0"))


@pytest.mark.parametrize("kind", [b"moov", b"trak", b"free"])
def test_an_mp4_with_boxes_nested_a_thousand_deep_is_refused(kind: bytes) -> None:
    nested = b""
    for _ in range(1000):
        nested = write(kind, nested)
    with pytest.raises(ServerPYError):
        laid_out(FTYP + write(b"moov", nested))


ENCRYPTED = {
    "encv": Film(entry=entry(b"encv")),
    "sinf": Film(entry=entry(b"avc1", write(b"sinf"))),
    "saio": Film(replaced={b"saio": sample_table(b"saio", 0)}),
    "saiz": Film(replaced={b"saiz": sample_table(b"saiz", 0)}),
}


@pytest.mark.parametrize("film", ENCRYPTED.values(), ids=ENCRYPTED)
def test_encrypted_tracks_are_refused_as_drm_protected(film: Film) -> None:
    with pytest.raises(DrmProtected):
        laid_out(bytes(film))


UNSUPPORTED = {
    "media in another file": bytes(Film(dref_flags=0)),
    "no video": AUDIO_FILM,
    "WebM": b"\x1aE\xdf\xa3" + bytes(100),
    "a text": b"<!doctype html><html>" + b" " * 100,
}


@pytest.mark.parametrize("film", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_mp4_files_with_unsupported_features_cannot_be_merged(film: bytes) -> None:
    with pytest.raises((UnsupportedConversion, NotMedia)):
        laid_out(film)


def test_audio_with_a_quicktime_sample_description_cannot_be_merged() -> None:
    later = write(b"mp4a", bytes(6), b"\0\1", b"\0\1", bytes(34))
    with pytest.raises(UnsupportedConversion):
        laid_out(bytes(Film()), bytes(Film(handler=AUDIO_HANDLER, entry=later)))


def test_an_mp4_whose_stated_length_is_impossibly_large_is_refused_as_not_media() -> None:
    with pytest.raises(NotMedia):
        next(locate(1 << 70))


def test_an_mp4_that_is_shorter_than_its_announced_length_is_refused_as_not_media() -> None:
    search = locate(10_000)
    assert next(search) == Span(0, 10_000)
    with pytest.raises(NotMedia):
        search.send(FTYP)


def is_valid(layout: Layout) -> bool:
    """Return True if every run of the layout (contiguous bytes of one source) lies within its source file, and the runs
    are in the order of their start."""
    return all(
        piece.offset + piece.length <= layout.sizes[piece.source]
        for piece in layout.read(len(layout.header), layout.total)
    ) and list(layout.starts) == sorted(layout.starts)


def lay_out_or_refuse(film: bytes, audio: bytes) -> None:
    try:
        layout = laid_out(film, audio)
    except ServerPYError:
        return
    assert is_valid(layout)


HEADS = [
    bytes(Film(edits=[(100, -1), (120, 40)], descriptions=(1, 2), wide=True)),
    bytes(Film(compact_bits=4)),
    bytes(Film(moov_last=True)),
]
MUTATION = st.tuples(st.integers(0, 1 << 16), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.lists(MUTATION, min_size=1, max_size=8), st.integers(0, 40))
def test_an_mp4_with_randomly_changed_bytes_gets_a_valid_layout_or_is_refused(
    film: bytes, changes: list[tuple[int, int]], lost: int
) -> None:
    changed = bytearray(film[: len(film) - lost])
    for place, value in changes:
        changed[place % len(changed)] = value
    lay_out_or_refuse(bytes(changed), AUDIO_FILM)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["sidx", "based", "fragments"]), st.lists(MUTATION, min_size=1, max_size=8))
def test_a_fragmented_mp4_with_randomly_changed_sidx_or_mfra_boxes_is_merged_or_refused(
    name: str, changes: list[tuple[int, int]]
) -> None:
    media = ensure_media()
    changed = bytearray((media / f"audio-{name}.mp4").read_bytes())
    # the boxes before the fragments, and the mfra at the end of the file
    ends = [*range(1400), *range(len(changed) - 150, len(changed))]
    for place, value in changes:
        changed[ends[place % len(ends)]] = value
    lay_out_or_refuse((media / f"video-{name}.mp4").read_bytes(), bytes(changed))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_an_attempt_to_lay_out_random_bytes_as_an_mp4_raises_an_error(data: bytes) -> None:
    with pytest.raises(ServerPYError):
        laid_out(data)
    with pytest.raises(ServerPYError):
        laid_out(FTYP + write(b"moov", data))
