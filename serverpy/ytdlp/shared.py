"""What all sessions of the worker process share: made once by `prepare.py`, read by all other modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serverpy.errors import ConfigurationError
from serverpy.extraction.messages import WorkerOptions
from serverpy.ytdlp.children import Gate
from serverpy.ytdlp.session.proxies import SessionProxies


@dataclass(frozen=True, slots=True)
class Shared:
    """One per process. `directory` is private to the process; the server removes it."""

    options: WorkerOptions
    proxies: SessionProxies
    directory: Path
    gate: Gate
    js_runtimes: Mapping[str, Any] = field(default_factory=dict)
    bundle: Path | None = None
    """PEM file of the public authorities and CA_FILE together, where CA_FILE is set."""


_shared: Shared | None = None


def share(prepared: Shared) -> None:
    """Have `shared` return `prepared` from here on."""
    global _shared
    _shared = prepared


def shared() -> Shared:
    """Raises ConfigurationError before `share`."""
    if _shared is None:
        raise ConfigurationError("The worker is not prepared.")
    return _shared
