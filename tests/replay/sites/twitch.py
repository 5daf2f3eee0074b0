"""Twitch: GraphQL with tokens for the media. Recorded and live broadcasts are HLS of MPEG-TS, whose master playlist
states the qualities as groups of video; clips are progressive MP4s with a token in their query."""

from __future__ import annotations

from collections import Counter
from typing import Any

from serverpy.sample.hls import SEGMENTS
from tests.replay.manifests import AUDIO, LOW_VIDEO, VIDEO
from tests.replay.messages import PLAYLIST, Request, Response, as_json
from tests.replay.site import Site, open_media

_QUALITIES = (
    ("chunked", "1080p60 (source)", ",RESOLUTION=1920x1080,FRAME-RATE=60.000", f"{VIDEO},{AUDIO}", 5_400_000, "high"),
    ("360p30", "360p", ",RESOLUTION=640x360,FRAME-RATE=30.000", f"{LOW_VIDEO},{AUDIO}", 1_200_000, "low"),
    ("audio_only", "audio_only", "", AUDIO, 160_000, "sound"),
)
_LIVE = "https://video-weaver.fra02.hls.ttvnw.net"
_PLAYLISTS = {"high": "hls/ts/high.m3u8", "low": "hls/ts/low.m3u8", "sound": "hls/audio/sound.m3u8"}


class Twitch(Site):
    pages = {  # noqa: RUF012
        "twitch": "https://www.twitch.tv/videos/6528877",
        "twitch-clip": "https://clips.twitch.tv/FaintLightGullWholeWheat",
        "twitch-collection": "https://www.twitch.tv/collections/wlDCoH0zEBZZbQ",
        "twitch-live": "https://www.twitch.tv/somebody",
    }
    hosts = (
        "gql.twitch.tv",
        "video-weaver.fra02.hls.ttvnw.net",
        "usher.ttvnw.net",
        "d2nvs31859zcd8.cloudfront.net",
        "production.assets.clips.twitchcdn.net",
        "static-cdn.jtvnw.net",
    )

    def __init__(self) -> None:
        super().__init__()
        self._reloads = Counter[tuple[str, str]]()
        """Number of requests for the playlist of each quality of each live broadcast."""

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "gql.twitch.tv", _:
                return as_json(self._graphql(request.json()))
            case "usher.ttvnw.net", ["api", *_]:
                return self.refused(request) or _master(f"{_LIVE}/{self.signature(request)}")
            case "video-weaver.fra02.hls.ttvnw.net", [broadcast, quality, "index.m3u8"]:
                self._reloads[broadcast, quality] += 1
                return _live_playlist(quality, is_over=self._reloads[broadcast, quality] > 1)
            case "video-weaver.fra02.hls.ttvnw.net", [_, quality, name]:
                return open_media(request, f"hls/{'audio' if quality == 'sound' else 'ts'}/{name}")
            case "usher.ttvnw.net", _:
                return self.refused(request) or _master("https://d2nvs31859zcd8.cloudfront.net")
            case "d2nvs31859zcd8.cloudfront.net", [quality, "index.m3u8"]:
                return open_media(request, _PLAYLISTS[quality])
            case "d2nvs31859zcd8.cloudfront.net", [quality, name]:
                return open_media(request, f"hls/{'audio' if quality == 'sound' else 'ts'}/{name}")
            case "production.assets.clips.twitchcdn.net", [*_, name]:
                return self.media(request, "prog.mp4" if name == "1080.mp4" else "prog-180.mp4")
            case "static-cdn.jtvnw.net", _:
                return open_media(request, "photo-1.jpg")
        return None

    def _graphql(self, asked: Any) -> Any:
        if isinstance(asked, dict):
            names = ("videoPlaybackAccessToken", "streamPlaybackAccessToken")
            return {"data": {name: self._token() for name in names if name in asked["query"]}}
        return [{"data": self._data(operation["operationName"])} for operation in asked]

    def _token(self) -> dict[str, str]:
        return {"value": '{"expires":1998761600}', "signature": self.sign()}

    def _data(self, operation: str) -> Any:
        match operation:
            case "StreamMetadata":
                return {
                    "user": {"id": "1", "stream": {"id": "40", "type": "live", "createdAt": "2026-07-01T00:00:00Z"}}
                }
            case "ComscoreStreamingQuery":
                return {"user": {"displayName": "Somebody", "broadcastSettings": {"title": "A broadcast"}}}
            case "VideoMetadata":
                return {"video": _VIDEO}
            case "CollectionSideBar":
                return {"collection": _COLLECTION}
            case "ShareClipRenderStatus":
                return {"clip": {**_CLIP, "playbackAccessToken": self._token()}}
        return None


def _live_playlist(quality: str, *, is_over: bool) -> Response:
    """Return the playlist of a broadcast: its first three segments, then all of them and the end."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
    for number in range(SEGMENTS if is_over else 3):
        lines += ["#EXTINF:2.000,live", f"{quality}-{number}.ts"]
    return Response("\n".join([*lines, *["#EXT-X-ENDLIST"] * is_over, ""]).encode(), content_type=PLAYLIST)


def _master(host: str) -> Response:
    lines = ["#EXTM3U", '#EXT-X-TWITCH-INFO:ORIGIN="s3"']
    for group, name, size, codecs, bandwidth, folder in _QUALITIES:
        lines += [
            f'#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="{group}",NAME="{name}",AUTOSELECT=YES,DEFAULT=YES',
            f'#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}{size},CODECS="{codecs}",VIDEO="{group}"',
            f"{host}/{folder}/index.m3u8",
        ]
    return Response("\n".join([*lines, ""]).encode(), content_type=PLAYLIST)


_VIDEO = {
    "id": "6528877",
    "title": "A film of ten seconds",
    "lengthSeconds": 10,
    "publishedAt": "2026-06-24T00:00:00Z",
    "owner": {"displayName": "Somebody", "login": "somebody"},
    "previewThumbnailURL": "https://static-cdn.jtvnw.net/a-320x180.jpg",
}
_ITEM = {**_VIDEO, "title": "The title in the collection", "lengthSeconds": 9}
_COLLECTION = {"title": "A collection", "items": {"edges": [{"node": _ITEM}]}}
_CLIP = {
    "id": "396245304",
    "title": "A film of ten seconds",
    "durationSeconds": 10,
    "createdAt": "2026-06-12T20:00:00Z",
    "thumbnailURL": "https://static-cdn.jtvnw.net/t.jpg",
    "assets": [
        {
            "aspectRatio": 1.77,
            "videoQualities": [
                {
                    "frameRate": 25,
                    "quality": height,
                    "sourceURL": f"https://production.assets.clips.twitchcdn.net/v2/media/{height}.mp4",
                }
                for height in ("1080", "360")
            ],
        }
    ],
    "broadcaster": {"displayName": "Somebody", "id": "2"},
    "curator": {"displayName": "Somebody", "id": "3"},
}
