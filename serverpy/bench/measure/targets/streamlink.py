"""streamlink from PyPI: it turns one playlist into one stream for one client at a time (`--player-external-http`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from serverpy.bench.measure.children import running
from serverpy.bench.measure.errors import BenchError
from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import START_SECONDS, Kind, Running, Target
from serverpy.bench.measure.targets.rivals import HINT, find_rival, trusting

READY = r" http://127\.0\.0\.1:(\d+)/"


@dataclass(frozen=True, repr=False)
class Streamlink(Target):
    """`settings`: MEDIA (`hls/ts` unless set) and SCHEME (`http`), the only ones which this process then streams."""

    name: str = "streamlink"
    title: str = "streamlink"
    needs: ClassVar[str] = "streamlink (PyPI)"
    kinds: tuple[Kind, ...] = ("playlist",)
    one_at_a_time: ClassVar[bool] = True

    def missing(self) -> str | None:
        return None if find_rival("streamlink") else f"streamlink is not installed ({HINT})"

    @contextlib.contextmanager
    def start(self, origin: Origin, *, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
        self._refuse_unknown(settings, ("MEDIA", "SCHEME"))
        settings = settings or {}
        its_media = settings.get("MEDIA", "hls/ts")
        its_scheme: Scheme = "https" if settings.get("SCHEME") == "https" else "http"

        def path(media: str, scheme: Scheme, _fresh: str) -> str:
            if media != its_media:
                raise BenchError(f"This streamlink was started for {its_media}, not for {media}.")
            return "/"

        command = [
            *(find_rival("streamlink") or "streamlink", "--no-config", "--player-external-http"),
            *("--player-external-http-interface", "127.0.0.1"),
            *(f"hls://{origin.url(its_media, its_scheme)}", "best"),
        ]
        with running(self.title, command, env=trusting(origin)) as child:
            port = int(child.said(READY, START_SECONDS)[1])
            yield Running(child, port, path, (its_scheme,), self.kinds)


STREAMLINK = Streamlink()
