"""mediaflow-proxy from PyPI, as it is installed, with one process: it relays the address that it is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from serverpy.bench.measure.children import running
from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import START_SECONDS, Kind, Running, Target
from serverpy.bench.measure.targets.rivals import HINT, UVICORN_READY, find_rival, trusting


@dataclass(frozen=True, repr=False)
class Mediaflow(Target):
    name: str = "mediaflow"
    title: str = "mediaflow-proxy"
    kinds: tuple[Kind, ...] = ("file",)
    needs: ClassVar[str] = "mediaflow-proxy (PyPI)"

    def missing(self) -> str | None:
        return None if find_rival("mediaflow-proxy") else f"mediaflow-proxy is not installed ({HINT})"

    @contextlib.contextmanager
    def start(self, origin: Origin, *, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
        self._refuse_unknown(settings)

        def path(media: str, scheme: Scheme, _fresh: str) -> str:
            return f"/proxy/stream?d={quote(origin.url(media, scheme), safe='')}"

        # Not by its own command, which starts three processes on a fixed port.
        command: list[str | Path] = [
            *(_python(), "-m", "uvicorn"),
            *("mediaflow_proxy.main:app", "--host", "127.0.0.1", "--port", "0", "--no-access-log"),
        ]
        with running(self.title, command, env=trusting(origin)) as child:
            port = int(child.said(UVICORN_READY, START_SECONDS)[1])
            yield Running(child, port, path, self.schemes, self.kinds)


def _python() -> Path:
    command = find_rival("mediaflow-proxy")
    return command.with_name("python") if command else Path("python3")


MEDIAFLOW = Mediaflow()
