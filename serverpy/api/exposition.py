"""The server's metrics (a `Sample` of `metrics.py`) in the Prometheus text format. The server imports this module at
the first scrape, because the Prometheus library takes 1.3 MB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serverpy.metrics import Sample

CONTENT_TYPE = CONTENT_TYPE_LATEST
HELP = {
    "uptime": ("serverpy_uptime_seconds", "Seconds since this process started."),
    "memory.pss": ("serverpy_memory_pss_bytes", "Proportional set size of this process, in bytes."),
    "memory.uss": ("serverpy_memory_uss_bytes", "Unique set size of this process, in bytes."),
    "worker_memory.pss": (
        "serverpy_worker_memory_pss_bytes",
        "Proportional set size of the yt-dlp processes, in bytes.",
    ),
    "worker_memory.uss": ("serverpy_worker_memory_uss_bytes", "Unique set size of the yt-dlp processes, in bytes."),
    "workers": (
        "serverpy_workers",
        "Processes that run yt-dlp: one that extracts, one that downloads, and those that are being replaced; 0 after "
        "the server has stopped the idle ones.",
    ),
    "streams": ("serverpy_streams", "Streams that are running or being opened."),
    "waiting": ("serverpy_waiting", "Requests that wait until another stream ends or memory is free."),
    "connections": ("serverpy_connections", "Open connections of clients."),
    "upstreams": ("serverpy_upstreams", "Open connections of the relay method to media servers."),
    "extractions": ("serverpy_extractions", "Extractions under way, at most MAX_EXTRACTIONS."),
    "live_upstreams": (
        "serverpy_live_upstreams",
        "Upstreams of live streams. All clients of a live stream share one upstream.",
    ),
    "threads": ("serverpy_threads", "Threads of this process."),
    "fds": ("serverpy_fds", "Open file descriptors of this process."),
    "children": (
        "serverpy_children",
        "Child processes of this process and their descendants, including yt-dlp's.",
    ),
    "buffered_bytes": (
        "serverpy_buffered_bytes",
        "Bytes in the pipes of the embedded and subprocess methods, and in the filtering proxy.",
    ),
    "budget_used": ("serverpy_budget_used_bytes", "Bytes of MEMORY_BUDGET that are in use."),
    "budget_total": ("serverpy_budget_total_bytes", "MEMORY_BUDGET in bytes."),
    "loop_lag_p50": ("serverpy_loop_lag_p50_milliseconds", "Lag of the event loop, median of the last minute."),
    "loop_lag_p99": (
        "serverpy_loop_lag_p99_milliseconds",
        "Lag of the event loop, 99th percentile of the last minute.",
    ),
}
"""The gauges: maps the name of each field of `Sample` to the Prometheus name and the help text."""
COUNTERS = {
    "extractions_refused": (
        "serverpy_extractions_refused",
        "Extractions that the server refused, because too many ran for too long: in all (MAX_EXTRACTIONS), for one "
        "client or for one host.",
    ),
    "extractions_repeated": (
        "serverpy_extractions_repeated",
        "Extractions that were repeated in a process of their own, because their process ended or its memory was full.",
    ),
    "pages_extracted_to_download": (
        "serverpy_pages_extracted_to_download",
        "Pages that the download process had to extract once more, because their data could not be handed over.",
    ),
    "live_cuts": ("serverpy_live_cuts", "Clients whose connection was cut because they fell behind a live stream."),
    "fallbacks": (
        "serverpy_fallbacks",
        "Streams that `auto` tried with the embedded method because a media server refused the relay's HTTP client.",
    ),
    "log_lines_dropped": (
        "serverpy_log_lines_dropped",
        "Log lines that were dropped because stderr did not accept them in time.",
    ),
}
"""The counters without labels: maps the name of each field of `Sample` to the Prometheus name and the help text."""
LABELLED = {
    "connections_closed": (
        "serverpy_connections_closed",
        "Client connections that the server refused or closed, by reason: the client has more than CLIENT_CONNECTIONS "
        "(client), the server has too many connections (all, replaced), its requests take too much memory (memory) or "
        "are too many (pipelined), or the client was too slow to send a request (late) or to read a response (unread).",
        "reason",
    ),
    "refused": (
        "serverpy_refused",
        "Requests and streams that were refused because of their key, link, limit or Host, by error code.",
        "code",
    ),
    "bounds_exceeded": (
        "serverpy_upstream_bounds_exceeded",
        "Responses of media servers that exceeded a bound and were refused (fields, head_bytes, interim_responses, "
        "framing, redirects, playlists), and cookies that were dropped (cookies), by bound.",
        "bound",
    ),
    "ends": (
        "serverpy_streams_ended",
        "Streams that have ended, by the reason of their end or the code of their error.",
        "end",
    ),
}
"""The counters with one label, as a map from the name of each field of `Sample` to the Prometheus name, the help text
and the name of the label."""


def prometheus_text(sample: Sample) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Sampled(sample))
    return generate_latest(registry)


class _Sampled(Collector):
    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._values = _flat(asdict(sample))

    def collect(self) -> Iterator[Metric]:
        for field, (name, help_text) in HELP.items():
            yield GaugeMetricFamily(name, help_text, value=self._values[field])
        for field, (name, help_text) in COUNTERS.items():
            yield CounterMetricFamily(name, help_text, value=self._values[field])
        for field, (name, help_text, label) in LABELLED.items():
            family = CounterMetricFamily(name, help_text, labels=(label,))
            for value, count in sorted(getattr(self._sample, field).items()):
                family.add_metric((value,), count)
            yield family


def _flat(values: dict[str, object]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": number for inner, number in value.items()}
        elif isinstance(value, int | float):
            flat[name] = value
    return flat
