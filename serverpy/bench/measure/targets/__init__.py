"""The servers that the bench can measure, by name. The bench runs each in separate processes and drives it only over
HTTP."""

from __future__ import annotations

from serverpy.bench.measure.origin import Origin, Scheme, sample_origin
from serverpy.bench.measure.targets.base import Running, Target
from serverpy.bench.measure.targets.mediaflow import MEDIAFLOW
from serverpy.bench.measure.targets.nginx import NGINX, NGINX_BUFFERED
from serverpy.bench.measure.targets.ours import EMBEDDED, RELAY, SUBPROCESS
from serverpy.bench.measure.targets.seed import HTTPX_RELAY, SEED
from serverpy.bench.measure.targets.streamlink import STREAMLINK

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (RELAY, EMBEDDED, SUBPROCESS, NGINX, NGINX_BUFFERED, SEED, HTTPX_RELAY, MEDIAFLOW, STREAMLINK)
}

__all__ = ["TARGETS", "Origin", "Running", "Scheme", "Target", "sample_origin"]
