"""ServerPY: one GET turns the address of a page into a stream of bytes, in bounded memory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
SUMMARY = "One GET turns the address of a page into a stream of bytes, in bounded memory."

if TYPE_CHECKING:
    from serverpy.app import create_app
    from serverpy.body import Head
    from serverpy.delivery import Stream
    from serverpy.engine import Engine
    from serverpy.errors import ServerPYError
    from serverpy.info import Info
    from serverpy.plan import StreamRequest
    from serverpy.ranges import ByteRange
    from serverpy.settings import Settings

_MODULES = {
    "ByteRange": "ranges",
    "Engine": "engine",
    "Head": "body",
    "Info": "info",
    "ServerPYError": "errors",
    "Settings": "settings",
    "Stream": "delivery",
    "StreamRequest": "plan",
    "create_app": "app",
}
"""The public names, each with its module. A module is imported when its name is first used, so `import serverpy` is
cheap."""

__all__ = [
    "ByteRange",
    "Engine",
    "Head",
    "Info",
    "ServerPYError",
    "Settings",
    "Stream",
    "StreamRequest",
    "__version__",
    "create_app",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
