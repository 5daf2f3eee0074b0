from __future__ import annotations

import hashlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import unpad

from serverpy.sample import large_sha256
from serverpy.sample.content import MIB, PIECE_BYTES, FileContent, large_content
from serverpy.sample.cut import AES_FIRST_SEQUENCE
from serverpy.sample.encode import PHOTO
from serverpy.sample.make import ensure_media

Codecs = dict[str, str]

FILMS: dict[str, Codecs] = {
    "prog.mp4": {"video": "h264", "audio": "aac"},
    "prog-180.mp4": {"video": "h264", "audio": "aac"},
    "moov-last.mp4": {"video": "h264", "audio": "aac"},
    "clip.mp4": {"video": "h264"},
    "vp9.webm": {"video": "vp9", "audio": "opus"},
    "audio.mp3": {"audio": "mp3"},
    "audio.m4a": {"audio": "aac"},
    "video-only.mp4": {"video": "h264"},
    "audio-only.mp4": {"audio": "aac"},
    "video-sidx.mp4": {"video": "h264"},
    "audio-sidx.mp4": {"audio": "aac"},
    "video-only.webm": {"video": "vp9"},
    "audio-only.webm": {"audio": "opus"},
}


def read(film: Path | io.BytesIO) -> tuple[Codecs, float]:
    """Return the codecs of a media file, and the duration in seconds of its longest stream, measured from its
    packets."""
    ends: dict[str, float] = {}
    with av.open(film, "r") as container:
        codecs: Codecs = {stream.type: stream.codec_context.codec.canonical_name for stream in container.streams}
        first = min(float((s.start_time or 0) * (s.time_base or 0)) for s in container.streams)
        for packet in container.demux():
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - first
                ends[packet.stream.type] = max(end, ends.get(packet.stream.type, 0))
    return codecs, max(ends.values())


def assert_whole(film: Path | io.BytesIO, codecs: Codecs) -> None:
    found, seconds = read(film)
    assert found == codecs
    assert seconds == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("name", FILMS)
def test_each_sample_file_has_the_expected_streams_and_duration(media: Path, name: str) -> None:
    assert_whole(media / name, FILMS[name])


def top_level_boxes(film: bytes) -> list[bytes]:
    kinds, place = [], 0
    while place < len(film):
        kinds.append(film[place + 4 : place + 8])
        place += int.from_bytes(film[place : place + 4], "big")
    return kinds


def test_the_moov_box_of_a_sample_mp4_is_first_or_last_as_the_file_name_states(media: Path) -> None:
    first = top_level_boxes((media / "prog.mp4").read_bytes())
    last = top_level_boxes((media / "moov-last.mp4").read_bytes())
    assert first.index(b"moov") < first.index(b"mdat")
    assert last.index(b"mdat") < last.index(b"moov")


@pytest.mark.parametrize("name", ["video-sidx.mp4", "audio-sidx.mp4"])
def test_a_sample_mp4_with_an_index_is_fragmented_and_has_one_sidx_before_the_fragments(media: Path, name: str) -> None:
    boxes = top_level_boxes((media / name).read_bytes())
    assert boxes[:4] == [b"ftyp", b"moov", b"sidx", b"moof"]
    assert boxes.count(b"sidx") == 1
    assert boxes.count(b"moof") >= 5


def test_the_main_sample_file_has_4_to_6_mb(media: Path) -> None:
    assert 4_000_000 < (media / "prog.mp4").stat().st_size < 6_000_000


def test_the_sample_photos_are_different_portrait_jpegs(media: Path) -> None:
    photos = [media / f"photo-{number}.jpg" for number in range(1, 6)]
    assert len({photo.read_bytes() for photo in photos}) == 5
    for photo in photos:
        with av.open(photo) as container:
            video = container.streams.video[0]
            assert (video.codec_context.name, video.width, video.height) == ("mjpeg", *PHOTO)


def segments(playlist: Path) -> list[Path]:
    lines = playlist.read_text().splitlines()
    return [playlist.parent / line for line in lines if line and not line.startswith("#")]


def variants(master: Path) -> list[Path]:
    assert len(re.findall(r'RESOLUTION=\d+x\d+.*CODECS="avc1\.[0-9a-f]{6},mp4a\.40\.2"', master.read_text())) == 2
    return segments(master)


@pytest.mark.parametrize(("kind", "codecs"), [("ts", FILMS["prog.mp4"]), ("audio", FILMS["video-only.mp4"])])
def test_the_concatenated_segments_of_each_mpeg_ts_variant_contain_the_whole_film(
    media: Path, kind: str, codecs: Codecs
) -> None:
    for variant in variants(media / "hls" / kind / "master.m3u8"):
        assert len(segments(variant)) == 5
        joined = b"".join(segment.read_bytes() for segment in segments(variant))
        assert_whole(io.BytesIO(joined), codecs)


