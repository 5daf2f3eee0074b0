"""TikTok: a page that contains the data of the video and sets a cookie. The media need that cookie and a Referer, and
their addresses are signed. Portrait video: 1080p in HEVC, 576p in H.264."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.replay.messages import Request, Response, page, refusal
from tests.replay.site import Site, open_media, read

_CHAIN = "tt_chain_token"
_FILES = {"high": "prog.mp4", "low": "prog-180.mp4"}


class TikTok(Site):
    pages = {"tiktok": "https://www.tiktok.com/@somebody/video/6984138651336838402"}  # noqa: RUF012
    hosts = ("www.tiktok.com", "v16-webapp-prime.tiktok.com", "p16-sign.tiktokcdn.com")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "www.tiktok.com", [_, "video", number]:
                cookies = (f"{_CHAIN}=abc; Domain=.tiktok.com; Path=/; Secure; HttpOnly",)
                return page(_html(self._item(number)), cookies=cookies)
            case "v16-webapp-prime.tiktok.com", ["video", "tos", name, ""]:
                if request.cookie(_CHAIN) != "abc" or not request.header("referer").startswith(self.pages["tiktok"]):
                    return refusal(403, "Access Denied")
                return self.media(request, _FILES[name], "video/mp4")
            case "p16-sign.tiktokcdn.com", _:
                return open_media(request, "photo-1.jpg")
        return None

    def _item(self, number: str) -> dict[str, Any]:
        query = f"a=1988&expire={int(time.time()) + 86400}&signature={self.sign()}&tk={_CHAIN}"
        urls = {name: f"https://v16-webapp-prime.tiktok.com/video/tos/{name}/?{query}" for name in _FILES}
        video = {
            "id": number,
            "width": 576,
            "height": 1024,
            "duration": 10,
            "ratio": "540p",
            "cover": "https://p16-sign.tiktokcdn.com/c.jpg",
            "playAddr": urls["low"],
            "format": "mp4",
            "bitrateInfo": [
                _quality("normal_540_0", "v0900_h264_540p_900000", urls["low"], "low"),
                _quality("adapt_1080_1", "v0900_bytevc1_1080p_4200000", urls["high"], "high"),
            ],
        }
        return {
            "id": number,
            "desc": "A film of ten seconds",
            "createTime": 1626121503,
            "author": {"id": "6974", "uniqueId": "somebody", "nickname": "Somebody", "secUid": "MS4w"},
            "stats": {"playCount": 1},
            "video": video,
        }


def _quality(gear: str, key: str, url: str, name: str) -> dict[str, Any]:
    address = {"UrlList": [url, url], "DataSize": len(read(_FILES[name])), "UrlKey": key}
    return {"GearName": gear, "PlayAddr": address}


def _html(item: dict[str, Any]) -> str:
    detail = {"webapp.video-detail": {"statusCode": 0, "itemInfo": {"itemStruct": item}}}
    data = json.dumps({"__DEFAULT_SCOPE__": detail})
    return f'<html><script id="__UNIVERSAL_DATA_FOR_REHYDRATION__" type="application/json">{data}</script></html>'
