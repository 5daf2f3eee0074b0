"""Tests that a plain track keeps the sample groups of the fragments that it is made of, and that the fragments made of
a plain track keep those of the track."""

from __future__ import annotations

import io
import struct
import tracemalloc
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import pytest

from serverpy.errors import NotMedia
from serverpy.media.mp4.boxes import boxes, write, write_full
from serverpy.media.mp4.defragment import Moofs, defragmented, defragmented_bytes
from serverpy.media.mp4.made_fragments import make_fragments
from serverpy.media.mp4.samples import read_samples
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER, find_track
from serverpy.media.mp4.woven import as_plain, lay_out
from tests.media.mp4.building import Film
from tests.media.mp4.films import located, packets
from tests.media.mp4.shapes import in_fragments, with_boxes_in_trafs
from tests.media.mp4.test_plain import read

NUMBER = 7
OWN = 0x10000
"""A description of a traf has its number in the traf plus OWN (ISO/IEC 14496-12 §8.9.4)."""
A, B, C = b"\xff\xff", b"\xff\xfe", b"\0\1"


def sgpd(*descriptions: bytes, version: int = 1, kind: bytes = b"roll", default: int = 0, edition: int = 2020) -> bytes:
    """Return an sgpd box. The edition of 2012 of the standard has no lengths in boxes of version 2."""
    lengths = {len(each) for each in descriptions}
    states_length = version == 1 or (version > 1 and edition > 2012)
    length = lengths.pop() if len(lengths) == 1 else 0
    head = struct.pack(">I", length) if states_length else b""
    head += struct.pack(">I", default) if version > 1 else b""
    parts = [struct.pack(">I", len(each)) + each if states_length and not length else each for each in descriptions]
    return write_full(b"sgpd", version, 0, kind, head, struct.pack(">I", len(descriptions)), *parts)


def sbgp(*rows: tuple[int, int], kind: bytes = b"roll", parameter: int | None = None) -> bytes:
    more = b"" if parameter is None else struct.pack(">I", parameter)
    table = b"".join(struct.pack(">II", *row) for row in rows)
    return write_full(b"sbgp", 0 if parameter is None else 1, 0, kind, more, struct.pack(">I", len(rows)), table)


def traf(count: int, *inside: bytes, number: int = NUMBER) -> bytes:
    """Return a traf with `count` samples of one byte, which last one unit."""
    tfhd = write_full(b"tfhd", 0, 0x020018, struct.pack(">III", number, 1, 1))
    trun = write_full(b"trun", 0, 1, struct.pack(">Ii", count, 100))
    return write(b"traf", tfhd, trun, *inside)


def moof(*trafs: bytes) -> bytes:
    return write(b"moof", write_full(b"mfhd", 0, 0, bytes(4)), *trafs)


def plain(described: bytes, moofs: Sequence[bytes], film: Film | None = None) -> bytes:
    """Return the moov of the plain track that is made of `moofs`. The moov of the fragmented file has the boxes
    `described` in its sample table, and lists the samples of `film`, if that is given."""
    own = film or Film(samples=(), chunked=(), stts=(), handler=AUDIO_HANDLER)
    moov = replace(own, replaced={b"sgpd": described}).moov(0)
    return defragmented(moov, Moofs(b"".join(moofs), array("Q", range(len(moofs)))), own.handler, 1 << 40)


def inside(moov: bytes) -> list[tuple[bytes, bytes]]:
    """Return the type and the content of each box in the sample table of the first track."""
    data = moov
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        data = next(data[box.body : box.end] for box in boxes(memoryview(data), 0, len(data)) if box.kind == kind)
    return [(box.kind, data[box.body : box.end]) for box in boxes(memoryview(data), 0, len(data))]


def described_in(moov: bytes, kind: bytes = b"roll") -> tuple[int, list[bytes]]:
    """Return the default and the descriptions of the groups of the type `kind`, according to the standard. There is at
    most one sgpd box for a type."""
    found = [content for box, content in inside(moov) if box == b"sgpd" and content[4:8] == kind]
    if not found:
        return 0, []
    (content,) = found
    version, at, length, default, descriptions = content[0], 8, 0, 0, list[bytes]()
    if version > 0:
        (length,), at = struct.unpack_from(">I", content, at), at + 4
    if version > 1:
        (default,), at = struct.unpack_from(">I", content, at), at + 4
    (count,), at = struct.unpack_from(">I", content, at), at + 4
    for _ in range(count):
        own = length or (2 if version == 0 else struct.unpack_from(">I", content, at)[0])
        at += 0 if length or version == 0 else 4
        descriptions.append(content[at : at + own])
        at += own
    assert at == len(content)
    return default, descriptions