def test_the_segments_of_the_separate_audio_playlist_join_to_the_audio_file(media: Path) -> None:
    master = (media / "hls/audio/master.m3u8").read_text()
    assert 'TYPE=AUDIO,GROUP-ID="sound"' in master
    joined = b"".join(segment.read_bytes() for segment in segments(media / "hls/audio/sound.m3u8"))
    assert_whole(io.BytesIO(joined), FILMS["audio.m4a"])


def test_the_segments_of_each_fmp4_variant_appended_to_their_initialization_section_contain_the_whole_film(
    media: Path,
) -> None:
    for variant in variants(media / "hls/fmp4/master.m3u8"):
        match = re.search(r'#EXT-X-MAP:URI="(.+)"', variant.read_text())
        assert match
        joined = b"".join(part.read_bytes() for part in [variant.parent / match[1], *segments(variant)])
        assert_whole(io.BytesIO(joined), FILMS["prog.mp4"])


def test_the_segments_of_the_encrypted_variants_decrypt_to_those_of_the_plain_variants(media: Path) -> None:
    high, low = variants(media / "hls/aes/master.m3u8")
    explicit = [bytes.fromhex(iv) for iv in re.findall(r"IV=0x([0-9a-f]{32})", high.read_text())]
    by_number = [number.to_bytes(16, "big") for number in range(AES_FIRST_SEQUENCE, AES_FIRST_SEQUENCE + 5)]
    assert len(set(explicit)) == 5
    assert "IV=" not in low.read_text()
    assert f"#EXT-X-MEDIA-SEQUENCE:{AES_FIRST_SEQUENCE}\n" in low.read_text()
    for playlist, vectors in ((high, explicit), (low, by_number)):
        key = playlist.with_suffix(".key").read_bytes()
        for segment, vector in zip(segments(playlist), vectors, strict=True):
            plain = unpad(AES.new(key, AES.MODE_CBC, vector).decrypt(segment.read_bytes()), 16)
            assert plain == (media / "hls/ts" / segment.name).read_bytes()


@pytest.mark.parametrize(("name", "kind"), [("video-360", "video"), ("video-180", "video"), ("audio", "audio")])
def test_dash_segments_appended_to_their_initialization_segment_form_a_valid_file(
    media: Path, name: str, kind: str
) -> None:
    folder = media / "dash"
    parts = [folder / f"{name}-init.mp4", *(folder / f"{name}-{number}.m4s" for number in range(1, 6))]
    joined = b"".join(part.read_bytes() for part in parts)
    assert_whole(io.BytesIO(joined), {kind: FILMS["prog.mp4"][kind]})
    assert not (folder / f"{name}-6.m4s").exists()


def test_two_processes_may_make_the_sample_media_at_the_same_time(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "sample"
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: ensure_media(target), range(2)))
    assert made == [target, target]
    assert list(target.parent.iterdir()) == [target]
    assert (target / "prog.mp4").stat().st_size


def test_the_large_file_has_its_known_size_and_hash_and_can_be_read_from_any_offset(media: Path) -> None:
    film = media / "prog.mp4"
    content = large_content(8, film)
    assert content
    whole = b"".join(content.pieces(0, content.size))
    assert len(whole) == content.size == 8 * MIB
    assert hashlib.sha256(whole).hexdigest() == large_sha256(8)
    assert whole.startswith(film.read_bytes())
    edge = film.stat().st_size
    for start in (0, 1, edge - 1, edge, edge + 3, edge + 16, edge + 17, 7 * MIB):
        for length in (1, 2, 15, 16, 17, 100_000):
            assert b"".join(content.pieces(start, start + length)) == whole[start : start + length]
    assert max(map(len, content.pieces(0, content.size))) <= PIECE_BYTES


def test_players_can_play_the_large_file_as_an_mp4(media: Path) -> None:
    content = large_content(6, media / "prog.mp4")
    assert content
    whole = io.BytesIO(b"".join(content.pieces(0, content.size)))
    assert_whole(whole, FILMS["prog.mp4"])


def test_a_large_file_cannot_be_smaller_than_the_mp4_at_its_beginning(media: Path) -> None:
    assert large_content(1, media / "prog.mp4") is None
    with pytest.raises(ValueError, match="a large file of 1 MiB is too small"):
        large_sha256(1)


def test_file_content_is_read_in_small_chunks_and_closing_the_iterator_closes_the_file(media: Path) -> None:
    pieces = FileContent(media / "prog.mp4").pieces(10, 200_000)
    assert len(next(pieces)) == PIECE_BYTES
    pieces.close()  # a file left open would cause a ResourceWarning, which fails the test
