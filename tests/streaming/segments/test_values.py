"""Tests of the parts of segmented reads that need no network: packed lines, master playlists, DASH fragments, query
parameters and decryption."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import pad
from hypothesis import given, settings
from hypothesis import strategies as st
from yt_dlp.utils import update_url_query

from serverpy.aes import Decryption
from serverpy.errors import TooLarge, UpstreamFailed
from serverpy.extraction.values import Fragment, Track
from serverpy.streaming.segments.attributes import attributes
from serverpy.streaming.segments.dash import Lines, line_of
from serverpy.streaming.segments.keys import Keys
from serverpy.streaming.segments.manifest import DashManifest
from serverpy.streaming.segments.master import MAX_VARIANTS, best_url
from serverpy.streaming.segments.packed_lines import MAX_LINE_BYTES, MAX_TEXT_BYTES, PackedLines
from serverpy.streaming.segments.segment import Encryption, with_query
from serverpy.streaming.segments.turns import LINE_LENGTH, TURN_LENGTH

KEY, IV = b"k" * 16, b"i" * 16


def write(packed: PackedLines, data: bytes, step: int) -> list[str]:
    lines = [line for at in range(0, len(data), step) for line in packed.write(data[at : at + step])]
    return lines + packed.finish()


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff"))), st.integers(1, 99))
def test_unpacking_packed_lines_returns_all_lines_except_the_empty_ones(lines: list[str], step: int) -> None:
    packed = PackedLines()
    expected = [line for line in lines if line]
    assert write(packed, "\r\n".join(lines).encode(), step) == expected
    assert list(packed.lines()) == expected
    assert list(packed.lines()) == expected


def test_packed_lines_take_less_than_an_eighth_of_the_memory_of_their_text() -> None:
    packed = PackedLines()
    text = "".join(f"#EXTINF:4.000,\nhttps://cdn.example/a/film-{n}.ts?token=0123456789abcdef\n" for n in range(5000))
    write(packed, text.encode(), 32768)
    assert packed.packed_bytes < len(text) / 8


def test_a_byte_order_mark_and_invalid_utf_8_are_removed_from_lines() -> None:
    packed = PackedLines()
    assert write(packed, b"\xef\xbb\xbf#EXTM3U\n\xffone.ts", 100) == ["#EXTM3U", "one.ts"]


@pytest.mark.parametrize("data", [b"x" * (MAX_LINE_BYTES + 1), b"x" * (MAX_LINE_BYTES + 1) + b"\n"])
def test_a_line_that_is_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(TooLarge):
        PackedLines().write(data)


def test_a_text_that_is_too_long_is_refused_and_takes_little_memory() -> None:
    packed = PackedLines()
    for _ in range(MAX_TEXT_BYTES // 32768):
        packed.write(b"#\n" * 16384)
    with pytest.raises(TooLarge):
        packed.write(b"#")
    assert packed.packed_bytes < MAX_TEXT_BYTES / 100


MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="apart",NAME="English",URI="audio.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="muxed",NAME="English"
#EXT-X-STREAM-INF:BANDWIDTH=100,CODECS="avc1.64001f,mp4a.40.2",AUDIO="muxed"
low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=900,AUDIO="apart"
silent.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=300

# a comment
https://cdn.example/high.m3u8
"""


MASTER_URL = "https://media.example/a/master.m3u8"


def best_of(text: str) -> str:
    return best_url(text.splitlines, MASTER_URL)


def test_the_best_variant_has_the_highest_bandwidth_among_those_with_audio() -> None:
    assert best_of(MASTER) == "https://cdn.example/high.m3u8"
    assert best_of(MASTER.replace("BANDWIDTH=300", "BANDWIDTH=30")) == "https://media.example/a/low.m3u8"
    assert best_of("\n".join(MASTER.splitlines()[:2] + MASTER.splitlines()[5:7])).endswith("silent.m3u8")


def test_the_variables_in_the_uri_of_the_chosen_variant_are_replaced() -> None:
    """A variant whose URI contains an undefined variable is not chosen."""
    text = '#EXT-X-DEFINE:NAME="dir",VALUE="b"\n{}#EXT-X-STREAM-INF:BANDWIDTH={}\n{{$other}}/high.m3u8\n'
    low = "#EXT-X-STREAM-INF:BANDWIDTH=2\n{$dir}/low.m3u8\n"
    assert best_of(text.format(low, 9)) == "https://media.example/a/b/low.m3u8"
    with pytest.raises(UpstreamFailed):
        best_of(text.format("", 9))


def test_a_master_playlist_without_variants_is_refused() -> None:
    with pytest.raises(UpstreamFailed):
        best_of("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1")


def test_the_number_of_variants_in_a_master_playlist_is_limited() -> None:
    """A master playlist with 2000 variants is accepted. One with more than MAX_VARIANTS variants is refused."""
    variant = "#EXT-X-STREAM-INF:BANDWIDTH={}\nv{}.m3u8\n"
    assert best_of("".join(variant.format(n, n) for n in range(2000))).endswith("/v1999.m3u8")
    with pytest.raises(TooLarge):
        best_of(variant.format(1, 1) * (MAX_VARIANTS + 1))


def test_the_length_of_a_master_playlist_is_limited() -> None:
    with pytest.raises(TooLarge):
        best_of("#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n" + "# a comment\n" * 200_000)


