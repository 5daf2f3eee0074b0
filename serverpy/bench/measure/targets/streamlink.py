"""The competitor streamlink from PyPI. It turns one playlist into one stream for one client at a time
(`--player-external-http`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import Kind, Launch, Target
from serverpy.bench.measure.targets.rivals import HINT, find_rival, trusting

MEDIA = "hls/ts"
"""The media with which the bench starts streamlink. A streamlink process streams only the URL on its command line."""


@dataclass(frozen=True, repr=False)
class Streamlink(Target):
    name: str = "streamlink"
    title: str = "streamlink"
    schemes: ClassVar[tuple[Scheme, ...]] = ("http",)
    kinds: ClassVar[tuple[Kind, ...]] = ("playlist",)
    ready: ClassVar[str] = r" http://127\.0\.0\.1:(\d+)/"

    def missing(self) -> str | None:
        return None if find_rival("streamlink") else f"streamlink is not installed ({HINT})"

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        def path(media: str, _scheme: Scheme, _fresh: str) -> str:
            if media != MEDIA:
                raise BenchError(f"The bench started this streamlink for {MEDIA}: it cannot stream {media}.")
            return "/"

        command = [
            *(find_rival("streamlink") or "streamlink", "--no-config", "--player-external-http"),
            *("--player-external-http-interface", "127.0.0.1", f"hls://{origin.url(MEDIA)}", "best"),
        ]
        return Launch(command, path, trusting(origin))


STREAMLINK = Streamlink()
