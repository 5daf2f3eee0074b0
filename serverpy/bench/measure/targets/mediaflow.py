"""The competitor mediaflow-proxy as installed from PyPI, in one process. It relays the media URL that a request
names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import Launch, Target
from serverpy.bench.measure.targets.rivals import HINT, find_rival, trusting


@dataclass(frozen=True, repr=False)
class Mediaflow(Target):
    name: str = "mediaflow"
    title: str = "mediaflow-proxy"

    def missing(self) -> str | None:
        return None if find_rival("mediaflow-proxy") else f"mediaflow-proxy is not installed ({HINT})"

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        def path(media: str, scheme: Scheme, _fresh: str) -> str:
            return f"/proxy/stream?d={quote(origin.url(media, scheme), safe='')}"

        installed = find_rival("mediaflow-proxy")
        # mediaflow-proxy's own command would start three processes on a fixed port.
        command: list[str | Path] = [
            *(installed.with_name("python") if installed else "python3", "-m", "uvicorn"),
            *("mediaflow_proxy.main:app", "--host", "127.0.0.1", "--port", "0", "--no-access-log"),
        ]
        return Launch(command, path, trusting(origin))


MEDIAFLOW = Mediaflow()
