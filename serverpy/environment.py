"""The environment variables for the processes that run yt-dlp: only those that an interpreter needs. These processes
read hostile pages, so the module has an allow list. The server keeps all other variables to itself: keys of cloud
providers, tokens, the server's settings, and proxies, which would bypass the filtering proxy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_LOCALE = ("LANG", "LANGUAGE", *(f"LC_{name}" for name in ("ALL", "CTYPE", "COLLATE", "MESSAGES", "NUMERIC", "TIME")))
_PYTHON = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONUTF8"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONMALLOC", "PYTHONFAULTHANDLER"),
)
"""Variables for the paths of modules, the encoding of text, and debugging tools. PYTHONOPTIMIZE is left out: yt-dlp is
usually not compiled for it, so a process would compile yt-dlp at each start."""
PASSED_ON = frozenset(
    (
        *("PATH", "HOME", "TMPDIR", "TZ", "TZDIR", *_LOCALE, *_PYTHON),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF"),
        *("LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"),
        "YTDLP_NO_PLUGINS",
    )
)


def passed_on(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables in `variables` that a process with yt-dlp may receive."""
    return {name: value for name, value in variables.items() if name in PASSED_ON}
