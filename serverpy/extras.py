"""The extras of the distribution: the packages and the purpose of each. `serverpy doctor` lists the extras; a feature
calls `require` before it imports a package that may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder

from serverpy.errors import NotInstalled

DISTRIBUTION = "serverpy-stream"


@dataclass(frozen=True, slots=True)
class Extra:
    """One extra. `packages` maps each module to the distribution that contains it."""

    name: str
    packages: Mapping[str, str]
    purpose: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The distributions whose module cannot be found."""
        return tuple(name for module, name in self.packages.items() if not is_installed(module))

    @property
    def command(self) -> str:
        """The shell command that installs the extra."""
        return f"pip install '{DISTRIBUTION}[{self.name}]'"

    def absence(self, feature: str) -> NotInstalled:
        """Return the error for a `feature` whose packages are missing. The error's message begins with `feature`."""
        *others, last = self.missing or self.packages.values()
        packages = f"{', '.join(others)} and {last}" if others else last
        return NotInstalled(f"{feature} needs {packages}: install {DISTRIBUTION}[{self.name}].")

    def require(self, feature: str) -> None:
        """Raise `NotInstalled` if a package is missing. The error's message begins with `feature`."""
        if self.missing:
            raise self.absence(feature)


def is_installed(module: str) -> bool:
    """Return whether the module exists, even if this process hides it (`ytdlp/session/impersonation.py`)."""
    return PathFinder.find_spec(module) is not None


JS = Extra("js", {"deno": "deno", "yt_dlp_ejs": "yt-dlp-ejs"}, "run the JavaScript of sites such as YouTube")
CONVERT = Extra("convert", {"av": "av"}, "convert media")
IMPERSONATE = Extra("impersonate", {"curl_cffi": "curl-cffi"}, "read sites that accept only browsers")
REDIS = Extra("redis", {"redis": "redis"}, "share state between processes and machines")
SAMPLE = Extra("sample", {"av": "av", "trustme": "trustme"}, "make the sample site's media")
BENCH = Extra("bench", {"matplotlib": "matplotlib", **SAMPLE.packages}, "measure, and draw the report's charts")

EXTRAS = (JS, CONVERT, IMPERSONATE, REDIS, BENCH, SAMPLE)
"""All extras except `all`, which stands for all of these."""