@pytest.mark.parametrize(
    "line", ["A" * 32_000, "A=" * 16_000 + '"', ',A="' * 8_000, "," + " " * 32_000, "A=B" * 10_000 + '"']
)
def test_a_malformed_line_is_parsed_in_linear_time(line: str) -> None:
    """The test measures no time, but it would exceed its timeout if the parser's time were quadratic in the length of
    the line."""
    for _ in range(200):
        attributes(line)


def test_the_attributes_of_a_tag_are_separated_by_commas_outside_quotes() -> None:
    found = attributes('METHOD=AES-128, URI="a,B=1,c",IV=0x1,,X="",Y=')
    assert found == {"METHOD": "AES-128", "URI": "a,B=1,c", "IV": "0x1", "X": "", "Y": ""}


@pytest.mark.parametrize("line", [b"  a.m4s", b"  %s.m4s" % (b"a" * 5000)])
def test_parsing_a_dash_manifest_yields_none_after_a_limited_number_of_characters_so_that_other_tasks_can_run(
    line: bytes,
) -> None:
    packed = PackedLines()
    write(packed, (line + b"\n") * 1000, 32768)
    found = list(DashManifest(packed, "https://media.example/", None, 1).segments())
    turns = "".join("|" if each is None else "-" for each in found).split("|")
    counted = len(line) + LINE_LENGTH
    assert {len(turn) for turn in turns[:-1]} == {TURN_LENGTH // counted + 1}


def test_dash_fragments_become_segments_whose_urls_contain_the_segment_query() -> None:
    fragments = (Fragment(url="https://m.example/init.mp4"), Fragment(url="https://m.example/1.m4s?a=1", duration=2.0))
    track = Track(
        id="v", url="https://m.example/x.mpd", protocol="http_dash_segments", ext="mp4", fragments=fragments,
        segment_query="t=5",
    )  # fmt: skip
    lines = b"".join(map(line_of, track.fragments)).decode().splitlines()
    parser = Lines(track.url, track.segment_query)
    found = [segment for line in lines for segment in parser.feed(line)]
    assert [segment.url for segment in found] == ["https://m.example/init.mp4?t=5", "https://m.example/1.m4s?a=1&t=5"]
    assert [segment.duration for segment in found] == [None, 2.0]


@given(
    st.sampled_from(["", "?a=1", "?a=1&b=2&a=3", "?blank=&c=%20+"]), st.sampled_from(["a=9", "x=1&x=2", "", "=", "é=ü"])
)
def test_query_parameters_of_a_url_are_replaced_as_in_yt_dlp(query: str, added: str) -> None:
    url = f"https://media.example/a.ts{query}"
    expected = update_url_query(url, parse_qs(added)) if parse_qs(added) else url
    assert with_query(url, added) == expected


@given(st.binary(max_size=200), st.integers(1, 40))
def test_decrypting_encrypted_bytes_returns_the_original_bytes(plain: bytes, step: int) -> None:
    secret = AES.new(KEY, AES.MODE_CBC, IV).encrypt(pad(plain, 16))
    decryption = Decryption(KEY, IV)
    given = b"".join(decryption.add(secret[at : at + step]) for at in range(0, len(secret), step))
    assert given + decryption.finish() == plain


@pytest.mark.parametrize("secret", [b"", b"x" * 15, b"x" * 33, AES.new(KEY, AES.MODE_CBC, IV).encrypt(b"\x00" * 32)])
def test_truncated_or_wrongly_padded_ciphertext_is_refused(secret: bytes) -> None:
    decryption = Decryption(KEY, IV)
    decryption.add(secret)
    with pytest.raises(UpstreamFailed):
        decryption.finish()


@pytest.mark.parametrize("key", [b"", b"k" * 15, b"k" * 17, b"k" * 33])
def test_a_decryption_key_of_the_wrong_length_is_refused(key: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="key"):
        Decryption(key, IV)


SECRET = bytes.fromhex("fbef7c3e00112233445566778899ffbe")


@pytest.mark.parametrize(
    "uri",
    [
        "data:text/plain;base64,++98PgARIjNEVWZ3iJn/vg==",
        "data:text/plain;base64,++98PgARIjNEVWZ3iJn/vg",
        "data:;base64,--98PgARIjNEVWZ3iJn_vg==",
        "DATA:;BASE64,--98PgARIjNEVWZ3iJn_vg",
        "data:text/plain;charset=utf-8;base64,++98PgARIjNEVWZ3iJn/vg==",
        "data:text/plain;base64;charset=utf-8,++98PgARIjNEVWZ3iJn/vg==",
        "data:text/plain; base64,++98PgARIjNEVWZ3iJn/vg==",
        "data:;base64,%2B%2B98PgARIjNEVWZ3iJn%2Fvg%3D%3D",
        "data:;base64,++98PgAR%0AIjNEVWZ3iJn/vg==",
        "data:,%FB%EF%7C%3E%00%11%223DUfw%88%99%FF%BE",
        "data:application/octet-stream;charset=x,%fb%ef|>%00%11%223DUfw%88%99%ff%be",
    ],
)
async def test_a_key_in_a_data_url_is_read_in_every_form_of_base64_and_percent_encoding(uri: str) -> None:
    async def fetch() -> bytes:
        raise AssertionError(uri)

    assert await Keys().get(Encryption(uri, None, IV), fetch) == SECRET


@pytest.mark.parametrize("uri", ["data:;base64,+", "data:;base64,é", "data:;base64,a|b="])
async def test_a_data_url_with_invalid_base64_is_refused(uri: str) -> None:
    async def fetch() -> bytes:
        raise AssertionError(uri)

    with pytest.raises(UpstreamFailed, match="decryption key"):
        await Keys().get(Encryption(uri, None, IV), fetch)
