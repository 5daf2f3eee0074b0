"""The founding document's two code examples, each run as a server: see `serverpy.bench.measure.seed_shape`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from serverpy.bench.measure.origin import Origin, Scheme
from serverpy.bench.measure.targets.base import Launch, Target
from serverpy.bench.measure.targets.rivals import HINT, python_with, trusting

SCRIPT = Path(__file__).parents[1] / "seed_shape.py"


@dataclass(frozen=True, repr=False)
class SeedShape(Target):
    name: str
    title: str
    method: str
    library: str
    settings: ClassVar[tuple[str, ...] | None] = ("MAX_WORKERS",)
    reads_pages: ClassVar[bool] = True

    def missing(self) -> str | None:
        return None if python_with(self.library) else f"{self.library} is not installed ({HINT})"

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        def path(media: str, scheme: Scheme, fresh: str) -> str:
            return f"/stream?url={quote(origin.page(media, scheme, fresh), safe='')}"

        # -P keeps the script's directory off sys.path, because its modules could shadow installed modules of the same
        # name.
        command = [python_with(self.library) or "python3", "-P", SCRIPT, self.method]
        return Launch(command, path, {**trusting(origin), **settings})


SEED = SeedShape("seed", "thread and queue (the seed's shape)", method="queue", library="requests")
HTTPX_RELAY = SeedShape("httpx-relay", "extract, then httpx (the seed's third method)", method="httpx", library="httpx")
