"""The response models of `/info` and `/health`, as OpenAPI shows them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from serverpy.extraction.values import Entry, Media, Subtitle, Track
from serverpy.metrics import Sample
from serverpy.plan import Capabilities

INFO_EXAMPLE: dict[str, JsonValue] = {
    "id": "1",
    "title": "A film",
    "uploader": "Somebody",
    "duration": 10.0,
    "kind": "video",
    "thumbnail": "https://example.com/1.jpg",
    "webpage_url": "https://example.com/watch?v=1",
    "extractor": "Example",
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
HEALTH_EXAMPLE: dict[str, JsonValue] = {
    "status": "ok",
    "version": "0.1.0",
    "yt_dlp": "2026.08.19",
    "uptime": 3600.0,
    "memory": {"pss": 52134912, "uss": 47968256, "worker": {"pss": 61134848, "uss": 56934400}},
    "worker": "running",
    "streams": 3,
    "waiting": 0,
    "upstreams": 3,
    "threads": 3,
    "fds": 29,
    "children": 1,
    "buffered_bytes": 0,
    "budget": {"used": 319488, "total": 268435456},
    "loop_lag": {"p50": 0.4, "p99": 2.1},
}


class FormatInfo(BaseModel):
    """One format. `bitrate` in kbit/s, `size` in bytes; `methods` and `to` say how it can be streamed."""

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


class SubtitleInfo(BaseModel):
    language: str
    ext: str
    name: str | None
    automatic: bool


class ImageInfo(BaseModel):
    """An image of an image post; `item` is the parameter of `/stream`."""

    item: int
    ext: str
    width: int | None
    height: int | None


class EntryInfo(BaseModel):
    """An item of a playlist; `item` is the parameter of `/stream`, `url` the item's own page if it has one."""

    item: int
    title: str | None
    url: str | None
    duration: float | None


class Info(BaseModel):
    """The metadata and formats of a page."""

    model_config = ConfigDict(json_schema_extra={"examples": [INFO_EXAMPLE]})

    id: str
    title: str
    uploader: str | None
    duration: float | None = Field(description="Seconds.")
    kind: Literal["video", "audio", "images", "playlist", "live"]
    thumbnail: str | None
    webpage_url: str
    extractor: str
    formats: list[FormatInfo]
    subtitles: list[SubtitleInfo]
    images: list[ImageInfo]
    entries: list[EntryInfo]


def info_of(media: Media, capabilities: Capabilities) -> Info:
    return Info(
        id=media.id,
        title=media.title,
        uploader=media.uploader,
        duration=media.duration,
        kind=media.kind,
        thumbnail=media.thumbnail,
        webpage_url=media.webpage_url,
        extractor=media.extractor,
        formats=[_format(track, capabilities) for track in media.tracks],
        subtitles=[_subtitle(subtitle) for subtitle in media.subtitles],
        images=_images(media),
        entries=[_entry(number, entry) for number, entry in enumerate(media.entries, 1)],
    )


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


def _subtitle(subtitle: Subtitle) -> SubtitleInfo:
    return SubtitleInfo(language=subtitle.language, ext=subtitle.ext, name=subtitle.name, automatic=subtitle.automatic)


def _images(media: Media) -> list[ImageInfo]:
    """List the images of an image post: its items, or the page itself if it is a single image."""
    items = [entry.media for entry in media.entries] if media.entries else [media]
    return [
        ImageInfo(item=number, ext=track.ext, width=track.width, height=track.height)
        for number, item in enumerate(items, 1)
        if item is not None
        for track in item.tracks[-1:]
        if track.is_image
    ]


def _entry(number: int, entry: Entry) -> EntryInfo:
    media = entry.media
    return EntryInfo(
        item=number,
        title=entry.title or (media.title if media else None),
        url=entry.url or (media.webpage_url if media else None),
        duration=entry.duration or (media.duration if media else None),
    )


class MemoryInfo(BaseModel):
    """Memory in bytes, from the kernel's `smaps_rollup`."""

    pss: int
    uss: int


class ProcessMemory(MemoryInfo):
    worker: MemoryInfo


class BudgetInfo(BaseModel):
    """Bytes of MEMORY_BUDGET."""

    used: int
    total: int


class LagInfo(BaseModel):
    """How late the event loop was in the last minute, in milliseconds."""

    p50: float
    p99: float


class Health(BaseModel):
    """The state of the serving process that answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [HEALTH_EXAMPLE]})

    status: Literal["starting", "ok", "draining"]
    version: str
    yt_dlp: str | None = Field(description="Version of yt-dlp; null until the worker has started.")
    uptime: float = Field(description="Seconds.")
    memory: ProcessMemory
    worker: Literal["starting", "running", "stopped"] = Field(
        description="The process that runs yt-dlp. `stopped`: it was idle; it is started again when it is needed."
    )
    streams: int
    waiting: int
    upstreams: int
    threads: int
    fds: int
    children: int
    buffered_bytes: int
    budget: BudgetInfo
    loop_lag: LagInfo


def health_of(
    sample: Sample, status: Literal["starting", "ok", "draining"], version: str, yt_dlp: str | None
) -> Health:
    own, worker = sample.memory, sample.worker_memory
    return Health(
        status=status,
        version=version,
        yt_dlp=yt_dlp,
        uptime=sample.uptime,
        memory=ProcessMemory(pss=own.pss, uss=own.uss, worker=MemoryInfo(pss=worker.pss, uss=worker.uss)),
        worker=sample.worker,
        streams=sample.streams,
        waiting=sample.waiting,
        upstreams=sample.upstreams,
        threads=sample.threads,
        fds=sample.fds,
        children=sample.children,
        buffered_bytes=sample.buffered_bytes,
        budget=BudgetInfo(used=sample.budget_used, total=sample.budget_total),
        loop_lag=LagInfo(p50=sample.loop_lag_p50, p99=sample.loop_lag_p99),
    )