def groups_in(moov: bytes, kind: bytes = b"roll", parameter: int | None = None) -> list[bytes | None]:
    """Return the description of the group of each sample, or None for a sample in no group."""
    default, descriptions = described_in(moov, kind)
    numbers = list[int]()
    for box, content in inside(moov):
        own = struct.unpack_from(">I", content, 8)[0] if content[0] else None
        if box == b"sbgp" and content[4:8] == kind and own == parameter:
            at = 12 if content[0] else 8
            (rows,) = struct.unpack_from(">I", content, at)
            for count, number in struct.iter_unpack(">II", content[at + 4 : at + 4 + 8 * rows]):
                numbers += [number] * count
    (sizes,) = (content for box, content in inside(moov) if box == b"stsz")
    (count,) = struct.unpack_from(">I", sizes, 8)
    numbers += [default] * (count - len(numbers))
    assert len(numbers) == count
    return [descriptions[number - 1] if number else None for number in numbers]


FIRST, SECOND = OWN + 1, OWN + 2


@pytest.mark.parametrize(
    ("described", "trafs", "expected"),
    [
        ([], [[sgpd(A, B), sbgp((1, FIRST), (2, SECOND))], [sgpd(B, C), sbgp((1, FIRST), (2, SECOND))]], "ABBBCC"),
        ([], [[sbgp((3, SECOND)), sgpd(A, B)], []], "BBB   "),
        ([], [[], [sgpd(A), sbgp((1, 0), (1, FIRST))]], "    A "),
        ([A, B], [[sbgp((2, 1), (1, 2))], [sbgp((3, 2))]], "AABBBB"),
        ([A, B], [[sgpd(B, C), sbgp((1, 2), (1, FIRST), (1, SECOND))], [sbgp((3, 1))]], "BBCAAA"),
        ([A, B], [[sgpd(B), sbgp((1, FIRST))], [sgpd(A), sbgp((3, FIRST))]], "B  AAA"),
        ([A], [[sgpd(C), sbgp((1, 2), (1, SECOND), (1, FIRST))], [sbgp((3, FIRST))]], "  C   "),
        ([A], [[sgpd(C), sbgp((1, 1), (4, FIRST), (9, 1))], [sbgp((3, 1))]], "ACCAAA"),
    ],
    ids=["local", "sbgp first", "late", "moov", "both", "equal", "unknown", "too many samples"],
)
def test_a_plain_track_keeps_the_sample_groups_that_its_fragments_describe(
    described: list[bytes], trafs: list[list[bytes]], expected: str
) -> None:
    """The moov and the traf boxes may describe groups. Equal descriptions become one."""
    moov = plain(sgpd(*described) if described else b"", [moof(traf(3, *each)) for each in trafs])
    assert groups_in(moov) == [{"A": A, "B": B, "C": C, " ": None}[each] for each in expected]
    descriptions = described_in(moov)[1]
    assert descriptions[: len(described)] == described
    assert len(set(descriptions)) == len(descriptions)


@pytest.mark.parametrize("in_moov", [False, True])
@pytest.mark.parametrize(
    ("version", "edition", "other"),
    [
        (0, 2020, C),
        (1, 2020, C),
        (1, 2020, b"longer"),
        (1, 2020, b""),
        (2, 2012, C),
        (2, 2020, C),
        (2, 2020, b"longer"),
    ],
)
def test_descriptions_of_all_versions_are_kept(version: int, edition: int, other: bytes, in_moov: bool) -> None:
    described = sgpd(other, A) if in_moov else b""
    own = sgpd(A, other, B, version=version, edition=edition)
    moov = plain(described, [moof(traf(4, own, sbgp((1, FIRST), (1, SECOND), (2, OWN + 3))))])
    assert groups_in(moov) == [A, other, B, B]
    assert sorted(described_in(moov)[1]) == sorted([A, B, other])


@pytest.mark.parametrize("version", [0, 1, 2])
def test_descriptions_are_added_to_a_moov_of_each_version(version: int) -> None:
    moov = plain(sgpd(A, B, version=version), [moof(traf(3, sgpd(C), sbgp((1, 2), (2, FIRST))))])
    assert groups_in(moov) == [B, C, C]
    assert described_in(moov)[1] == [A, B, C]


def test_an_sgpd_box_of_the_moov_stays_the_same_if_no_fragment_adds_to_it() -> None:
    described = sgpd(A, B, version=0)
    moov = plain(described, [moof(traf(2, sgpd(B), sbgp((2, FIRST))))])
    assert described in moov
    assert groups_in(moov) == [B, B]


