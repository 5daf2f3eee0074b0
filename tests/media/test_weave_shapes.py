"""Tests of merged MP4s whose sources have unusual shapes: no index, large moofs, several tracks, samples in the moov
and in fragments, or fragments in only one of the two sources."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serverpy.errors import ServerPYError, UnsupportedConversion
from serverpy.media.mp4 import locate as locating
from serverpy.media.mp4.boxes import Box, box_at, write
from serverpy.media.mp4.locate import MAX_MOOF_BYTES, MAX_WALK_READS, WALK_BYTES, NoIndex, locate
from serverpy.media.weave import weaver
from serverpy.media.weave.weaver import Weaver
from serverpy.ranges import ByteRange
from serverpy.sample.encode import LONG_SECONDS
from serverpy.streaming.segments.merge import Merger
from tests.media.mp4.films import decoded, drive, packets, sought
from tests.media.mp4.shapes import (
    EMPTY,
    IMPLICIT,
    INDEXED,
    NO_INDEX,
    Sparse,
    in_fragments,
    kinds_of,
    moofs_of,
    remuxed,
    with_a_sidx_of_sidxs,
    with_one_reference,
    with_padded_moofs,
    without_data_offsets,
)
from tests.media.weaving import Loom, loom
from tests.players.tools import said
from tests.streaming.segments.shelf import Shelf

PLAIN = [b"ftyp", b"moov", b"mdat"]


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


@pytest.fixture
def film(media: Path) -> Path:
    """A minute of video with B-frames, and of audio, in one file."""
    return media / "long.mp4"


def decode(film: bytes) -> None:
    """Decode the whole film by ffmpeg. Raises AssertionError if ffmpeg reports an error or a warning."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(film)
        file.flush()
        assert said("ffmpeg", "-v", "warning", "-xerror", "-i", file.name, "-f", "null", "-") == ""


