"""ARTE: a JSON configuration with two versions of the film; HLS with audio apart in fragmented MP4."""

from __future__ import annotations

from typing import Any

from tests.replay.manifests import pair
from tests.replay.messages import Request, Response, as_json
from tests.replay.site import Site, open_media

_VERSIONS = {"VO-STF": ("ogsub", "French subtitles"), "VOEU": ("ov", "Original")}
"""Maps the code of each version (original language, with French subtitles or without) to its short and long label."""


class Arte(Site):
    pages = {"arte": "https://www.arte.tv/en/videos/100103-000-A/a-film-of-ten-seconds/"}  # noqa: RUF012
    hosts = ("www.arte.tv", "api.arte.tv", "arte-cmafhls.akamaized.net")

    def answer(self, request: Request) -> Response | None:
        match request.host, request.path.split("/")[1:]:
            case "api.arte.tv", ["api", "player", "v2", "config", language, number]:
                return as_json({"data": {"type": "ConfigPlayer", "attributes": _attributes(number, language)}})
            case "arte-cmafhls.akamaized.net", [*_, "master.m3u8"]:
                return pair("high.m3u8", "low.m3u8", "en.m3u8", attributes=',LANGUAGE="en"')
            case "arte-cmafhls.akamaized.net", [*_, name]:
                return open_media(request, f"hls/apart/{name}")
        return None


def _attributes(number: str, language: str) -> dict[str, Any]:
    streams = [
        {
            "url": f"https://arte-cmafhls.akamaized.net/am/cmaf/{number}_{code}/master.m3u8",
            "versions": [{"label": label, "shortLabel": short, "eStat": {"ml5": code}}],
            "protocol": "HLS_NG",
            "segments": [],
        }
        for code, (short, label) in _VERSIONS.items()
    ]
    return {
        "provider": "ARTE",
        "metadata": {
            "providerId": number,
            "language": language,
            "title": "A film of ten seconds",
            "subtitle": None,
            "description": "A ramp moves.",
            "images": [],
            "duration": {"seconds": 10},
        },
        "live": False,
        "rights": {"begin": "2020-01-01T00:00:00Z", "end": "2040-01-01T00:00:00Z"},
        "restriction": {"geoblocking": {"code": "ALL", "restrictedArea": False}},
        "streams": streams,
        "chapters": None,
    }
