"""Two servers under test. `WithTube` is ServerPY with the yt-dlp plugin of the sample site, whose pages have separate
video and audio that ServerPY merges. `WithoutNames` is the same server, but its host name look-ups get no response."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from serverpy.bench.measure.origin import Origin
from serverpy.bench.measure.targets.base import Launch
from serverpy.bench.measure.targets.ours import OurMethod
from serverpy.sample import PLUGIN_PATH

SILENT_RESOLVER = "127.0.0.77"
_MOUNT = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


@dataclass(frozen=True, repr=False)
class WithTube(OurMethod):
    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        launch = super().launch(origin, settings)
        return replace(launch, env={**launch.env, "PYTHONPATH": str(PLUGIN_PATH)})


@dataclass(frozen=True, repr=False)
class WithoutNames(WithTube):
    """ServerPY in a mount namespace of its own, in which the only name server is SILENT_RESOLVER, which never
    answers."""

    def launch(self, origin: Origin, settings: Mapping[str, str]) -> Launch:
        launch = super().launch(origin, settings)
        inside = ("unshare", "--mount", "sh", "-c", _MOUNT, "{directory}/resolv.conf", *launch.command)
        return replace(launch, command=inside, files={"resolv.conf": f"nameserver {SILENT_RESOLVER}\n"})


def may_unshare() -> bool:
    """Return whether this process may create mount namespaces and bind UDP port 53."""
    if shutil.which("unshare") is None:
        return False
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return False
    try:
        with silent_resolver():
            return True
    except OSError:
        return False


@contextlib.contextmanager
def silent_resolver() -> Iterator[None]:
    """Run a name server at SILENT_RESOLVER that never answers, for the duration of the block. Raises OSError if this
    process may not bind its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT_RESOLVER, 53))
        yield
