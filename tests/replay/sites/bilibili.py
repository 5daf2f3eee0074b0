"""Bilibili: a page with its state, keys for the signature of a request, then the addresses of DASH tracks as JSON. The
tracks are single files with signed addresses, and need a Referer. A video may have several parts."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.manifests import AUDIO, LOW_VIDEO, VIDEO
from tests.replay.messages import Request, Response, as_json, page, refusal
from tests.replay.site import Site, open_media, read

_CDN = "https://upos-sz-mirrorcos.bilivideo.com"
_KEYS = {
    "img_url": "https://i0.hdslb.com/bfs/wbi/7cd084941338484aae1ad9425b84077c.png",
    "sub_url": "https://i0.hdslb.com/bfs/wbi/4932caff0ff746eab6f01bf08b70ac45.png",
}
_FILES = {
    "1-1-100050.m4s": "video-sidx.mp4",
    "1-1-100022.m4s": "video-180-sidx.mp4",
    "1-1-30280.m4s": "audio-sidx.mp4",
}


class Bilibili(Site):
    pages = {  # noqa: RUF012
        "bilibili": "https://www.bilibili.com/video/BV13x41117TL",
        "bilibili-parts": "https://www.bilibili.com/video/BV1PARTS123",
    }
    hosts = ("www.bilibili.com", "api.bilibili.com", "upos-sz-mirrorcos.bilivideo.com", "i0.hdslb.com")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "www.bilibili.com", ["video", number, *_]:
                state = json.dumps({"videoData": _video(number), "upData": {"name": "Somebody"}, "tags": []})
                html = f"<html><script>window.__INITIAL_STATE__={state};(function(){{}})();</script></html>"
                return page(html, cookies=("buvid3=abc; Domain=.bilibili.com; Path=/",))
            case "api.bilibili.com", [*_, "pagelist"]:
                return as_json({"code": 0, "data": _parts(request.query["bvid"])})
            case "api.bilibili.com", [*_, "nav"]:
                return as_json({"code": -101, "data": {"isLogin": False, "wbi_img": _KEYS}})
            case "api.bilibili.com", [*_, "wbi", "playurl"]:
                return as_json(self._addresses(request))
            case "api.bilibili.com", [*_, "wbi", "v2"]:
                return as_json({"code": 0, "data": {"view_points": [], "subtitle": {"subtitles": []}}})
            case "upos-sz-mirrorcos.bilivideo.com", [*_, name]:
                if "bilibili.com" not in request.header("referer"):
                    return refusal(403)
                return self.media(request, _FILES[name], "video/mp4")
            case "i0.hdslb.com", _:
                return open_media(request, "photo-1.jpg")
        return None

    def _addresses(self, request: Request) -> dict[str, Any]:
        if "w_rid" not in request.query or not request.header("referer"):
            return {"code": -403, "message": "access denied"}
        query = f"deadline=1998761600&gen=playurlv2&upsig={self.sign()}"
        high, low, sound = (_track(name, query) for name in _FILES)
        wide = {"id": 80, "codecs": VIDEO, "width": 1920, "height": 1080, "mimeType": "video/mp4", "frameRate": "25"}
        small = {**wide, "id": 32, "codecs": LOW_VIDEO, "width": 852, "height": 480}
        audio = {"id": 30280, "codecs": AUDIO, "mimeType": "audio/mp4"}
        dash = {"duration": 10, "video": [high | wide, low | small], "audio": [sound | audio]}
        return {"code": 0, "data": {"quality": 80, "timelength": 10000, "support_formats": [], "dash": dash}}


def _track(name: str, query: str) -> dict[str, Any]:
    return {"baseUrl": f"{_CDN}/upgcxcode/01/{name}?{query}", "bandwidth": len(read(_FILES[name])) * 8 // 10}


def _parts(number: str) -> list[dict[str, Any]]:
    count = 2 if "PARTS" in number else 1
    return [{"cid": 100 + part, "page": part, "part": f"part {part}"} for part in range(1, count + 1)]


def _video(number: str) -> dict[str, Any]:
    return {
        "bvid": number,
        "aid": 8903802,
        "cid": 101,
        "title": "A film of ten seconds",
        "desc": "A ramp moves.",
        "pic": "http://i0.hdslb.com/a.jpg",
        "pages": _parts(number),
        "rights": {"is_stein_gate": 0},
    }
