"""Vimeo: the player's page with its configuration, HLS with audio apart in fragmented MP4, DASH of template segments.
The signature of the media is a part of their path. The page refuses requests without the header `sec-ch-ua`. The header
stands for the fingerprint of the TLS handshake of a browser, because this site cannot check fingerprints."""

from __future__ import annotations

import json
from typing import Any

from serverpy.sample.make import LOW
from tests.replay.manifests import manifest, pair
from tests.replay.messages import Request, Response, as_json, page, refusal
from tests.replay.site import Site, open_media, read

_CDN = "https://vod-adaptive-ak.vimeocdn.com"


class Vimeo(Site):
    pages = {"vimeo": "https://player.vimeo.com/video/54469442"}  # noqa: RUF012
    hosts = ("vimeo.com", "player.vimeo.com", "vod-adaptive-ak.vimeocdn.com", "i.vimeocdn.com")
    stale_status = 410

    def answer(self, request: Request) -> Response | None:
        match request.host:
            case "player.vimeo.com":
                return self._player(request)
            case "vod-adaptive-ak.vimeocdn.com":
                return self._media(request)
            case "i.vimeocdn.com":
                return open_media(request, "photo-1.jpg")
        return as_json({"jwt": "x"}) if request.path == "/_next/viewer" else None

    def _player(self, request: Request) -> Response | None:
        if not request.path.startswith("/video/"):
            return None
        if "sec-ch-ua" not in request.headers:
            return refusal(403)
        config = json.dumps(self._config(int(request.name)))
        return page(f"<html><script>window.playerConfig = {config}</script></html>", cookies=("__cf_bm=z; Path=/",))

    def _config(self, number: int) -> dict[str, Any]:
        signed = f"{_CDN}/exp=1998761600~acl=*~hmac={self.sign()}"
        cdns = {name: {"cdns": {"ak": {"url": f"{signed}/{path}"}}} for name, path in _MANIFESTS.items()}
        video = {
            "id": number,
            "title": "A film of ten seconds",
            "duration": 10,
            "width": 1920,
            "height": 1080,
            "owner": {"name": "Somebody", "url": "https://vimeo.com/somebody"},
            "thumbs": {"640": "https://i.vimeocdn.com/640.jpg"},
            "live_event": None,
        }
        return {"request": {"files": cdns, "text_tracks": []}, "video": video, "view": 1}

    def _media(self, request: Request) -> Response:
        match request.path.split("/")[2:]:
            case ["hls", "playlist.m3u8"]:
                return self.refused(request) or pair(
                    "high.m3u8", "low.m3u8", "en.m3u8", group="audio-high", attributes=',CHANNELS="2"'
                )
            case ["hls", name] if name.endswith(".m3u8"):
                return self.refused(request) or open_media(request, f"hls/apart/{name}")
            case ["hls", name]:
                return self.media(request, f"hls/apart/{name}")
            case ["sep", "video", "master.mpd"]:
                return self.refused(request) or manifest(_dash())
            case ["sep", "video", name]:
                return self.media(request, f"dash/{name}")
        return refusal(404)


_MANIFESTS = {"hls": "hls/playlist.m3u8?query_string_ranges=1", "dash": "sep/video/master.mpd"}


def _dash() -> str:
    text = read("dash/manifest.mpd").decode()
    text = text.replace('width="640" height="360"', 'width="1920" height="1080"')
    return text.replace(f'width="{LOW[0]}" height="{LOW[1]}"', 'width="640" height="360"')
