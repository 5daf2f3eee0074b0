"""Remuxing of the encoded files into the forms in which sites deliver media: single tracks, HLS, DASH. Packets are
copied, never encoded again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
from av.stream import Stream
from Cryptodome.Cipher import AES
from Cryptodome.Util.Padding import pad

from serverpy.sample.encode import SECONDS, SEGMENT_SECONDS

FRAGMENTED = "+frag_keyframe+empty_moov+default_base_moof"
AES_FIRST_SEQUENCE = 7
AAC = "mp4a.40.2"


def copy(source: Path, target: Path | io.BytesIO, format: str, kinds: str, options: Mapping[str, str]) -> None:
    """Copy the streams of `source` whose type is in `kinds` ("video audio") into a file with another container
    format."""
    with av.open(source) as film, av.open(target, "w", format=format, options=dict(options)) as out:
        chosen: list[Stream] = [stream for stream in film.streams if stream.type in kinds.split()]
        copies = {stream.index: out.add_stream_from_template(stream) for stream in chosen}
        for packet in film.demux(chosen):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)


def h264_codec(film: Path) -> str:
    """Return the RFC 6381 codec string of the video, made of three bytes of its AVCDecoderConfigurationRecord (ISO/IEC
    14496-15 §5.3.3)."""
    with av.open(film) as container:
        record = container.streams.video[0].codec_context.extradata
    assert record
    return f"avc1.{record[1:4].hex()}"


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of an HLS master playlist. `name` is the name of its media playlist."""

    name: str
    film: Path
    size: tuple[int, int]
    codecs: str

    @property
    def resolution(self) -> str:
        return f"{self.size[0]}x{self.size[1]}"


def cut_hls(
    directory: Path,
    name: str,
    film: Path,
    kinds: str = "video audio",
    fragmented: bool = False,
    seconds: int = SEGMENT_SECONDS,
) -> None:
    """Write the media playlist `<name>.m3u8` and its segments: TS, or fragmented MP4 with an initialization section."""
    options = {
        "hls_time": str(seconds),
        "hls_playlist_type": "vod",
        "hls_flags": "+independent_segments",
        "hls_segment_filename": str(directory / f"{name}-%d.{'m4s' if fragmented else 'ts'}"),
    }
    if fragmented:
        options |= {"hls_segment_type": "fmp4", "hls_fmp4_init_filename": f"{name}-init.mp4"}
    copy(film, directory / f"{name}.m3u8", "hls", kinds, options)


def write_master(directory: Path, variants: list[Variant], audio: str | None = None) -> None:
    """Write `master.m3u8` with the given variants. `audio` names the media playlist of a separate audio rendition."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    if audio:
        lines.append(
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,'
            f'URI="{audio}.m3u8"'
        )
    for variant in variants:
        peak, average = _bandwidth(directory, variant.name)
        group = ',AUDIO="sound"' if audio else ""
        lines += [
            f"#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},RESOLUTION={variant.resolution},"
            f'FRAME-RATE=25.000,CODECS="{variant.codecs}"{group}',
            f"{variant.name}.m3u8",
        ]
    write_lines(directory / "master.m3u8", lines)


def _bandwidth(directory: Path, name: str) -> tuple[int, int]:
    """Return the peak and the average bandwidth of the media playlist in bit/s."""
    sizes = [path.stat().st_size for path in directory.glob(f"{name}-[0-9]*")]
    return max(sizes) * 8 // SEGMENT_SECONDS, sum(sizes) * 8 // SECONDS


def encrypt_hls(directory: Path, name: str, explicit_iv: bool) -> None:
    """Encrypt each segment of `<name>.m3u8` with AES-128 in CBC mode and PKCS7 padding (RFC 8216 §4.3.2.4). With
    `explicit_iv` the playlist states a different IV for each segment. Otherwise the IV of a segment is its media
    sequence number, which is AES_FIRST_SEQUENCE for the first segment.
    """
    key = hashlib.sha256(name.encode()).digest()[:16]
    (directory / f"{name}.key").write_bytes(key)
    lines = []
    for line in (directory / f"{name}.m3u8").read_text().splitlines():
        if line.startswith("#EXT-X-MEDIA-SEQUENCE"):
            tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{name}.key"'
            lines += [f"#EXT-X-MEDIA-SEQUENCE:{AES_FIRST_SEQUENCE}"] + ([] if explicit_iv else [tag])
            continue
        if line.startswith("#EXTINF") and explicit_iv:
            iv = hashlib.sha256(f"{name} {len(lines)}".encode()).digest()[:16]
            lines.append(f'#EXT-X-KEY:METHOD=AES-128,URI="{name}.key",IV=0x{iv.hex()}')
        elif line.endswith(".ts"):
            number = AES_FIRST_SEQUENCE + int(line.removesuffix(".ts").rpartition("-")[2])
            _encrypt(directory / line, key, iv if explicit_iv else number.to_bytes(16, "big"))
        lines.append(line)
    write_lines(directory / f"{name}.m3u8", lines)


def _encrypt(segment: Path, key: bytes, iv: bytes) -> None:
    segment.write_bytes(aes_128(segment.read_bytes(), key, iv))


def aes_128(plain: bytes, key: bytes, iv: bytes) -> bytes:
    """Encrypt `plain` with AES-128 in CBC mode and PKCS7 padding (METHOD=AES-128 of HLS, RFC 8216 §4.3.2.4)."""
    encrypted: bytes = AES.new(key, AES.MODE_CBC, iv).encrypt(pad(plain, AES.block_size))
    return encrypted


@dataclass(frozen=True, slots=True)
class Representation:
    """One representation of a DASH presentation. `attributes` are further attributes of its XML element, as text."""

    name: str
    film: Path
    kind: str
    codecs: str
    attributes: str


def cut_dash(directory: Path, representation: Representation) -> int:
    """Write the initialization segment `<name>-init.mp4` and the media segments `<name>-1.m4s` and so on. Returns the
    average bandwidth in bit/s."""
    # Every audio frame is a key frame: without an explicit duration, each would become a fragment.
    options = (
        {"movflags": FRAGMENTED}
        if representation.kind == "video"
        else {
            "movflags": FRAGMENTED.replace("+frag_keyframe", ""),
            "frag_duration": str(SEGMENT_SECONDS * 1_000_000),
        }
    )
    whole = io.BytesIO()
    copy(representation.film, whole, "mp4", representation.kind, options)
    head, *fragments = split_fragments(whole.getvalue())
    assert len(fragments) == SECONDS // SEGMENT_SECONDS, f"{len(fragments)} fragments of {representation.name}"
    (directory / f"{representation.name}-init.mp4").write_bytes(head)
    for number, fragment in enumerate(fragments, start=1):
        (directory / f"{representation.name}-{number}.m4s").write_bytes(fragment)
    return sum(map(len, fragments)) * 8 // SECONDS


def split_fragments(film: bytes) -> list[bytes]:
    """Split a fragmented MP4 into its head (`ftyp`, `moov`) and its fragments (each a `moof` with its `mdat`). Leaves
    out the index at the end (`mfra`)."""
    parts = [bytearray()]
    for kind, box in _boxes(film):
        if kind == b"mfra":
            break
        if kind == b"moof":
            parts.append(bytearray())
        parts[-1] += box
    return [bytes(part) for part in parts]


def _boxes(film: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place < len(film):
        size = int.from_bytes(film[place : place + 4], "big")
        yield film[place + 4 : place + 8], film[place : place + size]
        place += size


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
