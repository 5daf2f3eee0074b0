"""The media of a page, in the form that `GET /info`, `serverpy info` and `Engine.info` return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_json

from serverpy.default_choice import size_of
from serverpy.extraction.values import Entry, Media, Subtitle, Track
from serverpy.plan import Capabilities, Plan

INFO_EXAMPLE: dict[str, JsonValue] = {
    "id": "1",
    "title": "A film",
    "uploader": "Somebody",
    "duration": 10.0,
    "kind": "video",
    "thumbnail": "https://example.com/1.jpg",
    "webpage_url": "https://example.com/watch?v=1",
    "extractor": "Example",
    "default": {"format": "360", "to": "source", "size": 5290271},
    "formats": [
        {
            "id": "360",
            "ext": "mp4",
            "protocol": "https",
            "vcodec": "avc1.4d401e",
            "acodec": "mp4a.40.2",
            "width": 640,
            "height": 360,
            "fps": 25.0,
            "bitrate": 700.0,
            "size": 5290271,
            "size_exact": True,
            "language": "en",
            "note": None,
            "methods": ["relay", "embedded", "subprocess"],
            "to": ["source", "mp4"],
        }
    ],
    "subtitles": [{"language": "en", "ext": "vtt", "name": "English", "automatic": False}],
    "images": [],
    "entries": [],
}


class FormatInfo(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "description": "One format. `bitrate` is in kbit/s, `size` in bytes. `methods` and `to` list the values of "
            "these parameters of `/stream` with which the format can be requested."
        }
    )

    id: str
    ext: str
    protocol: str
    vcodec: str | None
    acodec: str | None
    width: int | None
    height: int | None
    fps: float | None
    bitrate: float | None
    size: int | None
    size_exact: bool
    language: str | None
    note: str | None
    methods: list[str]
    to: list[str]


class DefaultInfo(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "description": "The media that a request without `format` gets: the values of `format` and `to` for the "
            "same media, and its size in bytes, if the page states or implies it."
        }
    )

    format: str
    to: Literal["source"]
    size: int | None


class SubtitleInfo(BaseModel):
    language: str
    ext: str
    name: str | None
    automatic: bool


class ImageInfo(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"description": "An image of an image post. `item` is its number, for `/stream`."}
    )

    item: int
    ext: str
    width: int | None
    height: int | None


class EntryInfo(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "description": "An item of a playlist, or a part of a video. `item` is its number, for the parameter "
            "`item` of `/stream`; `url` is its own page, if it has one."
        }
    )

    item: int
    title: str | None
    url: str | None
    duration: float | None


class Info(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"description": "The metadata and formats of a page.", "examples": [INFO_EXAMPLE]}
    )

    id: str
    title: str
    uploader: str | None
    duration: float | None = Field(description="Duration of the media in seconds; null if unknown.")
    kind: Literal["video", "audio", "images", "playlist", "live"]
    thumbnail: str | None
    webpage_url: str
    extractor: str
    default: DefaultInfo | None = Field(description="Null if a request without `format` would be refused.")
    formats: list[FormatInfo]
    subtitles: list[SubtitleInfo]
    images: list[ImageInfo]
    entries: list[EntryInfo]


def info_of(media: Media, capabilities: Capabilities, default: Plan | None) -> Info:
    """Return the description of `media`. `default` is the plan for a request without `format` (`Delivery.default`)."""
    lists = {name: list(items) for name, items in _lists(media, capabilities).items()}
    return Info.model_validate(_values(media, default) | lists)


def info_json(media: Media, capabilities: Capabilities, default: Plan | None, piece_bytes: int) -> Iterator[bytes]:
    """Yield `info_of(media, capabilities, default)` as JSON, in pieces of about `piece_bytes` bytes. Making one piece
    takes little time and memory."""
    piece = bytearray()
    for part in _json_parts(media, capabilities, default, piece_bytes):
        piece += part
        if len(piece) >= piece_bytes:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _json_parts(media: Media, capabilities: Capabilities, default: Plan | None, piece_bytes: int) -> Iterator[bytes]:
    yield b"{"
    for name, value in _values(media, default).items():
        yield b'"%s":' % name.encode()
        yield from _value_parts(value, piece_bytes)
        yield b","
    for number, (name, items) in enumerate(_lists(media, capabilities).items()):
        yield b'%s"%s":[' % (b"," if number else b"", name.encode())
        for position, item in enumerate(items):
            yield b"," * (position > 0) + to_json(item, inf_nan_mode="null")
        yield b"]"
    yield b"}"


def _value_parts(value: object, piece_bytes: int) -> Iterator[bytes]:
    if not isinstance(value, str):
        yield to_json(value, inf_nan_mode="null")
        return
    yield b'"'
    for start in range(0, len(value), piece_bytes):
        yield to_json(value[start : start + piece_bytes])[1:-1]
    yield b'"'


def _values(media: Media, default: Plan | None) -> dict[str, Any]:
    """Return the fields of `Info` that are not lists."""
    return {
        "id": media.id,
        "title": media.title,
        "uploader": media.uploader,
        "duration": media.duration,
        "kind": media.kind,
        "thumbnail": media.thumbnail,
        "webpage_url": media.webpage_url,
        "extractor": media.extractor,
        "default": _default(media, default),
    }


def _lists(media: Media, capabilities: Capabilities) -> dict[str, Iterator[BaseModel]]:
    """Return the fields of `Info` that are lists, as iterators that make the items one by one."""
    return {
        "formats": (_format(track, capabilities) for track in media.tracks),
        "subtitles": (_subtitle(subtitle) for subtitle in media.subtitles),
        "images": _images(media),
        "entries": (_entry(number, entry) for number, entry in enumerate(media.entries, 1)),
    }


def _format(track: Track, capabilities: Capabilities) -> FormatInfo:
    return FormatInfo(
        id=track.id,
        ext=track.ext,
        protocol=track.protocol,
        vcodec=track.vcodec,
        acodec=track.acodec,
        width=track.width,
        height=track.height,
        fps=track.fps,
        bitrate=track.bitrate,
        size=track.size,
        size_exact=track.size_exact,
        language=track.language,
        note=track.note,
        methods=capabilities.methods_of(track),
        to=capabilities.conversions_of(track),
    )


def _default(media: Media, plan: Plan | None) -> DefaultInfo | None:
    if plan is None or not plan.tracks:
        return None
    ids = "+".join(track.id for track in plan.tracks)
    return DefaultInfo(format=ids, to="source", size=size_of(plan.tracks, media.duration))


def _subtitle(subtitle: Subtitle) -> SubtitleInfo:
    return SubtitleInfo(language=subtitle.language, ext=subtitle.ext, name=subtitle.name, automatic=subtitle.automatic)


def _images(media: Media) -> Iterator[ImageInfo]:
    """Yield the images of an image post: its items, or the page itself if the page is a single image."""
    items = [entry.media for entry in media.entries] if media.entries else [media]
    for number, item in enumerate(items, 1):
        for track in item.tracks[-1:] if item is not None else ():
            if track.is_image:
                yield ImageInfo(item=number, ext=track.ext, width=track.width, height=track.height)


def _entry(number: int, entry: Entry) -> EntryInfo:
    media = entry.media
    return EntryInfo(
        item=number,
        title=entry.title or (media.title if media else None),
        url=entry.public_url or (media.webpage_url if media else None),
        duration=entry.duration or (media.duration if media else None),
    )
