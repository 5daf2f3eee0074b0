"""A podcast: an RSS feed whose enclosures are plain media files. The items of the playlist name no extractor, and their
titles and durations replace what the files state."""

from __future__ import annotations

from tests.replay.messages import Request, Response
from tests.replay.site import Site, open_media

_ITEM = """<item><title>Episode {number}</title><guid>guid-{number}</guid>
<itunes:duration>0:0{number}</itunes:duration>
<enclosure url="https://cdn.podcast.example/{number}.mp3" type="audio/mpeg"/></item>"""


class Podcast(Site):
    pages = {"podcast": "https://podcast.example/feed.xml"}  # noqa: RUF012
    hosts = ("podcast.example", "cdn.podcast.example")

    def answer(self, request: Request) -> Response | None:
        if request.host == "cdn.podcast.example":
            return open_media(request, "audio.mp3")
        items = "".join(_ITEM.format(number=number) for number in (1, 2))
        text = (
            '<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel>'
            f"<title>A podcast</title>{items}</channel></rss>"
        )
        return Response(text.encode(), content_type="application/rss+xml")
