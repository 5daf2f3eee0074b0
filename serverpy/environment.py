"""The environment variables that the processes with yt-dlp receive: only the variables that a Python interpreter needs.
These processes read hostile pages, so the module passes only the variables on an allow list. The server keeps all other
variables to itself: keys of cloud providers, tokens, the server's settings, and the addresses of proxies, with which
yt-dlp would bypass the filtering proxy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_LOCALE = ("LANG", "LANGUAGE", *(f"LC_{name}" for name in ("ALL", "CTYPE", "COLLATE", "MESSAGES", "NUMERIC", "TIME")))
_PYTHON = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONUTF8"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONMALLOC", "PYTHONFAULTHANDLER"),
)
"""Variables for the paths of modules, the encoding of text, and debugging tools. PYTHONOPTIMIZE is not among them:
yt-dlp's bytecode files are usually not compiled with that option, so each process would compile yt-dlp when it
starts."""
PASSED_ON = frozenset(
    (
        *("PATH", "HOME", "TMPDIR", "TZ", "TZDIR", *_LOCALE, *_PYTHON),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"),
        *("LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"),
        "YTDLP_NO_PLUGINS",
    )
)


def passed_on(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return those of `variables` that a process with yt-dlp may receive."""
    return {name: value for name, value in variables.items() if name in PASSED_ON}
