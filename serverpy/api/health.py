"""The model of the response to `GET /health`, from which FastAPI makes the OpenAPI schema."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from serverpy.metrics import Sample

HEALTH_EXAMPLE: dict[str, JsonValue] = {
    "status": "ok",
    "version": "0.1.0",
    "yt_dlp": "2026.08.19",
    "uptime": 3600.0,
    "memory": {"pss": 52134912, "uss": 47968256, "worker": {"pss": 61134848, "uss": 56934400}},
    "worker": "running",
    "streams": 3,
    "waiting": 0,
    "upstreams": 3,
    "threads": 3,
    "fds": 29,
    "children": 1,
    "buffered_bytes": 0,
    "budget": {"used": 319488, "total": 268435456},
    "loop_lag": {"p50": 0.4, "p99": 2.1},
}


class MemoryInfo(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"description": "Memory of a process in bytes, from the kernel's `smaps_rollup`."}
    )

    pss: int
    uss: int


class ProcessMemory(MemoryInfo):
    worker: MemoryInfo


class BudgetInfo(BaseModel):
    model_config = ConfigDict(json_schema_extra={"description": "MEMORY_BUDGET: the bytes in use, and the total."})

    used: int
    total: int


class LagInfo(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"description": "Lag of the event loop in the last minute, in milliseconds."}
    )

    p50: float
    p99: float


class Health(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "description": "The state of the server process that sends this response.",
            "examples": [HEALTH_EXAMPLE],
        }
    )

    status: Literal["starting", "ok", "draining"]
    version: str
    yt_dlp: str | None = Field(description="Version of yt-dlp; null until the worker process has started.")
    uptime: float = Field(description="Seconds since the server process started.")
    memory: ProcessMemory
    worker: Literal["starting", "running", "stopped"] = Field(
        description="State of the yt-dlp process that extracts pages. `stopped`: the server has stopped the idle "
        "process, and starts another when a request needs it."
    )
    streams: int
    waiting: int
    upstreams: int
    threads: int
    fds: int
    children: int
    buffered_bytes: int
    budget: BudgetInfo
    loop_lag: LagInfo


def health_of(
    sample: Sample, status: Literal["starting", "ok", "draining"], version: str, yt_dlp: str | None
) -> Health:
    own, worker = sample.memory, sample.worker_memory
    return Health(
        status=status,
        version=version,
        yt_dlp=yt_dlp,
        uptime=sample.uptime,
        memory=ProcessMemory(pss=own.pss, uss=own.uss, worker=MemoryInfo(pss=worker.pss, uss=worker.uss)),
        worker=sample.worker,
        streams=sample.streams,
        waiting=sample.waiting,
        upstreams=sample.upstreams,
        threads=sample.threads,
        fds=sample.fds,
        children=sample.children,
        buffered_bytes=sample.buffered_bytes,
        budget=BudgetInfo(used=sample.budget_used, total=sample.budget_total),
        loop_lag=LagInfo(p50=sample.loop_lag_p50, p99=sample.loop_lag_p99),
    )
