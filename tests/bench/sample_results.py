"""A run of the bench, written by hand: small, and with every scenario of `results.json`."""

from __future__ import annotations

from typing import Any

MB = 1_000_000
MIB = 1024 * 1024


def crowd(target: str, clients: int, base: float, each: float, scheme: str = "http", **more: Any) -> dict[str, Any]:
    """A row of the crowd, sizes in MB."""
    peak = base + clients * each
    row = {
        "target": target, "clients": clients, "scheme": scheme, "base_pss": base * MB, "peak_pss": peak * MB,
        "after_pss": base * MB, "each_pss": each * MB, "rss_peak": peak * MB, "processes": 2, "threads": 20, "cpu": 3.5,
        "complete": clients, "failed": 0, "refused": 0, "first_byte_p50": 0.01, "lag_p99": 0.004,
    }  # fmt: skip
    return {**row, **more}


def steps(process: str, *pairs: tuple[str, float]) -> list[dict[str, Any]]:
    rows, total = [], 0.0
    for name, added in pairs:
        total += added
        rows.append({"process": process, "step": name, "pss": total * MB, "added": added * MB})
    return rows


def line(target: str, low: float, high: float) -> dict[str, Any]:
    ramp = [low + (high - low) * part / 4 for part in range(5)]
    pss = [*ramp, *[high] * 9, *reversed(ramp)]
    clients = [0, 3, 5, 8, 10, *[10] * 9, 10, 8, 5, 3, 0]
    return {"target": target, "t": [float(i) for i in range(19)], "pss": [v * MB for v in pss], "clients": clients}


def hundred(target: str, requests: int, growth: float, zombies: int = 0) -> dict[str, Any]:
    return {
        "target": target, "requests": requests, "media_bytes": 5 * MB, "rss_before": 110 * MB, "rss_peak": 150 * MB,
        "rss_after": (110 + growth) * MB, "pss_before": 100 * MB, "pss_after": (100 + growth) * MB,
        "growth": growth * MB, "threads_before": 9, "threads_after": 10, "zombies": zombies, "fds_before": 30,
        "fds_after": 30, "children_after": 1,
    }  # fmt: skip


def hand_over(queue: int, chunk: int) -> dict[str, Any]:
    return {
        "queue_chunks": queue, "chunk_bytes": chunk, "each_pss": 0.34 * MB, "pipe_bytes": queue * chunk,
        "throughput": 300 * MB, "first_byte": 0.012,
    }  # fmt: skip


def promise(target: str, limit: str | None, **more: Any) -> dict[str, Any]:
    row = {
        "target": target, "limit": limit, "clients": 2000, "budget": 64 * MIB, "base_pss": 50 * MB, "held": True,
        "highest_pss": 90 * MB, "allowed_pss": 50 * MB + 1.1 * 64 * MIB, "served": 1200, "refused": 800,
        "timed_out": 0, "failed": 0, "wrong": 0,
    }  # fmt: skip
    return {**row, **more}


def promise_line(target: str, limit: str | None) -> dict[str, Any]:
    pss = [50 * MB, 80 * MB, 90 * MB, 70 * MB]
    return {"target": target, "limit": limit, "allowed": 50 * MB + 1.1 * 64 * MIB, "t": [0.0, 0.05, 0.1, 0.15],
            "pss": pss}  # fmt: skip


def saturation(target: str, extracting: bool, lag: float | None, silence: float, **more: Any) -> dict[str, Any]:
    row = {
        "target": target, "extracting": extracting, "streams": 55, "seconds": 62.0, "extractions": 500 * extracting,
        "extractions_per_second": 8.0 * extracting, "cpu": 1.0, "lag_p50": lag, "lag_p99": lag, "lag_seconds": 60.0,
        "answer_p99": 0.008, "longest_stall": 0.0, "longest_silence": silence,
    }  # fmt: skip
    return {**row, **more}


