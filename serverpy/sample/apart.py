"""HLS with separate video and audio in fragmented MP4, in the forms in which sites deliver it.

The folder `hls/apart` has ten seconds in two qualities and two languages. Each form is a folder `hls/apart-<form>` with
a master playlist, made from the segments of `hls/apart` without encoding them again. The folder `hls/apart-long` has
one minute with B-frames, in video segments of two seconds and audio segments of ten seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from serverpy.sample.cut import AAC, aes_128, cut_hls, h264_codec, write_lines
from serverpy.sample.hls import DISCONTINUITY, byte_ranges, playlist

VIDEO = {"high": "640x360", "low": "320x180"}
AUDIO = {"en": "English", "de": "Deutsch"}
LONG_AUDIO_SECONDS = 10
AGAIN = (0, 1, 2, 0, 1)
"""The numbers of the segments in the form `restart`: after the third segment, the timestamps start again."""


def make_apart(directory: Path, films: dict[str, Path], german: Path) -> None:
    """Make the folders of all forms inside `directory`/hls. `films` maps the names in `VIDEO` to files; `german` is a
    file with another audio track of the same length."""
    hls = directory / "hls"
    plain = hls / "apart"
    plain.mkdir()
    for name, film in films.items():
        cut_hls(plain, name, film, "video", fragmented=True)
    for name, film in {"en": films["high"], "de": german}.items():
        cut_hls(plain, name, film, "audio", fragmented=True)
    codecs = {name: h264_codec(film) for name, film in films.items()}
    _write_master(plain, codecs)
    for form, make in FORMS.items():
        folder = hls / f"apart-{form}"
        folder.mkdir()
        _write_master(folder, codecs)
        for name in (*VIDEO, *AUDIO):
            make(folder, plain, name)
    _make_long(hls / "apart-long", directory / "long.mp4")


def _make_long(folder: Path, film: Path) -> None:
    folder.mkdir()
    cut_hls(folder, "low", film, "video", fragmented=True)
    cut_hls(folder, "en", film, "audio", fragmented=True, seconds=LONG_AUDIO_SECONDS)
    _write_master(folder, {"low": h264_codec(film)}, languages=("en",))


def _write_master(folder: Path, codecs: dict[str, str], languages: Iterable[str] = AUDIO) -> None:
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for language in languages:
        default = "YES" if language == "en" else "NO"
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="{AUDIO[language]}",LANGUAGE="{language}",'
            f'DEFAULT={default},AUTOSELECT=YES,URI="{language}.m3u8"'
        )
    for number, (name, codec) in enumerate(codecs.items()):
        lines += [
            f"#EXT-X-STREAM-INF:BANDWIDTH={4_000_000 >> number},RESOLUTION={VIDEO[name]},FRAME-RATE=25.000,"
            f'CODECS="{codec},{AAC}",AUDIO="sound"',
            f"{name}.m3u8",
        ]
    write_lines(folder / "master.m3u8", lines)


def _byte_ranges(folder: Path, plain: Path, name: str) -> None:
    """Write a playlist whose segments, and the initialization section, are byte ranges of one file."""
    head, *parts = (part.read_bytes() for part in _files(plain, name))
    lines = byte_ranges(folder / f"{name}.mp4", parts, _durations(plain, name), head)
    tag = f'#EXT-X-MAP:URI="{name}.mp4",BYTERANGE="{len(head)}@0"'
    write_lines(folder / f"{name}.m3u8", playlist([tag, *lines]))


def _aes(folder: Path, plain: Path, name: str) -> None:
    """Write a playlist whose segments and initialization section are encrypted with AES-128."""
    key = hashlib.sha256(f"apart {name}".encode()).digest()
    (folder / f"{name}.key").write_bytes(key[:16])
    for file in _files(plain, name):
        (folder / file.name).write_bytes(aes_128(file.read_bytes(), key[:16], key[16:]))
    tag = f'#EXT-X-KEY:METHOD=AES-128,URI="{name}.key",IV=0x{key[16:].hex()}'
    numbers = range(len(_durations(plain, name)))
    write_lines(folder / f"{name}.m3u8", playlist([tag, *_lines(plain, name, numbers, base="")]))


def _restart(folder: Path, plain: Path, name: str) -> None:
    """Write a playlist whose timestamps start again after a discontinuity, with the same initialization section."""
    first, second = AGAIN[:3], AGAIN[3:]
    head, *lines = _lines(plain, name, first)
    write_lines(folder / f"{name}.m3u8", playlist([head, *lines, DISCONTINUITY, *_lines(plain, name, second)[1:]]))


FORMS: dict[str, Callable[[Path, Path, str], None]] = {
    "byterange": _byte_ranges,
    "aes": _aes,
    "restart": _restart,
}


def _lines(plain: Path, name: str, numbers: Iterable[int], base: str = "../apart/") -> list[str]:
    durations = _durations(plain, name)
    lines = [f'#EXT-X-MAP:URI="{base}{name}-init.mp4"']
    for number in numbers:
        lines += [durations[number], f"{base}{name}-{number}.m4s"]
    return lines


def _durations(plain: Path, name: str) -> list[str]:
    """Return the EXTINF tags of the playlist `name`. They differ between video and audio, because audio frames do not
    end at the ends of video segments."""
    return [line for line in (plain / f"{name}.m3u8").read_text().splitlines() if line.startswith("#EXTINF")]


def _files(folder: Path, name: str, numbers: Iterable[int] | None = None) -> list[Path]:
    """Return the paths of the initialization section and the segments of the track `name`: all segments, or only those
    with the given `numbers`."""
    numbers = range(len(_durations(folder, name))) if numbers is None else numbers
    return [folder / f"{name}-init.mp4", *(folder / f"{name}-{number}.m4s" for number in numbers)]


def files_of(hls: Path, form: str, name: str) -> list[Path]:
    """Return the files in `hls` whose concatenated bytes are the decrypted track `name` of the form `form`."""
    folder = hls / (form if form == "apart-long" else "apart")
    return _files(folder, name, AGAIN if form == "apart-restart" else None)
