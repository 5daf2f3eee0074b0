"""Short media files in memory. PyAV writes files in the containers that it supports, and this module builds the other
files, boxes and tags."""

from __future__ import annotations

import functools
import io
import struct
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

_PIXELS = {"gif": "rgb8", "png": "rgb24", "bmp": "bgr24", "tiff": "rgb24", "mjpeg": "yuvj420p", "jpeg2000": "rgb24"}


@functools.cache
def written(muxer: str, *codecs: str, rate: int = 48_000, seconds: float = 0.5, **options: str) -> bytes:
    """Return a file that PyAV's muxer `muxer` writes, with one stream for each of `codecs`, in this order. `options`
    are the options of the muxer, which writes to a seekable file."""
    out = io.BytesIO()
    with av.open(out, "w", format=muxer, options={"fflags": "+bitexact", **options}) as container:
        streams = [_stream(container, codec, rate) for codec in codecs]
        for stream in streams:
            for packet in _packets(stream, rate, seconds):
                container.mux(packet)
    return out.getvalue()


def _stream(container: av.container.OutputContainer, codec: str, rate: int) -> AudioStream | VideoStream:
    if av.codec.Codec(codec, "w").type == "video":
        video = container.add_stream(codec, rate=25)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 128, 96, _PIXELS.get(codec, "yuv420p")
        return video
    audio = container.add_stream(codec, rate=rate)
    assert isinstance(audio, AudioStream)
    audio.layout = "mono"
    if codec == "wmav2":  # this codec has no default bit rate
        audio.bit_rate = 96_000
    return audio


def _packets(stream: AudioStream | VideoStream, rate: int, seconds: float) -> list[Packet[Any]]:
    packets: list[Packet[Any]] = []
    if isinstance(stream, VideoStream):
        for number in range(max(1, int(25 * seconds))):
            frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt or "")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
    else:
        sound = av.AudioFrame(format="s16", layout="mono", samples=int(rate * seconds))
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        size = sound.planes[0].buffer_size
        sound.planes[0].update((bytes(range(256)) * (size // 256 + 1))[:size])
        packets += stream.encode(sound)
    return packets + stream.encode(None)


def image(codec: str) -> bytes:
    encoder, pixels = av.CodecContext.create(codec, "w"), _PIXELS.get(codec, "rgb24")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 16, 16, pixels
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame(16, 16, pixels)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def id3(nbytes: int = 53, *, footer: bool = False) -> bytes:
    """Return an ID3v2.4 tag that contains a private frame with `nbytes` bytes of content after the 10 bytes of its
    header, like the time stamp of packed audio (RFC 8216 §3.4)."""
    frame = b"PRIV" + _synchsafe(nbytes) + bytes(2) + b"\xff\xfb" * (nbytes // 2) + bytes(nbytes % 2)
    head = bytes((4, 0, 0x10 if footer else 0)) + _synchsafe(len(frame))
    return b"ID3" + head + frame + (b"3DI" + head if footer else b"")


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def ftyp(major: bytes, *compatible: bytes, box: bytes = b"ftyp") -> bytes:
    body = major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + box + body + b"\0\0\0\x08free" + bytes(400)


def ogg_page(packet: bytes, *, begins: bool = True) -> bytes:
    laces = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    return b"OggS\0" + bytes([2 if begins else 0]) + bytes(20) + bytes([len(laces)]) + laces + packet


def element(name: int, *content: bytes) -> bytes:
    """Return an EBML element (RFC 8794) whose size field has two bytes."""
    data = b"".join(content)
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + (0x4000 | len(data)).to_bytes(2, "big") + data