@pytest.mark.parametrize("default", [2, SECOND])
def test_samples_without_a_group_are_in_the_default_group(default: int) -> None:
    """The default in a traf applies to the samples of the traf, and that in the moov to all others."""
    own = sgpd(A, B, version=2, default=default)
    trafs = [traf(2), traf(2, own), traf(2, own, sbgp((1, FIRST))), traf(1, sbgp((1, 0))), traf(1)]
    moofs = [moof(each) for each in trafs]
    assert groups_in(plain(b"", moofs)) == [None, None, B, B, A, B, None, None]
    assert groups_in(plain(sgpd(C, version=2, default=1), moofs)) == [C, C, B, B, A, B, None, C]
    assert groups_in(plain(sgpd(C, version=2, default=1), [moof(traf(2))])) == [C, C]


def test_each_traf_of_a_moof_has_its_own_descriptions() -> None:
    first = [traf(2, sgpd(A), sbgp((2, FIRST))), traf(5, sgpd(C), sbgp((5, FIRST)), number=NUMBER + 1)]
    moofs = [moof(*first, traf(2, sgpd(B), sbgp((2, FIRST)))), moof(traf(1), traf(1, sgpd(A), sbgp((1, FIRST))))]
    assert groups_in(plain(b"", moofs)) == [A, A, B, B, None, A]


def test_groups_of_several_types_and_parameters_are_kept() -> None:
    rap = b"\x80"
    described = [sgpd(A, B), sgpd(rap, kind=b"rap "), sgpd(C, kind=b"tele")]
    assigned = [sbgp((1, FIRST), parameter=4), sbgp((2, SECOND), parameter=5), sbgp((1, 0), (1, FIRST), kind=b"rap ")]
    moov = plain(b"", [moof(traf(3, *described, *assigned)), moof(traf(1))])
    assert groups_in(moov, parameter=4) == [A, None, None, None]
    assert groups_in(moov, parameter=5) == [B, B, None, None]
    assert groups_in(moov, b"rap ") == [None, rap, None, None]
    assert described_in(moov, b"tele") == (0, [])


def test_the_groups_of_samples_in_the_moov_precede_those_of_fragments() -> None:
    film = Film(handler=AUDIO_HANDLER)
    moov = plain(sgpd(A, B) + sbgp((2, 2), (9, 1)), [moof(traf(2, sgpd(C), sbgp((1, FIRST))))], film)
    assert groups_in(moov) == [B, B, A, C, None]


@pytest.mark.parametrize(
    "described",
    [
        write_full(b"sgpd", 0, 0, b"roll", struct.pack(">I", 2), b"odd"),
        write_full(b"sgpd", 1, 0, b"roll", struct.pack(">II", 2, 2), A),
        write_full(b"sgpd", 1, 0, b"roll", struct.pack(">III", 0, 2, 1 << 31), A),
        write_full(b"sgpd", 1, 0, b"roll", struct.pack(">I", 2)),
        write_full(b"sgpd", 2, 0, b"roll", struct.pack(">III", 0, 0, 0xFFFFFFFF)),
    ],
    ids=["lengths unknown", "too short", "too long", "no count", "too many"],
)
def test_descriptions_of_unknown_length_are_left_out(described: bytes) -> None:
    assert groups_in(plain(b"", [moof(traf(2, described, sbgp((2, FIRST))))])) == [None, None]
    moov = plain(described, [moof(traf(2, sgpd(C), sbgp((1, FIRST), (1, 1))))])
    assert described in moov


@pytest.mark.parametrize(
    "moofs",
    [
        [moof(traf(1, *(sgpd(A, kind=b"%04d" % n) + sbgp((1, FIRST), kind=b"%04d" % n) for n in range(65))))],
        [moof(traf(1, sgpd(b"%04d" % n), sbgp((1, FIRST)))) for n in range(1400)],
        [moof(traf(1, sgpd(bytes(200_000)), sbgp((1, FIRST))))],
        [moof(traf(1, sgpd(b"")[:-4]))],
        [moof(traf(1, write_full(b"sbgp", 0, 0, b"roll", struct.pack(">I", 1 << 31))))],
    ],
    ids=["types", "descriptions", "a long description", "a truncated sgpd", "an sbgp that is too short"],
)
def test_damaged_groups_or_too_many_groups_are_refused(moofs: list[bytes]) -> None:
    with pytest.raises(NotMedia):
        plain(b"", moofs)


