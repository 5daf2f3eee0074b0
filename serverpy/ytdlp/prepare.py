"""Preparation of the worker process before the first session: the removal of the features of yt-dlp that the worker
must not use.

After the preparation, yt-dlp uses no proxy from the environment, no programs from PATH (no ffmpeg), no configuration
files, no plugins except those that the operator has set, and no folder except a private directory. `prepare` also
checks every setting that may be invalid, so that the server does not start with an invalid setting.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
from pathlib import Path
from typing import Any

import certifi
import yt_dlp
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
from yt_dlp.utils import Popen, YoutubeDLError

from serverpy.errors import ConfigurationError
from serverpy.extraction.messages import Ready, Role, WorkerOptions
from serverpy.extras import IMPERSONATE
from serverpy.ytdlp import http_client, m3u8, places
from serverpy.ytdlp.children import Gate, install
from serverpy.ytdlp.mpd import formats
from serverpy.ytdlp.session import instance, parts
from serverpy.ytdlp.session.cookies import cookies_of_file
from serverpy.ytdlp.session.extractors import warm_up
from serverpy.ytdlp.session.proxies import SessionProxies
from serverpy.ytdlp.shared import Shared, share, shared

_PROXY_VARIABLES = re.compile(r"(?i)(?:\w+_proxy|ytdlp_no_lazy_extractors|sslkeylogfile)")


def prepare(role: Role, options: WorkerOptions, proxies: SessionProxies, directory: Path) -> Shared:
    """Restrict this process and, if its role is to extract, load yt-dlp's extractors, which takes about a second.
    Raises ConfigurationError if a setting is invalid."""
    gate, for_parsing = Gate(options.max_js_children), places.Places(options.limits.extract_workers)
    install(Popen, gate, for_parsing.outside)
    places.install(for_parsing)
    http_client.install()
    runtimes = _find_js_runtimes()
    _close_environment(directory)
    m3u8.install()
    formats.install()
    parts.install()
    for path in options.plugin_paths:
        yt_dlp.plugins.sys.path.append(path)
    _restrict_plugins(directory)
    bundle = _write_bundle(options.network.ca_file, directory)
    prepared = Shared(options, proxies, directory, gate, for_parsing, runtimes, bundle)
    share(prepared)
    cookies_of_file(options.identity.cookies_file)
    _check_impersonation(options)
    if role == "extract":
        warm_up()
    return prepared


def describe(tag: str) -> Ready:
    """Return the message that describes this process to the server process. The ids of the extractions of this process
    begin with `tag`."""
    runtimes = shared().js_runtimes.items()
    return Ready(
        tag=tag,
        yt_dlp=yt_dlp.version.__version__,
        js_runtimes=tuple(f"{name}-{runtime.info.version}" for name, runtime in runtimes if runtime.info.supported),
        impersonation=not IMPERSONATE.missing,
        plugins=tuple(sorted(yt_dlp.globals.plugin_ies.value)),
    )


def _find_js_runtimes() -> dict[str, Any]:
    """Return the JavaScript runtimes that yt-dlp can use. yt-dlp itself finds a runtime in the folder of the Python
    interpreter. A runtime elsewhere on PATH must be found before this module empties PATH."""
    path = shutil.which("deno")
    params = {"deno": {"path": path} if path and not _beside_interpreter("deno") else {}}
    runtimes = {
        name: yt_dlp.globals.supported_js_runtimes.value[name](path=config.get("path"))
        for name, config in params.items()
    }
    return {name: runtime for name, runtime in runtimes.items() if runtime.info is not None}


def _beside_interpreter(name: str) -> bool:
    return bool(os.path.dirname(yt_dlp.utils._jsruntime._find_exe(name)))


def _close_environment(directory: Path) -> None:
    """Remove the proxy variables from the environment, because NO_PROXY would bypass the filtering proxy. Set PATH to
    an empty folder, because yt-dlp would otherwise fetch media with ffmpeg and other programs."""
    for name in list(os.environ):
        if _PROXY_VARIABLES.fullmatch(name):
            del os.environ[name]
    empty = directory / "empty"
    empty.mkdir(exist_ok=True)
    os.environ["PATH"] = str(empty)
    for name in ("ffmpeg", "ffprobe", "avconv", "avprobe"):
        FFmpegPostProcessor._version_cache[name] = False
        FFmpegPostProcessor._features_cache[name] = {}


def _restrict_plugins(directory: Path) -> None:
    """Make yt-dlp load plugins only from `sys.path`, and not from the configuration folders of the user that runs the
    server."""
    yt_dlp.plugins.default_plugin_paths = lambda: (Path(path) for path in yt_dlp.plugins.sys.path)
    yt_dlp.plugins.get_executable_path = lambda: str(directory / "empty")


def _write_bundle(ca_file: str | None, directory: Path) -> Path | None:
    """Write the public certificate authorities and CA_FILE into one file for curl, which reads only one file. Returns
    the path of that file, or None if CA_FILE is not set. (Python's SSL context can load CA_FILE in addition to its own
    authorities.)"""
    if ca_file is None:
        return None
    bundle = directory / "authorities.pem"
    try:
        bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + Path(ca_file).read_bytes())
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"CA_FILE cannot be read or has no valid certificates: {error}") from error
    return bundle


def _check_impersonation(options: WorkerOptions) -> None:
    wanted = options.identity.impersonate
    if wanted and IMPERSONATE.missing:
        raise ConfigurationError(IMPERSONATE.absence(f"IMPERSONATE={wanted!r}").detail)
    try:
        with instance.open(options, extracts=False):
            pass
    except (ValueError, YoutubeDLError) as error:
        raise ConfigurationError(
            f"IMPERSONATE={wanted!r} is not an available target: see `yt-dlp --list-impersonate-targets`."
        ) from error
