"""Description of the machine and of the software versions, for the report of a bench run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from serverpy.bench.measure.targets.base import find_command

PACKAGES = (
    "serverpy", "yt-dlp", "uvloop", "uvicorn", "httptools", "fastapi", "starlette", "requests", "httpx", "psutil",
)  # fmt: skip
RIVALS = ("mediaflow-proxy", "streamlink", "httpx")
"""Packages whose versions `versions` looks up first in the virtual environment of ServerPY's competitors, if that
environment exists."""


def versions() -> dict[str, str | None]:
    """Return the version of Python, nginx and each package by name. A version is None if the program or package is not
    installed."""
    found = {"python": platform.python_version(), "nginx": _nginx()}
    ours: dict[str, str | None] = {name: _version(name, sys.path) for name in PACKAGES}
    theirs = [str(path) for path in Path(sys.prefix, "rivals", "lib").glob("python*/site-packages")]
    return {**found, **ours, **{name: _version(name, theirs) or ours.get(name) for name in RIVALS}}


def machine() -> dict[str, str | int | None]:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "os": _system(),
    }


def _version(name: str, path: list[str]) -> str | None:
    return next((each.version for each in importlib.metadata.distributions(name=name, path=path)), None)


def _nginx() -> str | None:
    command = find_command("nginx")
    if command is None:
        return None
    said = subprocess.run([command, "-v"], capture_output=True, text=True, timeout=10, check=False).stderr
    return said.strip().removeprefix("nginx version: nginx/").partition(" ")[0] or None


def _cpu() -> str | None:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or None


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:  # the system has no os-release file
        return platform.system()
