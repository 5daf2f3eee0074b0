"""The values that all sessions of the worker process share. `prepare.py` makes these values once, and other modules
read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serverpy.errors import ConfigurationError
from serverpy.extraction.messages import WorkerOptions
from serverpy.ytdlp.children import Gate
from serverpy.ytdlp.places import Places
from serverpy.ytdlp.session.proxies import SessionProxies


@dataclass(frozen=True, slots=True)
class Shared:
    """The values that all sessions of the process share. `directory` is private to the process; the server process
    removes it."""

    options: WorkerOptions
    proxies: SessionProxies
    directory: Path
    gate: Gate
    places: Places
    js_runtimes: Mapping[str, Any] = field(default_factory=dict)
    bundle: Path | None = None
    """PEM file that contains the public certificate authorities and those of CA_FILE. None if CA_FILE is not set."""


_shared: Shared | None = None


def share(prepared: Shared) -> None:
    """Set the values that `shared` returns from now on."""
    global _shared
    _shared = prepared


def shared() -> Shared:
    """Return the shared values. Raises ConfigurationError if `share` has not been called yet."""
    if _shared is None:
        raise ConfigurationError("The worker is not prepared: call serverpy.ytdlp.prepare.prepare first.")
    return _shared
