"""X: a guest token, then the post by GraphQL; HLS with audio apart in fragmented MP4, and progressive MP4s of lower
quality."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.manifests import pair
from tests.replay.messages import Request, Response, as_json
from tests.replay.site import Site, open_media

_GUEST = "1234"
_MEDIA = "https://video.twimg.com/ext_tw_video/{}/pu"


class X(Site):
    pages = {  # noqa: RUF012
        "x": "https://x.com/somebody/status/1577855540407197696",
        "x-two": "https://x.com/somebody/status/1577855540407197666",
    }
    hosts = ("x.com", "api.x.com", "video.twimg.com", "pbs.twimg.com")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "api.x.com", [*_, "activate.json"]:
                return as_json({"guest_token": _GUEST})
            case "x.com", ["i", "api", "graphql", *_]:
                if request.header("x-guest-token") != _GUEST:
                    return as_json({"errors": [{"message": "Forbidden."}]}, status=403)
                return as_json({"data": {"tweetResult": {"result": _post(_number(request))}}})
            case "video.twimg.com", [*_, "pl", "master.m3u8"]:
                return pair("apart/high.m3u8", "apart/low.m3u8", "apart/en.m3u8", group="audio-128000")
            case "video.twimg.com", [*_, "apart", name]:
                return open_media(request, f"hls/apart/{name}")
            case "video.twimg.com", [*_, "1280x720", _]:
                return open_media(request, "prog.mp4")
            case "video.twimg.com", [*_, "480x270", _]:
                return open_media(request, "prog-180.mp4")
            case "pbs.twimg.com", _:
                return open_media(request, "photo-1.jpg")
        return None


def _number(request: Request) -> str:
    return str(json.loads(request.query["variables"])["tweetId"])


def _post(number: str) -> dict[str, Any]:
    videos = [_video(1577719286659006464 + index) for index in range(2 if number.endswith("666") else 1)]
    legacy = {
        "full_text": "A film of ten seconds https://t.co/x",
        "created_at": "Tue Oct 04 00:00:00 +0000 2022",
        "user_id_str": "3",
        "id_str": number,
        "entities": {"hashtags": []},
        "extended_entities": {"media": videos},
    }
    user = {"__typename": "User", "legacy": {"name": "Somebody", "screen_name": "somebody"}}
    return {"__typename": "Tweet", "rest_id": number, "core": {"user_results": {"result": user}}, "legacy": legacy}


def _video(number: int) -> dict[str, Any]:
    media = _MEDIA.format(number)
    variants = [
        {"content_type": "application/x-mpegURL", "url": f"{media}/pl/master.m3u8?tag=12&container=cmaf"},
        {"bitrate": 256000, "content_type": "video/mp4", "url": f"{media}/vid/avc1/480x270/a.mp4?tag=12"},
        {"bitrate": 2176000, "content_type": "video/mp4", "url": f"{media}/vid/avc1/1280x720/b.mp4?tag=12"},
    ]
    return {
        "id_str": str(number),
        "type": "video",
        "media_url_https": "https://pbs.twimg.com/ext_tw_video_thumb/1/pu/img/a.jpg",
        "sizes": {"large": {"w": 1280, "h": 720}},
        "original_info": {"width": 1920, "height": 1080},
        "expanded_url": "https://x.com/somebody/status/1/video/1",
        "video_info": {"aspect_ratio": [16, 9], "duration_millis": 10000, "variants": variants},
    }
