"""TED: a page with the data of its player; HLS with audio apart in MPEG-TS, one progressive MP4, an MP3."""

from __future__ import annotations

import json

from tests.replay.manifests import pair
from tests.replay.messages import Request, Response, page
from tests.replay.site import Site, open_media


class Ted(Site):
    pages = {"ted": "https://www.ted.com/talks/somebody_a_talk_of_ten_seconds"}  # noqa: RUF012
    hosts = ("www.ted.com", "hls.ted.com", "py.tedcdn.com", "download.ted.com")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "www.ted.com", ["talks", _]:
                return page(_talk())
            case "hls.ted.com", [*_, "manifest.m3u8"]:
                return pair("audio/high.m3u8", "audio/low.m3u8", "audio/sound.m3u8", attributes=',LANGUAGE="en"')
            case "hls.ted.com", [*_, "audio", name]:
                return open_media(request, f"hls/audio/{name}")
            case "py.tedcdn.com", [*_, name]:
                return open_media(request, "prog-180.mp4" if name.endswith(".mp4") else "photo-1.jpg")
            case "download.ted.com", _:
                return open_media(request, "audio.mp3")
        return None


def _talk() -> str:
    stream = "https://hls.ted.com/project_masters/1/manifest.m3u8?intro_master_id=2"
    player = {
        "resources": {
            "hls": {"stream": stream, "metadata": ""},
            "h264": [{"bitrate": 1200, "file": "https://py.tedcdn.com/projects/1/products/2012z-1200k.mp4"}],
        },
        "thumb": "https://py.tedcdn.com/talk.jpg?w=1",
    }
    video = {
        "id": "25100",
        "title": "A talk of ten seconds",
        "presenterDisplayName": "Somebody",
        "duration": 10,
        "description": "A ramp moves.",
        "playerData": json.dumps(player),
        "audioDownload": "https://download.ted.com/talks/somebody.mp3?apikey=x",
    }
    data = json.dumps({"props": {"pageProps": {"videoData": video}}})
    return f'<html><script id="__NEXT_DATA__" type="application/json">{data}</script></html>'
