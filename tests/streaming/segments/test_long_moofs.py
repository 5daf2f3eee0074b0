"""Tests of merging segments whose moof boxes have more than 64 KiB, the length up to which a stream has reserved the
memory for them."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from serverpy.errors import Busy, NotMedia, ServerPYError, TooLarge, UpstreamFailed
from serverpy.media.mp4.boxes import write, write_full
from serverpy.media.mp4.locate import MAX_LARGE_MOOF_BYTES, MAX_MOOF_BYTES
from serverpy.media.mp4.moof import read_moof
from serverpy.media.mp4.own_trafs import with_own_trafs
from serverpy.media.mp4.trex import Defaults
from serverpy.sample.cut import split_fragments
from tests.aio import run
from tests.media.mp4.films import own_boxes, packets
from tests.media.mp4.shapes import EMPTY, NO_INDEX, moofs_of, with_padded_moofs
from tests.media.mp4.test_defragment import grown
from tests.streaming.segments.merging import merge, merge_into, mill, put, segments
from tests.streaming.segments.shelf import Shelf

TRACKS = {"v": ("high", "video"), "a": ("en", "audio")}
COPIES = 5
"""A long moof is charged with this many times its length."""
LONG = 300_000


@pytest.fixture
def shelf(media: Path) -> Iterator[Shelf]:
    """Run a media server with a video track and an audio track. Its responses have no Content-Length."""
    with Shelf() as shelf:
        for name, (track, _) in TRACKS.items():
            put(shelf, name, segments(media, track), framed=False)
        yield shelf


def pad(shelf: Shelf, *paths: str, nbytes: int = LONG) -> None:
    """Make the moofs of the segments at `paths` longer by `nbytes`."""
    for path in paths:
        shelf.files[path] = with_padded_moofs(shelf.data(path), nbytes)


def check(shelf: Shelf, media: Path, merged: bytes) -> None:
    """Check that the merged file has the packets of both tracks."""
    for track, kind in TRACKS.values():
        assert packets(merged, kind) == packets(b"".join(segments(media, track)), kind)


def in_one_fragment(film: Path, kind: str, count: int) -> bytes:
    """Return an MP4 that libav has written, with one fragment of `count` samples: the packets of the film, again and
    again, cut to their first 20 to 22 bytes. Every other sample lasts a unit of time longer, so the moof states the
    duration and the size of each sample."""
    out = io.BytesIO()
    options = {"movflags": EMPTY + NO_INDEX, "frag_duration": str(2 * 10**9)}
    with av.open(film) as source, av.open(out, "w", format="mp4", options=options) as target:
        template = next(stream for stream in source.streams if stream.type == kind)
        assert template.time_base is not None
        stream = target.add_stream_from_template(template)
        samples = [
            bytes(packet)[: 20 + n % 3] for n, packet in enumerate(source.demux(template)) if packet.dts is not None
        ]
        for number in range(count):
            packet = av.Packet(samples[number % len(samples)])
            packet.pts = packet.dts = number * 512 + number % 2
            packet.duration = 512
            packet.time_base = template.time_base
            packet.is_keyframe = number % 50 == 0
            packet.stream = stream
            target.mux(packet)
    return out.getvalue()


def seconds_of(film: bytes) -> float:
    with av.open(io.BytesIO(film), "r") as opened:
        (stream,) = opened.streams
        assert stream.time_base is not None
        return float(max(packet.dts or 0 for packet in opened.demux()) * stream.time_base)


@pytest.mark.parametrize(("count", "least"), [(9000, MAX_MOOF_BYTES), (40_000, 4 * MAX_MOOF_BYTES)])
def test_fragments_of_thousands_of_samples_are_merged(shelf: Shelf, media: Path, count: int, least: int) -> None:
    films = {name: in_one_fragment(media / "long.mp4", kind, count) for name, (_, kind) in TRACKS.items()}
    for name, film in films.items():
        (moof,) = moofs_of(film)
        assert len(moof) > least
        head, segment = split_fragments(film)
        put(shelf, name, [head, segment], [seconds_of(film)], framed=False)
    merged = merge(shelf)
    for name, (_, kind) in TRACKS.items():
        assert packets(merged, kind) == packets(films[name], kind)


@pytest.mark.parametrize("nbytes", [MAX_MOOF_BYTES, LONG, 2 << 20])
@pytest.mark.parametrize("paths", [["/v-1"], ["/a-2"], ["/v-1", "/a-1", "/v-2", "/v-4", "/a-4"]])
def test_long_moofs_of_one_or_both_tracks_are_merged(shelf: Shelf, media: Path, paths: list[str], nbytes: int) -> None:
    pad(shelf, *paths, nbytes=nbytes)
    merged = merge(shelf)
    check(shelf, media, merged)
    assert sum(len(moof) > nbytes for moof in moofs_of(merged)) == len(paths)


def test_the_memory_for_a_long_moof_is_charged_until_the_moof_is_sent(shelf: Shelf, media: Path) -> None:
    pad(shelf, "/v-2")
    long = len(moofs_of(shelf.data("/v-2"))[0])
    used, given = list[tuple[int, int]](), bytearray()

    async def whole() -> None:
        async with mill(shelf) as parts, parts.opened() as body:
            reserved = parts.merger.stream_bytes
            assert reserved <= 500_000
            while chunk := await body.read():
                assert len(chunk) <= 2 * MAX_MOOF_BYTES
                given.extend(chunk)
                used.append((len(given), parts.budget.used_bytes - reserved))

    run(whole)
    at = next(box for box in own_boxes(bytes(given)) if box.end - box.start == long)
    within = [count for size, count in used if at.start < size < at.end]
    assert within
    assert min(within) >= COPIES * long
    assert used[-1][1] < COPIES * long


def test_an_initialization_section_of_more_than_64_kib_is_merged(shelf: Shelf, media: Path) -> None:
    for name in TRACKS:
        free = write(b"free", bytes(MAX_MOOF_BYTES))
        shelf.files[f"/{name}-0"] = grown(shelf.data(f"/{name}-0"), free, b"moov")
    check(shelf, media, merge(shelf))


@pytest.mark.parametrize("path", ["/v-1", "/a-2", "/v-3"])
@pytest.mark.parametrize("of_end", [False, True])
@pytest.mark.parametrize("at", [0, 5, 8, 9, 16, MAX_MOOF_BYTES - 1, MAX_MOOF_BYTES, MAX_MOOF_BYTES + 1])
def test_a_segment_that_is_truncated_at_a_border_of_a_long_moof_cuts_the_stream(
    shelf: Shelf, path: str, at: int, *, of_end: bool
) -> None:
    """`at` counts from the beginning of the moof, or back from its end."""
    pad(shelf, path)
    whole = merge(shelf)
    moof = next(box for box in own_boxes(shelf.data(path)) if box.kind == b"moof")
    shelf.files[path] = shelf.data(path)[: moof.end - at if of_end else moof.start + at]
    given = bytearray()
    with pytest.raises(UpstreamFailed):
        merge_into(given, shelf)
    assert len(given) < len(whole)
    assert whole.startswith(given)


@pytest.mark.parametrize("kind", [b"mfhd", b"traf", b"tfhd", b"trun", b"free"])
@pytest.mark.parametrize("size", [0, 7, 0x7FFFFFFF])
def test_a_long_moof_with_a_damaged_box_cuts_the_stream(shelf: Shelf, kind: bytes, size: int) -> None:
    pad(shelf, "/v-2")
    whole, segment = merge(shelf), shelf.data("/v-2")
    at = segment.index(kind, segment.index(b"moof")) - 4
    shelf.files["/v-2"] = segment[:at] + struct.pack(">I", size) + segment[at + 4 :]
    given = bytearray()
    with pytest.raises(NotMedia):
        merge_into(given, shelf)
    assert given
    assert whole.startswith(given)


def head_of(kind: bytes, size: int, *, is_wide: bool = False) -> bytes:
    return struct.pack(">I4sQ", 1, kind, size) if is_wide else struct.pack(">I4s", size, kind)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    ("size", "is_wide", "error"),
    [
        (100 << 20, False, TooLarge),
        (100 << 20, True, TooLarge),
        (1 << 63, True, NotMedia),
        (MAX_LARGE_MOOF_BYTES + 1, False, TooLarge),
        (MAX_LARGE_MOOF_BYTES, False, UpstreamFailed),
    ],
    ids=["100 MiB", "64 bits", "too large for a file", "over the limit", "at the limit"],
)
def test_a_moof_that_states_too_many_bytes_is_refused_in_little_memory(
    shelf: Shelf, number: int, size: int, is_wide: bool, error: type[ServerPYError]
) -> None:
    """The segment, or the initialization section, has only a part of the bytes that its box states."""
    file = head_of(b"moof" if number else b"moov", size, is_wide=is_wide) + bytes(1 << 20)
    shelf.files[f"/v-{number}"] = file if number else write(b"ftyp", b"isom", bytes(4)) + file
    given = bytearray()
    tracemalloc.start()
    try:
        with pytest.raises(error) as raised:
            merge_into(given, shelf)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert bool(given) is (number == 2)
    if error is TooLarge:
        assert "choose a single format" in str(raised.value)


def test_two_long_moofs_that_exceed_the_budget_are_refused(shelf: Shelf) -> None:
    pad(shelf, "/v-1", "/a-1", nbytes=7 << 20)
    with pytest.raises((TooLarge, Busy), match="memory"):
        merge(shelf)


def test_reading_a_long_moof_takes_no_more_memory_than_is_charged() -> None:
    count = 100_000
    trafs = []
    for number in (1, 2):
        tfhd = write_full(b"tfhd", 0, 0, struct.pack(">I", number))
        entries = struct.pack(">IIII", 1, 2, 3, 4) * count
        trafs.append(write(b"traf", tfhd, write_full(b"trun", 0, 0xF00, struct.pack(">I", count), entries)))
    moof = write(b"moof", write_full(b"mfhd", 0, 0, bytes(4)), *trafs)
    tracemalloc.start()
    try:
        read = read_moof(with_own_trafs(moof, 0, 1, {1: Defaults(), 2: Defaults()}), 1, 1)
        read.patched(number=1, sequence=1, ticks=0, old_places=(0,), place=0)
        assert tracemalloc.get_traced_memory()[1] < (COPIES - 1) * len(moof)
    finally:
        tracemalloc.stop()
    assert read.duration == count
