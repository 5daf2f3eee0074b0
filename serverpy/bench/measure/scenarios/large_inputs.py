"""The inputs of the scenario `callbacks`: each is as large as a limit of the server allows, or exceeds a limit.

An input is a coroutine function that prepares answers of the `LargeSite` and sends requests to the server under test.
It checks the statuses of the responses, so that the scenario does not measure a refusal instead of the input.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import brotli

from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.large_site import ADDRESSES, Answer, LargeSite
from serverpy.bench.measure.origin import Origin
from serverpy.bench.measure.targets import Running
from serverpy.sample.boxes import boxes, rebuilt
from serverpy.sample.hostile import RepeatedContent
from serverpy.sample.make import ensure_media

FORMATS, SUBTITLES, SEGMENTS, VARIANTS, KEYS = 2000, 5000, 100_000, 5000, 10_000
SAMPLES = 1_000_000
REFERENCES = 65_535
STREAMS = 250
SECONDS = 120.0
"""Timeout, in seconds, of a connection, of the head of a response, and of its body."""
MUCH = 128 << 10
"""Number of bytes that are read of the response to a request for `/stream`."""
KEY = "the-secret-of-the-admin-key"
KEYS_FILE = "keys.toml"
HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n"


@dataclass(frozen=True)
class Load:
    """The server under test, and the media servers that an input may use. An input that takes long multiplies its size
    by `scale`, which is at most 1."""

    running: Running
    origin: Origin
    site: LargeSite
    scale: float

    def put(self, path: str, body: bytes, **more: Any) -> str:
        """Serve `body` at `path` of the large site, and return its URL."""
        self.site.answers[path] = Answer.of(path, body, **more)
        return self.site.url(path)

    async def page(self, url: str, *statuses: int, route: str = "stream", fields: str = "", **query: str) -> bytes:
        """Request `route` for the page `url`, with the parameters `query`. Returns and raises the same as `ask`."""
        return await self.ask(f"/{route}?{urlencode({'url': url, **query}, quote_via=quote)}", *statuses, fields=fields)

    async def ask(self, target: str, *statuses: int, verb: str = "GET", fields: str = "", body: bytes = b"") -> bytes:
        """Send a request on a new connection, and return the body of the response, or its first MUCH bytes if it is a
        stream. Raises the errors of `connection`, and TimeoutError if the body takes longer than SECONDS."""
        async with self.connection(target, *statuses, verb=verb, fields=fields, body=body) as reader:
            return await _some(reader, MUCH if target.startswith("/stream") else 1 << 30)

    @contextlib.asynccontextmanager
    async def connection(
        self, target: str, *statuses: int, verb: str = "GET", fields: str = "", body: bytes = b""
    ) -> AsyncIterator[asyncio.StreamReader]:
        """Send a request on a new connection, and yield the reader of the body of its response. Aborts the connection
        at the end of the block. Raises BenchError if the status is not among `statuses` (default: 200 and 206), and
        TimeoutError if the head of the response takes longer than SECONDS."""
        host, port = self.running.host, self.running.port
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{verb} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{length}{fields}\r\n"
        try:
            writer.write(head.encode() + body)
            status = await _status(reader)
            if status not in (statuses or (200, 206)):
                text = await _some(reader, 300)
                raise BenchError(f"{target[:200]} was answered with status {status}: {text!r}")
            yield reader
        finally:
            writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """Read the head of a response, and return its status, or 0 if the connection ends within the head."""
    async with asyncio.timeout(SECONDS):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return 0
    return int(head[9:12])


async def _some(reader: asyncio.StreamReader, most: int) -> bytes:
    """Read to the end, or until at least `most` bytes have arrived. Raises TimeoutError if that takes longer than
    SECONDS."""
    data = bytearray()
    async with asyncio.timeout(SECONDS):
        while len(data) < most and (part := await reader.read(1 << 16)):
            data += part
    return bytes(data)


@dataclass(frozen=True)
class Input:
    """An input of the scenario. `title` describes it in the report, and `send` sends it."""

    name: str
    title: str
    send: Callable[[Load], Awaitable[None]]


# Pages


def _film(load: Load, name: str, formats: Iterable[dict[str, Any]], subtitles: Iterable[str] = (), **more: Any) -> str:
    """Put a film of SampleTube at the large site, and return the URL of its page."""
    described = {
        "id": name,
        "title": "A film",
        "uploader": "x",
        "duration": 100,
        "thumbnail": "/x.jpg",
        "token": "t",
        "formats": list(formats),
        "subtitles": dict.fromkeys(subtitles, "/subs.vtt"),
        "captions": {},
    }
    load.put(f"/tube/api/watch/{name}", json.dumps(described).encode())
    return load.put(f"/tube/watch/{name}", b"<!DOCTYPE html><title>x</title>", **more)


def _format(
    number: int, path: str, video: str = "avc1.4d401e", audio: str = "mp4a.40.2", **more: Any
) -> dict[str, Any]:
    size = {"width": 160 + number, "height": 90 + number} if video != "none" else {"width": None, "height": None}
    codecs = {"ext": "mp4" if video != "none" else "m4a", "protocol": "https", "vcodec": video, "acodec": audio}
    return {"id": f"f{number}", "path": path, "bytes": 1000 + number, **size, **codecs, **more}


async def many_formats(load: Load) -> None:
    formats = (_format(number, f"/{number}.mp4") for number in range(FORMATS))
    languages = (f"x-{number}" for number in range(SUBTITLES))
    url = _film(load, "formats", formats, languages)
    await load.page(url, route="info")
    await load.page(url, route="info")


async def many_pairs(load: Load) -> None:
    """A page with 1,000 video and 1,000 audio tracks, which can be combined in a million ways."""
    half = FORMATS // 2
    videos = (_format(number, f"/v{number}.mp4", audio="none") for number in range(half))
    audios = (_format(half + number, f"/a{number}.m4a", video="none") for number in range(half))
    url = _film(load, "pairs", chain(videos, audios))
    await load.page(url, route="info")
    await load.page(url, 404, 422, 502, format="bv[height<200]+ba/b[height>100]/bv*+ba")
    for query in ({}, {"height": "144"}, {"lang": "de"}, {"max_size": "1"}, {"codec": "av1"}, {"to": "mp4"}):
        await load.page(url, 404, 422, 413, 502, **query)


async def long_addresses(load: Load) -> None:
    """An extraction of nearly 8 MiB with long URLs."""
    formats = (_format(number, f"/{number}.mp4?{'x' * 3000}") for number in range(FORMATS))
    url = _film(load, "addresses", formats)
    await load.page(url, route="info")
    await load.page(url, 404, 502)


async def many_entries(load: Load) -> None:
    item = {"path": f"/tube/watch/{'i' * 1500}", "id": "i", "title": "t" * 1000}
    load.put("/tube/api/playlist/list", json.dumps({"title": "t", "count": 1000, "items": [item] * 10}).encode())
    url = load.put("/tube/playlist/list", b"<!DOCTYPE html><title>x</title>")
    await load.page(url, route="info")
    await load.page(url, 404, 502, item="1000")


async def many_images(load: Load) -> None:
    images = [{"path": f"/{number}.jpg?{'x' * 3000}", "width": 100, "height": 100} for number in range(1000)]
    described = {"id": "post", "title": "A post", "token": "t", "images": images, "music": None}
    load.put("/tube/api/post/post", json.dumps(described).encode())
    url = load.put("/tube/post/post", b"<!DOCTYPE html><title>x</title>")
    await load.page(url, route="info")


# Cookies


async def many_cookies(load: Load) -> None:
    """A page and nineteen redirects between twenty hosts. Each response sets so many cookies that its head has nearly
    64 KiB."""
    expires = "Expires=Wed, 21 Oct 2099 07:28:00 GMT; Path=/"
    small = [("Set-Cookie", f"c{number}={'v' * 550}; {expires}") for number in range(90)]
    large = [("Set-Cookie", f"d{number}={'v' * 4000}; {expires}") for number in range(15)]
    for number in range(1, len(ADDRESSES)):
        onward = load.site.url(f"/hop/{number + 1}", ADDRESSES[(number + 1) % len(ADDRESSES)])
        fields = [*(small if number % 2 else large), ("Location", onward)]
        load.site.answers[f"/hop/{number}"] = Answer.of("x.txt", b"", status=302, fields=fields)
    load.put(f"/hop/{len(ADDRESSES)}", _ts() * 100)
    url = _film(load, "cookies", [_format(0, load.site.url("/hop/1", ADDRESSES[1]))], fields=small)
    await load.page(url, method="relay")


# Playlists


@cache
def _ts() -> bytes:
    """Return a segment of MPEG-TS that consists of null packets."""
    return (b"\x47\x1f\xff\x10" + bytes(184)) * 10


def _playlist(load: Load, name: str, lines: Iterable[str]) -> str:
    load.put(f"/{name}/list.m3u8", (HEAD + "".join(lines) + "#EXT-X-ENDLIST\n").encode())
    load.put(f"/{name}/seg.ts", _ts() * 10)
    load.put(f"/{name}/key", bytes(16))
    master = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=320x180,CODECS="avc1.4d401e,mp4a.40.2"\nlist.m3u8\n'
    return load.put(f"/{name}/master.m3u8", master.encode())


async def long_playlist(load: Load) -> None:
    url = _playlist(load, "long", (f"#EXTINF:2,\nseg.ts?{number}\n" for number in range(SEGMENTS)))
    await load.page(url, method="relay")


async def ranged_playlist(load: Load) -> None:
    """A playlist of 100,000 byte ranges. The length of its stream is known, so its last bytes are requested, too."""
    unit = "#EXTINF:2,\n#EXT-X-BYTERANGE:1880@0\nseg.ts\n"
    url = _playlist(load, "ranged", [unit] * SEGMENTS)
    await load.page(url, method="relay")
    await load.page(url, method="relay", fields="Range: bytes=-5000\r\n")
    await load.page(url, method="relay", fields="Range: bytes=100000000-100001000\r\n")


async def keys_in_a_playlist(load: Load) -> None:
    """A playlist of 70,000 segments, each with an EXT-X-KEY tag. It has nearly 8 MiB, the maximum for an extraction."""
    units = (f'#EXT-X-KEY:METHOD=AES-128,URI="key?{n}",IV=0x{n:032x}\n#EXTINF:2,\ns?{n}\n' for n in range(70_000))
    url = _playlist(load, "keys", units)
    await load.page(url, 200, 415, 502, method="relay")


async def many_tags(load: Load) -> None:
    """A playlist of nearly 8 MiB with long lines, and with variables in the URLs of its segments."""
    define = f'#EXT-X-DEFINE:NAME="n",VALUE="{"x" * 2000}"\n'
    unit = "#EXTINF:2,\nseg.ts?{$n}{$n}{$n}\n"
    url = _playlist(load, "tags", [define, *[unit] * 2000, *[f"#{'x' * 30_000}\n"] * 260])
    await load.page(url, 200, 413, method="relay")


async def many_variants(load: Load) -> None:
    """A master playlist with 5,000 variants, each of which is a master playlist again."""
    unit = '#EXT-X-STREAM-INF:BANDWIDTH={0},RESOLUTION=320x180,CODECS="avc1.4d401e,mp4a.40.2",AUDIO="a"\n{0}.m3u8\n'
    lines = "".join(unit.format(number) for number in range(1, VARIANTS + 1))
    media = "".join(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{n}",URI="a{n}.m3u8"\n' for n in range(1000))
    url = load.put("/variants/master.m3u8", f"#EXTM3U\n{media}{lines}".encode())
    for number in range(1, VARIANTS + 1):
        load.site.answers[f"/variants/{number}.m3u8"] = load.site.answers["/variants/master.m3u8"]
    await load.page(url, route="info")
    await load.page(url, 200, 413, 422, 502, method="relay")


# DASH


def _timeline(load: Load, name: str, segments: int, template: str) -> str:
    """Put a manifest with `segments` segments for each of two tracks, and return its URL."""
    line = '<S t="0" d="2"/>' + '<S d="3"/><S d="2"/>' * (segments // 2)
    timeline = f"<SegmentTimeline>{line}</SegmentTimeline>"
    tracks = "".join(
        f'<AdaptationSet mimeType="{kind}/mp4"><Representation id="{kind}" codecs="{codec}" bandwidth="1000"{size}>'
        f'<SegmentTemplate timescale="1" initialization="/dash/{kind}.mp4" media="/dash/{kind}.m4s{template}">'
        f"{timeline}"
        "</SegmentTemplate></Representation></AdaptationSet>"
        for kind, codec, size in (
            ("video", "avc1.42c014", ' width="320" height="180"'),
            ("audio", "mp4a.40.2", ""),
        )
    )
    head = '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT{}S"><Period>'
    return load.put(f"/{name}.mpd", f"{head.format(5 * segments // 2 + 2)}{tracks}</Period></MPD>".encode())


async def long_manifest(load: Load) -> None:
    media = ensure_media() / "dash"
    for kind, name in (("video", "video-180"), ("audio", "audio")):
        load.put(f"/dash/{kind}.mp4", (media / f"{name}-init.mp4").read_bytes())
        load.put(f"/dash/{kind}.m4s", (media / f"{name}-1.m4s").read_bytes())
    url = _timeline(load, "timeline", 40_000, "?$Time$")
    await load.page(url, route="info")
    await load.page(url, method="relay")


# Merged pairs


def _merged_list(track: str, count: int) -> str:
    """Return the playlist of a track of the sample site, with its segments repeated to `count` segments."""
    text = (ensure_media() / "hls/apart-byterange" / f"{track}.m3u8").read_text()
    head, _, rest = text.partition("#EXTINF")
    segments = [f"#EXTINF{each}" for each in rest.replace("#EXT-X-ENDLIST\n", "").split("#EXTINF")]
    return "".join([head, *(segments[number % len(segments)] for number in range(count)), "#EXT-X-ENDLIST\n"])


async def long_merge(load: Load) -> None:
    """A merge of video and audio with 50,000 byte ranges each, for which the server makes a layout."""
    media = ensure_media() / "hls/apart-byterange"
    for track in ("high", "en"):
        load.put(f"/merge/{track}.m3u8", _merged_list(track, SEGMENTS // 2).encode())
        load.put(f"/merge/{track}.mp4", (media / f"{track}.mp4").read_bytes())
    master = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="en.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=4000000,RESOLUTION=640x360,CODECS="avc1.4d401e,mp4a.40.2",AUDIO="a"\nhigh.m3u8\n'
    )
    url = load.put("/merge/master.m3u8", master.encode())
    await load.page(url, method="relay")
    await load.page(url, method="relay", fields="Range: bytes=-5000\r\n")


def _full_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sI", len(content) + 12, kind, 0) + content


def _long_plain(name: str, count: int) -> bytes:
    """Return the MP4 `name` of the sample site with `count` samples of one byte each. Each sample has an entry of its
    own in `stsz` and `ctts`; four samples share an entry in `stts`."""
    film = (ensure_media() / name).read_bytes()
    (moov,) = (box for box in boxes(film) if box.kind == b"moov")
    (ftyp,) = (film[box.start - 8 : box.stop] for box in boxes(film) if box.kind == b"ftyp")
    chunk = 100

    def made(offset: int) -> bytes:
        offsets = range(offset, offset + count, chunk)
        tables = {
            b"stsz": struct.pack(">II", 0, count) + struct.pack(">I", 1) * count,
            b"stts": struct.pack(">I", count // 4) + struct.pack(">IIII", 4, 500, 4, 501) * (count // 8),
            b"ctts": struct.pack(">I", count) + struct.pack(">IIII", 1, 0, 1, 500) * (count // 2),
            b"stss": struct.pack(">II", 1, 1),
            b"stsc": struct.pack(">IIII", 1, 1, chunk, 1),
            b"stco": struct.pack(f">I{len(offsets)}I", len(offsets), *offsets),
        }
        boxed = {kind: _full_box(kind, content) for kind, content in tables.items()}
        replaced = boxed | {b"ctts": b"", b"stss": b"", b"stsz": boxed[b"stsz"] + boxed[b"ctts"]}
        return rebuilt(film, moov, replaced)

    begin = len(ftyp) + len(made(0)) + 8
    return ftyp + made(begin) + struct.pack(">I4s", count + 8, b"mdat") + bytes(count)


def _pair(load: Load, name: str) -> str:
    video = _format(360, f"/{name}/video.mp4", audio="none")
    return _film(load, name, [video, _format(1, f"/{name}/audio.m4a", video="none")])


async def long_moov(load: Load) -> None:
    count = int(SAMPLES * load.scale)
    load.put("/plain/video.mp4", _long_plain("video-only.mp4", count))
    load.put("/plain/audio.m4a", _long_plain("audio-only.mp4", count))
    url = _pair(load, "plain")
    await load.page(url, method="relay")
    await load.page(url, method="relay", fields="Range: bytes=-50000\r\n")


async def long_index(load: Load) -> None:
    """Fragmented MP4s whose `sidx` lists 32,767 fragments."""
    count = int(REFERENCES // 2 * load.scale)
    for path, name in (("video.mp4", "video-180-sidx.mp4"), ("audio.m4a", "audio-sidx.mp4")):
        film = (ensure_media() / name).read_bytes()
        found = list(boxes(film))
        index = next(box for box in found if box.kind == b"sidx")
        first = next(number for number, box in enumerate(found) if box.kind == b"moof")
        fragment = film[found[first].start - 8 : found[first + 1].stop]
        (scale,) = struct.unpack_from(">I", film, index.start + 8)
        reference = struct.pack(">III", len(fragment), scale, 0x90000000) * count
        sidx = film[index.start : index.start + 30] + struct.pack(">H", count) + reference
        head = film[: index.start - 8] + struct.pack(">I4s", len(sidx) + 8, b"sidx") + sidx
        content = RepeatedContent(head, fragment, b"", len(head) + count * len(fragment), "video/mp4")
        load.site.answers[f"/index/{path}"] = Answer(content)
    url = _pair(load, "index")
    await load.page(url, method="relay")
    await load.page(url, method="relay", fields="Range: bytes=-50000\r\n")


# Bodies


async def coded_bodies(load: Load) -> None:
    """Media whose decoded size is up to a thousand times the encoded size."""
    film = (ensure_media() / "prog.mp4").read_bytes() + bytes(64 << 20)
    for coding, encode in (("gzip", gzip.compress), ("br", lambda data: brotli.compress(data, quality=5))):
        load.put(f"/coded/{coding}.mp4", encode(film), fields=[("Content-Encoding", coding)])
        url = _film(load, coding, [_format(0, f"/coded/{coding}.mp4")])
        async with load.connection(_stream(url, method="relay")) as reader:
            await _some(reader, 1 << 30)


async def zstd_body(load: Load) -> None:
    load.put("/coded/zstd.mp4", bytes(1000), fields=[("Content-Encoding", "zstd")])
    await load.page(_film(load, "zstd", [_format(0, "/coded/zstd.mp4")]), 502, method="relay")


async def large_heads(load: Load) -> None:
    """A response with 90 additional fields of 600 bytes each, and one with 5,000 additional fields."""
    for count, statuses in ((90, (200,)), (5000, (502,))):
        fields = [(f"X-{number}", "v" * (600 if count == 90 else 2)) for number in range(count)]
        load.put(f"/heads/{count}.mp4", (ensure_media() / "clip.mp4").read_bytes(), fields=fields)
        await load.page(_film(load, f"heads{count}", [_format(0, f"/heads/{count}.mp4")]), *statuses, method="relay")


async def sample_segments(load: Load) -> None:
    """HLS with AES-128, HLS with separate audio, a live playlist and a file; the file also by two other methods."""
    for path in ("page/hls-aes", "page/hls-apart", "page/live/clock=real,speed=8", "page/prog"):
        async with load.connection(_stream(urljoin(load.origin.http, f"/{path}"))) as reader:
            await _some(reader, 3 << 20)
    for method in ("embedded", "subprocess"):
        await load.page(urljoin(load.origin.http, "/page/prog"), method=method)


async def dead_names(load: Load) -> None:
    """Playlists whose segments are at hosts that do not exist, and redirects to such hosts."""
    await load.page(urljoin(load.origin.http, "/hostile/dead-names.m3u8"), 502, 503, 504, method="relay")
    targets = [f"http://{'a' * 60}.{'b' * 60}-{number}.example/x.mp4" for number in range(20)]
    pages = [_film(load, f"dead{number}", [_format(0, target)]) for number, target in enumerate(targets)]
    await asyncio.gather(*(load.page(page, 502, 503, 504, method="relay") for page in pages))


# Requests


async def long_requests(load: Load) -> None:
    """Request heads at their limits, and beyond."""
    fields = "".join(f"X-{number}: {'v' * 500}\r\n" for number in range(90))
    await load.ask("/ready", 200, 431, fields=fields)
    await load.ask("/ready", 431, fields="".join(f"X-{number}: v\r\n" for number in range(8000)))
    await load.ask(f"/stream?url={quote('http://x.example/' + 'é' * 900)}&{'a=b&' * 3000}", 400, 414, 422, 502)
    await load.ask(f"/info?url=http://127.0.0.1/{'%25' * 1300}", 400, 403, 414, 422, 502)
    many = ",".join(f'"{number}"' for number in range(5000))
    await load.page(urljoin(load.origin.http, "/page/prog"), 200, 304, 431, fields=f"If-None-Match: {many}\r\n")
    ranges = ",".join(f"{number}-{number}" for number in range(5000))
    await load.page(urljoin(load.origin.http, "/page/prog"), 200, 206, 431, fields=f"Range: bytes={ranges}\r\n")
    selector = "/".join(f"bv[height<={number}]+ba" for number in range(100, 140))
    await load.page(urljoin(load.origin.http, "/page/prog"), 200, 400, 404, 422, format=selector)


async def own_documents(load: Load) -> None:
    for path in ("/openapi.json", "/docs", "/metrics", "/health", "/streams", "/robots.txt", "/ready", "/login"):
        await load.ask(path, 200, 405)


async def posts(load: Load) -> None:
    """Links, a login, and bodies at their limit."""
    json_type = "Content-Type: application/json\r\n"
    link = {"route": "stream", "url": urljoin(load.origin.http, "/page/prog"), "ttl": 600}
    made = await load.ask("/links", 200, 201, verb="POST", fields=json_type, body=json.dumps(link).encode())
    url = json.loads(made)["url"]
    await load.ask(url.removeprefix(f"http://{load.running.host}:{load.running.port}"))
    for body in (json.dumps({**link, "filename": "x" * 60_000}).encode(), b"[" * 60_000, b'{"a":1,' * 8000):
        await load.ask("/links", 200, 400, 414, 422, verb="POST", fields=json_type, body=body)
        await load.ask("/login", 400, 401, 413, verb="POST", fields=json_type, body=body[:4096])
    await load.ask("/login", 200, 204, verb="POST", fields=json_type, body=json.dumps({"key": KEY}).encode())
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    await load.ask("/login", 400, 401, verb="POST", fields=form, body=b"&".join([b"a=b"] * 1000))


def keys_file(count: int = KEYS) -> str:
    """Return a keys file with an admin key and `count` others."""
    others = (_key(f"k{number}", str(number)) for number in range(count))
    return "\n".join([_key("admin", KEY), "admin = true", *others])


def _key(name: str, secret: str) -> str:
    return f'[keys.{name}]\nsha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"'


async def many_keys(load: Load) -> None:
    """A keys file with 10,000 keys, which changes while a stream of its admin key runs."""
    fields = f"Authorization: Bearer {KEY}\r\n"
    page = urljoin(load.origin.http, "/page/fault/throttle=100000/prog.mp4")
    async with load.connection(_stream(page, method="relay"), fields=fields) as reader:
        await _some(reader, 1000)
        path = load.running.child.directory / KEYS_FILE
        for count in (KEYS, KEYS - 1):
            await asyncio.to_thread(path.write_text, keys_file(count))
            await asyncio.sleep(1.5)  # the server looks at the file at most once a second
            await load.ask("/ready", fields=fields)
            await load.page(urljoin(load.origin.http, "/page/prog"), method="relay", fields=fields)


async def many_streams(load: Load) -> None:
    """Requests for `/streams`, `/metrics` and `/health` while many streams run; then all streams end at once."""
    page = urljoin(load.origin.http, "/page/fault/throttle=20000/large-64.mp4")
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(stack.enter_async_context(load.connection(_stream(page, method="relay"))))
        for path in ("/streams", "/metrics", "/health"):
            await load.ask(path)


def _stream(url: str, **query: str) -> str:
    return f"/stream?{urlencode({'url': url, **query}, quote_via=quote)}"


INPUTS: Sequence[Input] = (
    Input("documents", "/openapi.json, /docs, /metrics, /health, /streams", own_documents),
    Input("posts", "links, logins, bodies at their limit", posts),
    Input("requests", "request heads and parameters at their limits", long_requests),
    Input("keys", "a keys file of 10,000 keys that changes", many_keys),
    Input("formats", "/info of 2,000 formats and 5,000 subtitles", many_formats),
    Input("pairs", "a page with 1,000 video and 1,000 audio tracks", many_pairs),
    Input("addresses", "an extraction of nearly 8 MiB", long_addresses),
    Input("entries", "/info of 1,000 entries", many_entries),
    Input("images", "/info of 1,000 images", many_images),
    Input("cookies", "19 redirects that set 1,000 cookies", many_cookies),
    Input("segments", "a playlist of 100,000 segments", long_playlist),
    Input("byte ranges", "a playlist of 100,000 byte ranges, with Range", ranged_playlist),
    Input("keys of segments", "a playlist of 70,000 segments with keys", keys_in_a_playlist),
    Input("tags", "a playlist of 8 MiB in long lines", many_tags),
    Input("variants", "a master playlist of 5,000 variants", many_variants),
    Input("manifest", "a DASH manifest of 2 × 40,000 segments", long_manifest),
    Input("merge", "a merge of 2 × 50,000 byte ranges", long_merge),
    Input("moov", "a woven pair of 2 × 1,000,000 samples", long_moov),
    Input("sidx", "a woven pair of 2 × 32,767 fragments", long_index),
    Input("codings", "gzip and br that decode to 69 MB", coded_bodies),
    Input("zstd", "an unknown content coding", zstd_body),
    Input("heads", "response heads at their limits", large_heads),
    Input("names", "host names that do not resolve", dead_names),
    Input("media", "HLS with AES-128, live HLS, separate audio, embedded, subprocess", sample_segments),
    Input("streams", "/streams, /metrics, /health while 250 streams run", many_streams),
)
