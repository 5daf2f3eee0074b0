"""Instagram: a page that sets the session's tokens, then the post by GraphQL. A video states its DASH manifest of
signed single files inside the JSON; a carousel mixes pictures and videos."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.manifests import AUDIO, VIDEO, Representation, on_demand
from tests.replay.messages import Request, Response, as_json, page
from tests.replay.site import Site, open_media

_CDN = "https://scontent.cdninstagram.com"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_FILES = {"video.mp4": "video-sidx.mp4", "audio.mp4": "audio-sidx.mp4", "low.mp4": "prog-180.mp4"}


class Instagram(Site):
    pages = {  # noqa: RUF012
        "instagram": "https://www.instagram.com/p/CzzVIDEO1/",
        "instagram-carousel": "https://www.instagram.com/p/CzzCAROUS/",
    }
    hosts = ("www.instagram.com", "scontent.cdninstagram.com")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "www.instagram.com", [""]:
                cookies = ("csrftoken=cs1; Domain=.instagram.com; Path=/; Secure",)
                data = json.dumps({"u": "/", "l": "lsd1"})
                script = f'<script type="application/json" id="__eqmc">{data}</script>'
                return page(f"<html>{script}</html>", cookies=cookies)
            case "www.instagram.com", [*_, "get_ruling_for_content", ""]:
                return as_json({"status": "ok", "description": "", "title": ""})
            case "www.instagram.com", ["api", "graphql"]:
                return as_json({"data": self._post(request)})
            case "scontent.cdninstagram.com", [*_, name] if name in _FILES:
                return self.media(request, _FILES[name])
            case "scontent.cdninstagram.com", _:
                return open_media(request, "photo-1.jpg")
        return None

    def _post(self, request: Request) -> dict[str, Any] | None:
        if request.header("x-fb-lsd") != "lsd1" or request.header("x-csrftoken") != "cs1":
            return None
        number = json.loads(request.form["variables"])["media_id"]
        head = {"pk": number, "user": {"username": "somebody", "full_name": "Somebody", "pk": "1"}}
        if number == _number("CzzVIDEO1"):
            post = self._video(1, dash=True)
        else:
            post = {"carousel_media": [_picture(1), self._video(2, dash=False), _picture(3)]}
        return {"xig_polaris_media": {"if_not_gated_logged_out": {**post, **head}}}

    def _video(self, index: int, *, dash: bool) -> dict[str, Any]:
        query = f"oh={self.sign()}&oe=77000000"
        low = {"type": 101, "url": f"{_CDN}/o1/v/low.mp4?{query}", "width": 720, "height": 1280}
        more = {"video_dash_manifest": _dash(query)} if dash else {}
        return {**_picture(index), "video_versions": [low], "video_duration": 10.0, "has_audio": True, **more}


def _number(code: str) -> str:
    """Return the number of a post, of which the code in its URL is the form in base 64."""
    number = 0
    for character in code:
        number = number * 64 + _ALPHABET.index(character)
    return str(number)


def _picture(index: int) -> dict[str, Any]:
    picture = {"url": f"{_CDN}/p{index}.jpg?oe=1", "width": 640, "height": 640}
    return {"pk": str(3_000_000_000_000_000_000 + index), "image_versions2": {"candidates": [picture]}}


def _dash(query: str) -> str:
    escaped = query.replace("&", "&amp;")
    high = f'bandwidth="4200000" codecs="{VIDEO}" width="1080" height="1920" mimeType="video/mp4" frameRate="25"'
    sound = f'bandwidth="130000" codecs="{AUDIO}" mimeType="audio/mp4" audioSamplingRate="48000"'
    video, audio = (
        Representation(key, f"{_CDN}/o1/v/{name}?{escaped}", _FILES[name], fields)
        for key, name, fields in (("1v", "video.mp4", high), ("2a", "audio.mp4", sound))
    )
    return on_demand(("video", (video,)), ("audio", (audio,)))
