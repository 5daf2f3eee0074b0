"""A yt-dlp plugin for the invented site that `serverpy.sample` serves on loopback, for tests and demonstrations.
Processes that load yt-dlp find the plugin if `serverpy.sample.PLUGIN_PATH` is on their PYTHONPATH.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError, OnDemandPagedList

PAGE_ITEMS = 10

Info = dict[str, Any]


class SampleTubeIE(InfoExtractor):  # type: ignore[misc]  # yt-dlp is untyped
    IE_NAME = "SampleTube"
    IE_DESC = "The sample site of ServerPY"
    _VALID_URL = (
        r"https?://(?:127\.0\.0\.1|localhost)(?::\d+)?"
        r"/tube/(?P<kind>watch|playlist|post|live|audio)/(?P<id>(?:fault/[^/?#]+/)?[\w,=.-]+)"
    )

    def _real_extract(self, url: str) -> Info:
        kind, name = self._match_valid_url(url).group("kind", "id")
        # The response to the page also sets the session cookie that the media server requires.
        self._download_webpage(url, name)
        if kind == "playlist":
            return self._playlist(url, name)
        data = self._ask(url, kind, name)
        self._raise_for(data)
        if kind == "post":
            return self._post(url, data)
        if kind == "live":
            return self._live(url, data)
        return self._film(url, data)

    def _ask(self, url: str, kind: str, name: str, **query: Any) -> Info:
        data: Info = self._download_json(urljoin(url, f"/tube/api/{kind}/{name}"), name, query=query)
        return data

    def _raise_for(self, data: Info) -> None:
        error = data.get("error")
        if error == "geo":
            self.raise_geo_restricted(countries=["AQ"])
        if error == "login":
            self.raise_login_required()
        if error:
            raise ExtractorError("Video unavailable", expected=True)

    def _film(self, url: str, data: Info) -> Info:
        # A video without a title raises KeyError: an example of a failure that an extractor does not expect.
        title = data["title"]
        return {
            "id": data["id"],
            "title": title,
            "uploader": data["uploader"],
            "duration": data["duration"],
            "thumbnail": urljoin(url, data["thumbnail"]),
            "formats": [entry for described in data["formats"] for entry in self._formats(url, data, described)],
            "subtitles": _tracks(url, data["subtitles"]),
            "automatic_captions": _tracks(url, data["captions"]),
        }

    def _formats(self, url: str, data: Info, described: Info) -> list[Info]:
        address = urljoin(url, described["path"])
        headers = {"X-Tube-Token": data["token"]}
        if described["protocol"] in ("hls", "dash"):
            return self._segmented(address, data["id"], described, headers)
        entry: Info = {
            "format_id": described["id"],
            "url": address,
            "ext": described["ext"],
            "width": described["width"],
            "height": described["height"],
            "vcodec": described["vcodec"],
            "acodec": described["acodec"],
            "filesize": described["bytes"],
            "http_headers": headers,
        }
        if "chunk_bytes" in described:
            entry |= {"downloader_options": {"http_chunk_size": described["chunk_bytes"]}, "quality": -1}
        if "post_body" in described:
            entry["request_data"] = described["post_body"].encode()
        if "container" in described:
            entry["container"] = described["container"]
        if described.get("drm"):
            entry["has_drm"] = True
        if "available_at" in data:
            entry["available_at"] = data["available_at"]
        return [entry]

    def _segmented(self, address: str, name: str, described: Info, headers: dict[str, str]) -> list[Info]:
        if described["protocol"] == "hls":
            formats: list[Info] = self._extract_m3u8_formats(address, name, "mp4", m3u8_id="hls", headers=headers)
        else:
            formats = self._extract_mpd_formats(address, name, mpd_id="dash", headers=headers)
        return [{**entry, "http_headers": headers, **described.get("fields", {})} for entry in formats]

    def _playlist(self, url: str, name: str) -> Info:
        first = self._ask(url, "playlist", name, page=1)
        self._raise_for(first)

        def page(number: int) -> list[Info]:
            data = self._ask(url, "playlist", name, page=number + 1) if number else first
            return [self._item(urljoin(url, item["path"]), item) for item in data["items"]]

        entries = OnDemandPagedList(page, PAGE_ITEMS)
        result: Info = self.playlist_result(entries, name, first["title"], playlist_count=first["count"])
        return result

    def _item(self, url: str, item: Info) -> Info:
        own = f"sampletube:{url.partition('://')[2]}"
        kind, address = (SampleTubeOwnIE, own) if item.get("own") else (SampleTubeIE, url)
        found: Info = self.url_result(
            address,
            None if item.get("keyless") else kind,
            item["id"],
            item["title"],
            url_transparent=item.get("transparent", False),
            **item.get("fields", {}),
        )
        return found

    def _post(self, url: str, data: Info) -> Info:
        headers = {"X-Tube-Token": data["token"]}
        images = [
            {
                "id": f"{data['id']}-{number}",
                "title": f"{data['title']} #{number}",
                "formats": [
                    {
                        "format_id": "image",
                        "url": urljoin(url, image["path"]),
                        "ext": "jpg",
                        "width": image["width"],
                        "height": image["height"],
                        "vcodec": "none",
                        "acodec": "none",
                        "http_headers": headers,
                    }
                ],
            }
            for number, image in enumerate(data["images"], start=1)
        ]
        result: Info = self.playlist_result([*images, *_music(url, data)], data["id"], data["title"])
        return result

    def _live(self, url: str, data: Info) -> Info:
        headers = {"X-Tube-Token": data["token"]}
        address = urljoin(url, data["path"])
        formats = self._extract_m3u8_formats(address, data["id"], "mp4", m3u8_id="live", live=True, headers=headers)
        return {
            "id": data["id"],
            "title": data["title"],
            "uploader": data["uploader"],
            "is_live": True,
            "formats": [{**entry, "http_headers": headers} for entry in formats],
        }


class SampleTubeOwnIE(InfoExtractor):  # type: ignore[misc]  # yt-dlp is untyped
    """An extractor for videos at addresses that only yt-dlp knows (`sampletube:…`). Only the result of another
    extractor contains such an address."""

    IE_NAME = "SampleTube:own"
    _VALID_URL = r"sampletube:(?P<id>.+)"

    def _real_extract(self, url: str) -> Info:
        found: Info = self.url_result(f"http://{self._match_id(url)}", SampleTubeIE)
        return found


def _tracks(url: str, paths: dict[str, str]) -> dict[str, list[Info]]:
    return {language: [{"url": urljoin(url, path), "ext": "vtt"}] for language, path in paths.items()}


def _music(url: str, data: Info) -> list[Info]:
    if not data["music"]:
        return []
    audio = {
        "format_id": "music",
        "url": urljoin(url, data["music"]),
        "ext": "m4a",
        "vcodec": "none",
        "acodec": "mp4a.40.2",
        "http_headers": {"X-Tube-Token": data["token"]},
    }
    return [{"id": f"{data['id']}-music", "title": f"{data['title']} (music)", "formats": [audio]}]
