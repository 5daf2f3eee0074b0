"""Dailymotion: a token, GraphQL, the player's metadata; HLS of MPEG-TS. The signature of the media is a part of their
path."""

from __future__ import annotations

from typing import Any

from tests.replay.manifests import muxed
from tests.replay.messages import Request, Response, as_json
from tests.replay.site import Site, open_media

_TOKEN = "token-of-the-client"


class Dailymotion(Site):
    pages = {"dailymotion": "https://www.dailymotion.com/video/x89eyek"}  # noqa: RUF012
    hosts = (
        "www.dailymotion.com",
        "graphql.api.dailymotion.com",
        "cdndirector.dailymotion.com",
        "vod3.cf.dmcdn.net",
        "s1.dmcdn.net",
    )

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "graphql.api.dailymotion.com", ["oauth", "token"]:
                return as_json({"access_token": _TOKEN, "expires_in": 36000, "token_type": "Bearer"})
            case "graphql.api.dailymotion.com", _:
                if request.header("authorization") != f"Bearer {_TOKEN}":
                    return as_json({"error": "invalid_token"}, status=401)
                return as_json({"data": {"media": {"xid": "x89eyek", "description": "A ramp moves.", "stats": {}}}})
            case "www.dailymotion.com", ["player", "metadata", "video", number]:
                return as_json(self._metadata(number))
            case "cdndirector.dailymotion.com", _:
                media = f"https://vod3.cf.dmcdn.net/sec2({self.signature(request)})/video"
                return muxed(f"{media}/high.m3u8#cell=cf3", f"{media}/low.m3u8#cell=cf3")
            case "vod3.cf.dmcdn.net", [*_, name]:
                file = f"hls/ts/{name}"
                return self.media(request, file) if name.endswith(".ts") else open_media(request, file)
            case "s1.dmcdn.net", _:
                return open_media(request, "photo-1.jpg")
        return None

    def _metadata(self, number: str) -> dict[str, Any]:
        url = f"https://cdndirector.dailymotion.com/cdn/manifest/video/{number}.m3u8?sec={self.sign()}"
        return {
            "id": number,
            "title": "A film of ten seconds",
            "duration": 10,
            "owner": {"id": "x1", "screenname": "Somebody"},
            "qualities": {"auto": [{"type": "application/x-mpegURL", "url": url}]},
            "posters": {"720": "https://s1.dmcdn.net/v/a/x720"},
            "created_time": 1644000000,
        }