async def woven(weaving: Loom, video: bytes, audio: bytes) -> bytes:
    """Return the MP4 that is merged from `video` and `audio`. Checks that it decodes, that it has the packets of both
    and their duration, that a seek finds its target, and that ranges are slices of the whole."""
    weaving.shelf.files["/video"], weaving.shelf.files["/audio"] = video, audio
    body = await weaving.open()
    film = await body.rest()
    await body.aclose()
    assert len(film) == body.body.head.total
    assert body.body.head.duration == pytest.approx(LONG_SECONDS, abs=0.1)
    for kind, source in (("video", video), ("audio", audio)):
        assert packets(film, kind) == packets(source, kind)
    decode(film)
    time, is_key, _ = sought(film, 31.0)
    assert is_key
    assert 20 <= time <= 31  # libav may find the beginning of a long fragment
    for first in range(0, len(film), len(film) // 7 + 1):
        last = min(first + 30_000, len(film) - 1)
        assert await weaving.read(ByteRange(first, last)) == film[first : last + 1]
    return film


Shape = Callable[[Path, str], bytes]
WITHOUT_INDEX: dict[str, Shape] = {
    "fragments of two seconds": lambda film, kind: in_fragments(film, kind, 2),
    "fragments of a fifth of a second": lambda film, kind: in_fragments(film, kind, 0.2),
    "a fragment for each frame": lambda film, kind: remuxed(film, kind, EMPTY + NO_INDEX + "+frag_every_frame"),
    "one fragment": lambda film, kind: in_fragments(film, kind, 1000),
    "a sidx before each fragment": lambda film, kind: in_fragments(film, kind, 2, EMPTY + NO_INDEX + "+dash"),
    "base data offsets": lambda film, kind: in_fragments(film, kind, 2, "+empty_moov" + NO_INDEX),
    "samples in the moov, too": lambda film, kind: in_fragments(film, kind, 2, "+default_base_moof" + NO_INDEX),
    "moofs of 70 KiB": lambda film, kind: with_padded_moofs(in_fragments(film, kind, 20), 70 * 1024),
}


@pytest.mark.parametrize("shape", WITHOUT_INDEX.values(), ids=WITHOUT_INDEX)
async def test_fragments_without_a_usable_index_are_found_and_merged_into_a_plain_mp4(
    shelf: Shelf, film: Path, shape: Shape
) -> None:
    video, audio = shape(film, "video"), shape(film, "audio")
    async with loom(shelf) as weaving:
        merged = await woven(weaving, video, audio)
        assert kinds_of(merged) == PLAIN
        for kind, source in (("video", video), ("audio", audio)):
            assert len(decoded(merged, kind)) == len(decoded(source, kind))


async def test_fragments_with_a_sidx_of_sidxs_are_found_and_merged(shelf: Shelf, film: Path) -> None:
    """libav cannot read a sidx of sidxs, so the packets are compared with those of the same file without it."""
    video, audio = (in_fragments(film, kind, 2, INDEXED) for kind in ("video", "audio"))
    async with loom(shelf) as weaving:
        shelf.files["/video"], shelf.files["/audio"] = map(with_a_sidx_of_sidxs, (video, audio))
        merged = await weaving.read()
        assert (packets(merged, "video"), packets(merged, "audio")) == (
            packets(video, "video"),
            packets(audio, "audio"),
        )


def test_the_fragments_of_a_film_without_an_index_are_found_by_reads_of_half_a_mebibyte(film: Path) -> None:
    for kind in ("video", "audio"):
        source = in_fragments(film, kind, 1)
        found, asked = drive(locate(len(source)), source)
        assert found.moofs is not None
        assert found.moofs.data == b"".join(moofs_of(source))
        reads = [span for span in asked if span.kept is not None]
        assert len(reads) <= len(source) // WALK_BYTES + 2


@pytest.mark.parametrize("fragments", [130, 140])
def test_at_most_128_requests_search_for_the_fragments_of_a_file_without_an_index(film: Path, fragments: int) -> None:
    video = Sparse(in_fragments(film, "video", 2), fragments, 5_000_000)
    with pytest.raises(NoIndex):
        drive(locate(len(video)), video)
    assert 100 < video.reads <= MAX_WALK_READS


@pytest.mark.parametrize(("fragments", "nbytes"), [(10_000, 300_000), (300, 5_000_000)])
def test_a_film_without_an_index_and_with_too_many_fragments_is_refused_after_few_reads(
    film: Path, fragments: int, nbytes: int
) -> None:
    video = Sparse(in_fragments(film, "video", 2), fragments, nbytes)
    with pytest.raises(UnsupportedConversion, match="without an index"):
        drive(locate(len(video)), video)
    assert video.reads < 10


def test_the_fragments_of_a_film_of_a_gigabyte_without_an_index_are_found_if_they_are_few(film: Path) -> None:
    video = Sparse(in_fragments(film, "video", 2), 100, 10_000_000)
    found, asked = drive(locate(len(video)), video)
    assert found.moofs is not None
    assert len(found.moofs.starts) == 100
    assert 100 <= len(asked) <= 102
    assert sum(span.end - span.first for span in asked) < 1_000_000


def test_a_read_that_searches_for_fragments_has_at_most_a_mebibyte_or_one_moof(film: Path) -> None:
    video = with_padded_moofs(in_fragments(film, "video", 20), 3 << 20)
    found, asked = drive(locate(len(video)), video)
    largest = max(map(len, moofs_of(video)))
    assert found.moofs is not None
    assert found.moofs.data == b"".join(moofs_of(video))
    assert max(span.end - span.first for span in asked if span.kept is not None) == largest


async def test_after_the_search_only_the_moof_boxes_that_it_found_are_charged(shelf: Shelf, film: Path) -> None:
    """The conversion takes three times their size in addition, and the read of the first one three times its size."""
    video = with_padded_moofs(in_fragments(film, "video", 12), 3 << 20)
    shelf.files["/video"], shelf.files["/audio"] = video, in_fragments(film, "audio", 12)
    found = sum(map(len, moofs_of(video)))
    async with loom(shelf, budget_bytes=Weaver.stream_bytes + 4 * found + (18 << 20)) as weaving:
        assert kinds_of(await weaving.read()) == PLAIN


DAMAGES = {
    "too many entries": lambda mfra, at: at_offset(mfra, at + 16, 70_000),
    "more entries than bytes": lambda mfra, at: at_offset(mfra, at + 16, 1000),
    "a list that is too long": lambda mfra, at: at_offset(mfra, at - 4, 1 << 20),
    "a list that is too short": lambda mfra, at: at_offset(mfra, at - 4, 4),
}


def at_offset(data: bytes, at: int, number: int) -> bytes:
    return data[:at] + number.to_bytes(4, "big") + data[at + 4 :]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_fragments_of_a_film_whose_mfra_is_damaged_are_found(
    film: Path, damage: Callable[[bytes, int], bytes]
) -> None:
    video = in_fragments(film, "video", 2, EMPTY)
    whole = drive(locate(len(video)), video)[0]
    assert whole.moofs is None
    damaged = damage(video, video.rindex(b"tfra"))
    found = drive(locate(len(damaged)), damaged)[0]
    assert found.mfra == b""
    assert found.moofs is not None
    assert found.moofs.data == b"".join(moofs_of(video))


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_failed_read_of_the_last_fragments_does_not_fail_a_merge_that_has_an_index(
    shelf: Shelf, film: Path, status: int
) -> None:
    """The last fragments only make the duration more exact."""
    sources = {f"/{kind}": in_fragments(film, kind, 2, EMPTY) for kind in ("video", "audio")}
    shelf.files |= sources
    refuse_searches(shelf, sources, status)
    async with loom(shelf) as weaving:
        merged = await weaving.read()
        assert packets(merged, "video") == packets(sources["/video"], "video")


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_failed_read_of_fragments_without_an_index_is_not_remembered_as_a_missing_index(
    shelf: Shelf, film: Path, status: int
) -> None:
    sources = {f"/{kind}": in_fragments(film, kind, 2) for kind in ("video", "audio")}
    shelf.files |= sources
    refuse_searches(shelf, sources, status)
    async with loom(shelf, merges=True) as weaving:
        with pytest.raises(ServerPYError) as failed:
            await weaving.read()
        assert not isinstance(failed.value, NoIndex)
        shelf.refuse = lambda _target: None
        assert kinds_of(await weaving.read()) == PLAIN


def refuse_searches(shelf: Shelf, sources: dict[str, bytes], status: int) -> None:
    """Let the media server refuse the reads that search for fragments."""
    begins = {
        f"{path} bytes={span.first}-"
        for path, source in sources.items()
        for span in drive(locate(len(source)), source)[1]
        if span.kept is not None
    }
    assert len(begins) >= 2

    def refuse(target: str) -> int | None:
        (last, *_) = [asked for asked in reversed(shelf.asked) if asked.target == target]
        asked = f"{target} {last.headers.get('Range', '')}"
        return status if any(map(asked.startswith, begins)) else None

    shelf.refuse = refuse


async def test_a_window_full_of_fragments_is_searched_in_a_thread(
    shelf: Shelf, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 64 KiB, there may be thousands of moof boxes without content."""
    video = in_fragments(film, "video", 2)
    threads = list[threading.Thread]()

    def watched(data: memoryview, at: int, end: int, *, may_be_open: bool = False) -> Box | None:
        found = box_at(data, at, end, may_be_open=may_be_open)
        if found is not None and found.kind == b"moof":
            threads.append(threading.current_thread())
        return found

    monkeypatch.setattr(locating, "box_at", watched)
    shelf.files["/video"] = video[: video.index(b"moof") - 4] + write(b"moof") * 8000
    shelf.files["/audio"] = in_fragments(film, "audio", 2)
    async with loom(shelf) as weaving:
        with pytest.raises(ServerPYError):
            await weaving.read()
    assert len(threads) > 8000
    assert threading.current_thread() not in threads


async def test_a_file_without_an_index_is_refused_if_its_fragments_are_not_found_in_three_seconds(
    shelf: Shelf, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weaver, "WALK_SECONDS", 0.0)
    shelf.files["/video"], shelf.files["/audio"] = (in_fragments(film, kind, 1) for kind in ("video", "audio"))
    async with loom(shelf) as weaving:
        with pytest.raises(UnsupportedConversion, match="without an index"):
            await weaving.read()


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search for fragments end after its first reads."""
    monkeypatch.setattr(locating, "MAX_WALK_READS", 2)
    monkeypatch.setattr(locating, "WALK_BYTES", 1)


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("range_", [None, ByteRange(100_000, 200_000)])
async def test_files_without_an_index_and_with_too_many_fragments_are_merged_while_they_are_read(
    shelf: Shelf, film: Path, range_: ByteRange | None
) -> None:
    """The length of the merged file is unknown, and every request gets the whole of it."""
    sources = {kind: in_fragments(film, kind, 1) for kind in ("video", "audio")}
    shelf.files |= {f"/{kind}": source for kind, source in sources.items()}
    async with loom(shelf, merges=True) as weaving:
        merged = await weaving.open(range_)
        assert merged.reservation.nbytes >= Merger.stream_bytes
        found = await merged.rest()
        await merged.aclose()
        head = merged.body.head
        assert (head.length, head.partial, head.seekable) == (None, False, False)
        for kind, source in sources.items():
            assert packets(found, kind) == packets(source, kind)
        decode(found)
        shelf.asked.clear()
        assert await weaving.read() == found
        assert len(shelf.asked) == 2, "the second stream does not search again"


@pytest.mark.usefixtures("short_search")
async def test_a_search_that_failed_is_remembered_for_the_page_whatever_the_signatures_of_its_urls_are(
    shelf: Shelf, film: Path
) -> None:
    shelf.files |= {f"/{kind}": in_fragments(film, kind, 1) for kind in ("video", "audio")}
    async with loom(shelf, merges=True) as weaving:
        asked = list[int]()
        for signature in ("first", "second", "third"):
            shelf.asked.clear()
            weaving.query = f"?signature={signature}"
            await weaving.read()
            asked.append(len(shelf.asked))
        assert asked[0] > 2
        assert asked[1:] == [2, 2]


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("plain", ["video", "audio"])
async def test_a_file_with_too_many_fragments_and_without_an_index_cannot_be_merged_with_a_plain_file(
    shelf: Shelf, media: Path, film: Path, plain: str
) -> None:
    shelf.files |= {f"/{kind}": in_fragments(film, kind, 1) for kind in ("video", "audio")}
    shelf.files[f"/{plain}"] = (media / f"{plain}-long.mp4").read_bytes()
    async with loom(shelf, merges=True) as weaving:
        with pytest.raises(NoIndex):
            await weaving.read()


INDICES = {"sidx": INDEXED, "mfra": EMPTY, "mfra and base data offsets": "+empty_moov"}


@pytest.mark.parametrize("flags", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("plain", ["video", "audio"])
async def test_a_plain_mp4_and_a_fragmented_mp4_are_merged_into_a_fragmented_mp4(
    shelf: Shelf, media: Path, film: Path, flags: str, plain: str
) -> None:
    sources = {kind: in_fragments(film, kind, 2, flags) for kind in ("video", "audio")}
    sources[plain] = (media / f"{plain}-long.mp4").read_bytes()
    async with loom(shelf) as weaving:
        merged = await woven(weaving, sources["video"], sources["audio"])
        assert kinds_of(merged).count(b"moof") > 40


@pytest.mark.parametrize("plain", ["video", "audio"])
async def test_a_plain_mp4_and_a_fragmented_mp4_without_an_index_are_merged_into_a_plain_mp4(
    shelf: Shelf, media: Path, film: Path, plain: str
) -> None:
    sources = {kind: in_fragments(film, kind, 2) for kind in ("video", "audio")}
    sources[plain] = (media / f"{plain}-long.mp4").read_bytes()
    async with loom(shelf) as weaving:
        assert kinds_of(await woven(weaving, sources["video"], sources["audio"])) == PLAIN


MUXED: dict[str, Callable[[Path], bytes]] = {
    "plain": lambda film: film.read_bytes(),
    "sidx": lambda film: in_fragments(film, "video audio", 2, INDEXED),
    "mfra": lambda film: in_fragments(film, "video audio", 2, EMPTY),
    "mfra and base data offsets": lambda film: in_fragments(film, "video audio", 2, "+empty_moov"),
    "mfra and implicit bases": lambda film: in_fragments(film, "video audio", 2, IMPLICIT),
    "mfra and no data offsets": lambda film: without_data_offsets(in_fragments(film, "video audio", 2, IMPLICIT)),
    "sidx and a moof for each track": lambda film: in_fragments(film, "video audio", 2, INDEXED + "+separate_moof"),
    "mfra and a moof for each track": lambda film: in_fragments(film, "video audio", 2, EMPTY + "+separate_moof"),
    "no index": lambda film: in_fragments(film, "video audio", 2),
    "no index and implicit bases": lambda film: in_fragments(film, "video audio", 2, IMPLICIT + NO_INDEX),
    "no index and no data offsets": lambda film: without_data_offsets(
        in_fragments(film, "video audio", 2, IMPLICIT + NO_INDEX)
    ),
    "samples in the moov, too": lambda film: in_fragments(film, "video audio", 2, "+default_base_moof"),
}
OTHERS = {
    "plain": lambda film, kind: remuxed(film, kind, "+faststart"),
    "sidx": lambda film, kind: in_fragments(film, kind, 2, INDEXED),
}


def muxed(*quick: str) -> list[Any]:
    """Return all shapes. Those that are not in `quick` are tested by `make soak` only."""
    return [
        pytest.param(shape, id=name, marks=() if name in quick else pytest.mark.soak) for name, shape in MUXED.items()
    ]


@pytest.mark.parametrize("shape", muxed("plain", "sidx", "mfra and no data offsets", "no index and implicit bases"))
@pytest.mark.parametrize(("wanted", "other"), [("video", OTHERS["plain"]), ("audio", OTHERS["sidx"])], ids=OTHERS)
async def test_one_track_of_a_file_with_both_is_merged_with_a_track_of_another_file(
    shelf: Shelf, film: Path, shape: Callable[[Path], bytes], other: Shape, wanted: str
) -> None:
    sources = {kind: other(film, kind) for kind in ("video", "audio")}
    sources[wanted] = shape(film)
    async with loom(shelf) as weaving:
        await woven(weaving, sources["video"], sources["audio"])


@pytest.mark.parametrize("shape", muxed("mfra", "samples in the moov, too"))
async def test_both_tracks_of_one_file_are_merged(shelf: Shelf, film: Path, shape: Callable[[Path], bytes]) -> None:
    async with loom(shelf) as weaving:
        await woven(weaving, shape(film), shape(film))


async def test_a_reference_of_an_index_may_cover_a_thousand_fragments(shelf: Shelf, film: Path) -> None:
    video, audio = (remuxed(film, kind, EMPTY + NO_INDEX + "+frag_every_frame") for kind in ("video", "audio"))
    shelf.files["/video"] = with_one_reference(video, 1000, 60_000)
    shelf.files["/audio"] = with_one_reference(audio, 1000, 60_000)
    assert min(video.count(b"moof"), audio.count(b"moof")) > 1000
    async with loom(shelf) as weaving:
        merged = await weaving.read()
        for kind in ("video", "audio"):
            assert [each.digest for each in packets(merged, kind)] == [
                each.digest for each in packets({"video": video, "audio": audio}[kind], kind)
            ]


@pytest.mark.parametrize("place", ["first", "later"])
async def test_a_moof_of_more_than_64_kib_is_merged(shelf: Shelf, film: Path, place: str) -> None:
    """The index of the file suffices, so its later moofs are read while the file is sent."""
    video, audio = (in_fragments(film, kind, 4, EMPTY) for kind in ("video", "audio"))
    number = 0 if place == "first" else 3
    video = with_padded_moofs(video, 3 * MAX_MOOF_BYTES, number)
    assert len(moofs_of(video)[number]) > MAX_MOOF_BYTES
    async with loom(shelf) as weaving:
        await woven(weaving, video, audio)
