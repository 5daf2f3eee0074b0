"""The separate virtual environment of ServerPY's competitors, which need other versions of the same packages. `make
bench` creates it in a directory of ServerPY's own virtual environment.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from serverpy.bench.measure.origin import Origin

RIVALS = Path(sys.prefix, "rivals")
HINT = "make bench installs it"


def find_rival(command: str) -> Path | None:
    """Return the path of `command` in the competitors' virtual environment, else in ServerPY's environment. Returns
    None if neither has the command."""
    for directory in (RIVALS / "bin", Path(sys.prefix, "bin")):
        path = directory / command
        if os.access(path, os.X_OK):
            return path
    return None


def python_with(module: str) -> Path | None:
    """Return a Python interpreter that can import `module`, preferably the one that runs the bench. Returns None if
    there is none."""
    if importlib.util.find_spec(module) is not None:
        return Path(sys.executable)
    if any(RIVALS.glob(f"lib/python*/site-packages/{module}/__init__.py")):
        return RIVALS / "bin" / "python"
    return None


def trusting(origin: Origin) -> dict[str, str]:
    """Return environment variables that make OpenSSL's defaults and `requests` trust the sample site's certificate."""
    return {"SSL_CERT_FILE": str(origin.ca_file), "REQUESTS_CA_BUNDLE": str(origin.ca_file)}