def scenario(name: str, rows: list[dict[str, Any]], series: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    title = name.replace("-", " ")
    return {
        "name": name, "title": title, "status": "done", "reason": None, "seconds": 12.5, "rows": rows,
        "series": series or [],
    }  # fmt: skip


def whole_run() -> dict[str, Any]:
    """Everything done, and nothing failed."""
    methods = ("relay", "embedded", "subprocess", "nginx", "seed", "httpx-relay", "mediaflow")
    cost = dict(zip(methods, (0.079, 0.342, 47.0, 0.075, 5.9, 1.4, 3.3), strict=True))
    start = dict(zip(methods, (107.0, 116.0, 107.0, 6.0, 91.0, 88.0, 75.0), strict=True))
    cpu = dict(zip(methods, (1.2, 2.6, 4.4, 1.0, 29.0, 4.0, 3.1), strict=True))
    sizes = {"subprocess": (10, 50), "relay": (10, 50, 200, 1000), "nginx": (10, 50, 200, 1000)}
    crowds = [crowd(m, n, start[m], cost[m]) for m in methods for n in sizes.get(m, (10, 50, 200))]
    crowds += [crowd(m, 200, start[m], cost[m] * 2, "https") for m in ("relay", "nginx", "embedded")]
    served = (("interpreter", 9.0), ("framework", 26.0), ("server running", 9.5))
    worker = (("interpreter", 9.0), ("yt-dlp imported", 29.0), ("warmed up", 14.0), ("first extraction", 3.0))
    return {
        "meta": {
            "mode": "default", "command": "serverpy bench", "started": "2026-11-22T13:00:00Z", "seconds": 2222.0,
            "complete": True,
            "versions": {"python": "3.11.2", "serverpy": "0.1.0", "yt-dlp": "2026.8.19", "streamlink": None},
            "machine": {"cpu": "A <small> CPU & more", "cores": 2, "memory_bytes": 8 * 1024 * MIB,
                        "kernel": "6.1", "os": "Debian 12"},
        },
        "scenarios": [
            scenario("steps", [
                *steps("server", *served, ("a client connection", 0.05)),
                *steps("worker", *worker, ("a thread", 0.1), ("a hand-over", 0.2)),
                *steps("one process, stock", ("interpreter", 9.0), ("framework", 26.0), ("yt-dlp imported", 36.0)),
            ]),
            scenario("crowd", crowds),
            scenario("over-time", [], [line("relay", 107, 108), line("embedded", 116, 120),
                                       line("subprocess", 107, 577)]),
            scenario("sequential", [hundred("relay", 100, 0.4), hundred("embedded", 100, 1.1),
                                    hundred("seed", 100, 14.0), hundred("subprocess", 20, 0.6)]),
            scenario("hand-over", [hand_over(q, c) for q in (5, 10, 20, 50) for c in (8192, 65536, MIB)]),
            scenario("workers", [{"max_workers": n, "peak_pss": (116 + 0.34 * n) * MB, "each_pss": 0.34 * MB,
                                  "throughput": 280 * MB} for n in (5, 10, 20, 50)]),
            scenario("collect", [{"gc_after_stream": on, "after_pss": 108 * MB, "cpu_per_request": 0.004 + 0.02 * on}
                                 for on in (False, True)]),
            scenario("overload", [{"limited": on, "asked": 400, "served": 100 if on else 400, "refused": 300 * on,
                                   "peak_pss": (115 if on else 139) * MB, "first_byte_p99": 0.4}
                                  for on in (False, True)]),
            scenario("latency", [{"target": t, "state": s, "in_flight": n, "first_byte_p50": b, "first_byte_p99": b * 2,
                                  "origin_first_byte_p50": 0.002, "origin_first_byte_p99": 0.004} for t, s, n, b in
                                 (("relay", "cold", 1, 0.06), ("relay", "cached", 1, 0.006),
                                  ("relay", "cached", 50, 0.09), ("embedded", "cold", 1, 0.07),
                                  ("seed", "cold", 1, 0.21), ("subprocess", "cold", 1, 3.1))]),
            scenario("rate", [{"target": t, "state": s, "requests_per_second": r, "requests_per_cpu_second": r}
                              for t, s, r in
                              (("relay", "cold", 31.0), ("relay", "cached", 900.0), ("embedded", "cold", 25.0),
                               ("seed", "cold", 6.0), ("subprocess", "cold", 0.5))]),
            scenario("throughput", [{"target": m, "scheme": "http", "cpu_per_gb": cpu[m], "bytes_per_second": 600 * MB,
                                     "ratio_to_nginx": cpu[m] / cpu["nginx"]} for m in methods]),
            scenario("profiles", [{"profile": p, "streams": n, "budget": b * MIB, "base_pss": 107 * MB, "carried": n,
                                   "peak_pss": (107 + 0.08 * n) * MB, "embedded_carried": e} for p, n, b, e in
                                  (("small", 200, 64, 5), ("medium", 1000, 256, 20), ("large", 4000, 1024, 50))]),
            scenario("idle", [{"state": s, "pss": p * MB, "uss": p * MB, "first_byte": b} for s, p, b in
                              (("first extraction", 105.8, 0.3), ("worker let go", 50.4, None))]),
            scenario("saturation", [saturation("relay", False, 0.005, 0.04), saturation("relay", True, 0.007, 0.06),
                                    saturation("seed", True, None, 0.28)]),
            scenario("mixed", [{"target": "relay", "requests": 10_000, "growth_rss": 1.5 * MB, "growth_pss": 1.4 * MB,
                                "threads_before": 14, "threads_after": 13, "fds_before": 32, "fds_after": 32,
                                "processes_before": 2, "processes_after": 2, "zombies": 0}]),
            scenario("promise", [promise("relay", None), promise("relay", "prlimit"), promise("embedded", None)],
                     [promise_line("relay", None), promise_line("relay", "prlimit")]),
            scenario("soak", [{"target": "relay", "seconds": 1800.0, "pss_first_quarter": 107 * MB,
                               "pss_last_quarter": 108 * MB, "pss_slope_per_hour": 1.9 * MB}],
                     [{"target": "relay", "t": [float(t) for t in range(1800)], "pss": [107 * MB] * 1800}]),
            scenario("extraction", [{"kind": k, "cpu": c, "wall": c * 1.2} for k, c in
                                    (("slim", 0.021), ("stock", 0.146), ("child", 2.9))]),
        ],
    }  # fmt: skip
