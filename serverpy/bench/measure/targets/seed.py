"""The code shapes of the founding document, each as a server of its own: see `serverpy.bench.measure.seed_shape`."""

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
from serverpy.bench.measure.targets.rivals import HINT, UVICORN_READY, python_with, trusting

SCRIPT = Path(__file__).parents[1] / "seed_shape.py"
SETTINGS = ("MAX_WORKERS", "QUEUE", "CHUNK", "CLIENT")


@dataclass(frozen=True, repr=False)
class SeedShape(Target):
    """`settings`: MAX_WORKERS, QUEUE (chunks), CHUNK (bytes), and of httpx CLIENT (`shared` or `each`)."""

    name: str
    title: str
    method: str
    library: str
    kinds: tuple[Kind, ...] = ("file",)
    reads_pages: ClassVar[bool] = True

    def missing(self) -> str | None:
        return None if python_with(self.library) else f"{self.library} is not installed ({HINT})"

    @contextlib.contextmanager
    def start(self, origin: Origin, *, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
        self._refuse_unknown(settings, SETTINGS)

        def path(media: str, scheme: Scheme, fresh: str) -> str:
            return f"/stream?url={quote(origin.page(media, scheme, fresh), safe='')}"

        # -P: not the script's own directory on the path, whose modules may have the names of others.
        command = [python_with(self.library) or "python3", "-P", SCRIPT, self.method]
        with running(self.title, command, env={**trusting(origin), **(settings or {})}) as child:
            port = int(child.said(UVICORN_READY, START_SECONDS)[1])
            yield Running(child, port, path, self.schemes, self.kinds)


class HttpxShape(SeedShape):
    needs: ClassVar[str] = "httpx (PyPI)"


SEED = SeedShape("seed", "thread and queue (the seed's shape)", method="queue", library="requests")
HTTPX_RELAY = HttpxShape(
    "httpx-relay", "extract, then httpx (the seed's third method)", method="httpx", library="httpx"
)