@pytest.mark.parametrize(
    "trafs",
    [
        [traf(1, sgpd(b"%04d" % n), sbgp((1, FIRST))) for n in range(1300)],
        [traf(1000, sgpd(*[b"%04d" % n for n in range(9999)]), sbgp(*[(1, OWN + 1 + n) for n in range(1000)]))],
        [traf(1, sgpd(*[b"" for _ in range(9999)], b"x"), sbgp(*[(0, FIRST)] * 99_999, (1, OWN + 9999)))],
        [traf(1, sgpd(bytes([n]) * 12_999), sbgp((1, FIRST))) for n in range(10)],
    ],
    ids=["fragments", "descriptions", "empty ones", "long ones"],
)
def test_sample_groups_take_no_more_memory_than_the_function_defragmented_bytes_returns(trafs: list[bytes]) -> None:
    moov = Film(samples=(), chunked=(), stts=(), handler=AUDIO_HANDLER).moov(0)
    moofs = Moofs(b"".join(moof(each) for each in trafs), array("Q", range(len(trafs))))
    most = defragmented_bytes(moov, moofs, AUDIO_HANDLER)
    tracemalloc.start()
    try:
        defragmented(moov, moofs, AUDIO_HANDLER, 1 << 40)
        assert tracemalloc.get_traced_memory()[1] <= most
    finally:
        tracemalloc.stop()


def test_libav_reads_the_random_access_points_of_fragments_from_the_plain_track(media: Path) -> None:
    """libav's index of a plain track lists the samples in a group of the type `rap ` as key frames."""
    video, audio = (in_fragments(media / "long.mp4", kind, 2) for kind in ("video", "audio"))
    points = sgpd(b"\0", b"\x80", kind=b"rap ") + sbgp((5, 0), (1, SECOND), kind=b"rap ")
    grouped = with_boxes_in_trafs(video, points)
    sources = as_plain(located(grouped), VIDEO_HANDLER), as_plain(located(audio), AUDIO_HANDLER)
    merged = read(lay_out(*sources), grouped, audio)
    assert packets(merged, "video") == packets(video, "video")
    firsts = [n for n, packet in enumerate(packets(video, "video")) if packet.is_keyframe]
    with av.open(io.BytesIO(merged)) as container:
        entries = container.streams.video[0].index_entries
        assert [n for n, entry in enumerate(entries) if entry.is_keyframe] == sorted(firsts + [n + 5 for n in firsts])


def numbers_of(heads: bytes) -> list[list[tuple[int, int]]]:
    """Return the rows of the sbgp box of each moof, or no rows if it has none."""
    found = list[list[tuple[int, int]]]()
    for box in boxes(memoryview(heads), 0, len(heads)):
        at = heads.find(b"sbgp", box.start, box.end)
        rows = int.from_bytes(heads[at + 12 : at + 16], "big") if at > 0 else 0
        table = heads[at + 16 : at + 16 + 8 * rows]
        found += [list(struct.iter_unpack(">II", table))] if box.kind == b"moof" else []
    return found


@pytest.mark.parametrize(
    ("default", "rows", "expected"),
    [
        (0, [(3, 1), (1, 0), (6, 2)], [[(3, 1), (1, 0)], [(4, 2)], [(2, 2)]]),
        (0, [(5, 1)], [[(4, 1)], [(1, 1), (3, 0)], []]),
        (0, [(1, 3), (9, 2)], [[(1, 0), (3, 2)], [(4, 2)], [(2, 2)]]),
        (2, [(4, 0), (1, 1)], [[(4, 0)], [(1, 1), (3, 2)], []]),
    ],
    ids=["all", "some", "unknown", "default"],
)
def test_the_fragments_that_are_made_of_a_plain_track_keep_its_sample_groups(
    default: int, rows: list[tuple[int, int]], expected: list[list[tuple[int, int]]]
) -> None:
    """A fragment of two seconds has four samples here. Without an sbgp box, the default applies to its samples."""
    described = {b"sgpd": sgpd(A, B, version=2 if default else 1, default=default), b"sbgp": sbgp(*rows)}
    found = located(bytes(Film([b"sample"] * 10, [10], [(10, 500)], replaced=described)))
    track = find_track(found.moov, VIDEO_HANDLER)
    made = make_fragments(track, read_samples(track, found.total), 1, found.total)
    heads = b"".join(
        made.heads[begin : end - 8] for begin, end in zip(made.ends[:-1], made.ends[1:], strict=True)
    )  # without the header of the mdat
    assert numbers_of(heads) == expected
    for begin, end in zip(made.ends[:-1], made.ends[1:], strict=True):
        head = made.heads[begin:end]
        assert struct.unpack_from(">i", head, head.index(b"trun") + 12) == (len(head),)


def test_the_fragments_that_are_made_of_aac_by_libav_have_sample_groups(media: Path) -> None:
    """libav writes groups of the type `roll` for AAC, because the decoder needs the sample before."""
    video, audio = ((media / name).read_bytes() for name in ("video-sidx.mp4", "audio-only.mp4"))
    assert b"sbgp" in audio
    layout = lay_out(located(video), located(audio))
    assert layout.made.count(b"sbgp") == layout.made.count(b"moof") > 1
