"""Reddit: a session cookie, then the post as JSON; v.redd.it with HLS of byte ranges, DASH of single files, and a
fallback MP4 without audio."""

from __future__ import annotations

from typing import Any

from tests.replay.manifests import AUDIO, LOW_VIDEO, VIDEO, Representation, manifest, on_demand, pair
from tests.replay.messages import Request, Response, as_json, page, refusal
from tests.replay.site import Site, open_media
from tests.replay.sites.vimeo import Vimeo

_FILES = {
    "CMAF_1080.mp4": "video-sidx.mp4",
    "CMAF_360.mp4": "video-180-sidx.mp4",
    "CMAF_AUDIO_128.mp4": "audio-sidx.mp4",
}


class Reddit(Site):
    pages = {  # noqa: RUF012
        "reddit": "https://www.reddit.com/r/films/comments/124pp33/a_film_of_ten_seconds/",
        "reddit-link": "https://www.reddit.com/r/films/comments/124pp34/a_film_of_another_site/",
    }
    hosts = ("www.reddit.com", "old.reddit.com", "v.redd.it", "external-preview.redd.it")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "old.reddit.com", [""]:
                return page("<html></html>", cookies=("loid=0000; Domain=.reddit.com; Path=/; Secure",))
            case "www.reddit.com", ["r", _, "comments", number, *_, ".json"]:
                post = _link() if number == "124pp34" else _post()
                return as_json(_listing(post)) if request.cookie("loid") else refusal(403)
            case "v.redd.it", [_, "HLSPlaylist.m3u8"]:
                return pair("hls/high.m3u8", "hls/low.m3u8", "hls/en.m3u8", group="5")
            case "v.redd.it", [_, "hls", name]:
                return open_media(request, f"hls/apart-byterange/{name}")
            case "v.redd.it", [_, "DASHPlaylist.mpd"]:
                return manifest(_dash())
            case "v.redd.it", [_, name] if name in _FILES:
                return open_media(request, _FILES[name])
            case "external-preview.redd.it", _:
                return open_media(request, "photo-1.jpg")
        return None


def _listing(post: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"kind": "Listing", "data": {"children": [{"kind": "t3", "data": post}]}}]


def _link() -> dict[str, Any]:
    """Return a post that links to a page of another site."""
    return {"id": "124pp34", "title": "A link", "author": "somebody", "url": Vimeo.pages["vimeo"], "over_18": False}


def _post() -> dict[str, Any]:
    host, query = "https://v.redd.it/h3vid0redd1t", "a=1998761600%2Cabc&amp;v=1&amp;f=sd"
    video = {
        "bitrate_kbps": 5000,
        "fallback_url": f"{host}/CMAF_1080.mp4?source=fallback",
        "has_audio": True,
        "height": 1080,
        "width": 1920,
        "dash_url": f"{host}/DASHPlaylist.mpd?{query}",
        "hls_url": f"{host}/HLSPlaylist.m3u8?{query}",
        "duration": 10,
    }
    return {
        "id": "124pp33",
        "title": "A film of ten seconds",
        "subreddit": "films",
        "author": "somebody",
        "url": host,
        "over_18": False,
        "secure_media": {"reddit_video": video},
        "preview": {"images": [{"source": {"url": "https://external-preview.redd.it/p.jpg?s=1"}, "resolutions": []}]},
        "selftext": "",
    }


def _dash() -> str:
    video = 'mimeType="video/mp4" frameRate="25"'
    audio = 'mimeType="audio/mp4" audioSamplingRate="48000"'
    high = f'bandwidth="5000000" codecs="{VIDEO}" height="1080" width="1920" {video}'
    low = f'bandwidth="800000" codecs="{LOW_VIDEO}" height="360" width="640" {video}'
    sound = f'bandwidth="130000" codecs="{AUDIO}" {audio}'
    names = zip("123", _FILES, (high, low, sound), strict=True)
    first, second, third = (Representation(key, name, _FILES[name], fields) for key, name, fields in names)
    return on_demand(("video", (first, second)), ("audio", (third,)))
