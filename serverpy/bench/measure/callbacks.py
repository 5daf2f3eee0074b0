"""The command `serverpy` with an event loop whose callbacks are measured: `python -m serverpy.bench.measure.callbacks
FILE serve …` runs `serverpy serve …`, and appends a line to FILE for each callback of at least LEAST_SECONDS.

The time of a callback is the CPU time of its thread, so neither other processes nor other threads add to it. The server
runs on asyncio's own event loop in place of uvloop, because uvloop's callbacks cannot be wrapped.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LEAST_SECONDS = 0.001
"""Minimum CPU time, in seconds, of a callback that is recorded."""
COLLECTION = "garbage collection"


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback of the event loop that took `seconds` of CPU time. `name` is the qualified name of the coroutine or
    function. `at` is the place (file, line and function) at which the innermost frame of the coroutine waits after the
    callback. It is None if the coroutine has ended, or if the callback is not a step of a task. A garbage collection
    also has a record of its own; its time is part of the time of the callback in which it happens."""

    seconds: float
    name: str
    at: str | None = None


def record_callbacks(record: Callable[[Callback], None], least_seconds: float = LEAST_SECONDS) -> Callable[[], None]:
    """Call `record` for each callback of an asyncio event loop in this process that takes `least_seconds` or longer.
    Returns a function that ends the recording."""
    handles: Any = asyncio.Handle  # asyncio has no public hook around a callback
    run = handles._run
    loop_thread, begun_collecting = 0, 0.0

    def measured(handle: asyncio.Handle) -> None:
        nonlocal loop_thread
        loop_thread = threading.get_ident()
        callback = handle._callback  # type: ignore[attr-defined]  # `run` may clear it
        begun = time.thread_time()
        run(handle)
        seconds = time.thread_time() - begun
        if seconds >= least_seconds:
            record(_described(callback, seconds))

    def collecting(phase: str, info: dict[str, int]) -> None:
        nonlocal begun_collecting
        if threading.get_ident() != loop_thread:
            return
        if phase == "start":
            begun_collecting = time.thread_time()
        elif (seconds := time.thread_time() - begun_collecting) >= least_seconds:
            record(Callback(seconds, f"{COLLECTION} of generation {info['generation']}"))

    def end() -> None:
        handles._run = run
        gc.callbacks.remove(collecting)

    handles._run = measured
    gc.callbacks.append(collecting)
    return end


def _described(callback: Any, seconds: float) -> Callback:
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine = task.get_coro()
        return Callback(seconds, _name(coroutine), _waits_at(coroutine))
    return Callback(seconds, _name(callback))


def _name(called: Any) -> str:
    while isinstance(called, functools.partial):
        called = called.func
    return getattr(called, "__qualname__", None) or type(called).__qualname__


def _waits_at(coroutine: Any) -> str | None:
    """Return the file, line and function at which a suspended coroutine waits. Returns None if it has ended."""
    frame = None
    while coroutine is not None:
        found = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        frame = found or getattr(coroutine, "ag_frame", None) or frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    if frame is None:
        return None
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{frame.f_lineno} {code.co_qualname}"


def read_callbacks(path: Path) -> list[Callback]:
    """Return the callbacks that the server has recorded in the file `path`."""
    return [Callback(**json.loads(line)) for line in path.read_text().splitlines()]


def main() -> None:
    """Run `serverpy` with the arguments after FILE, and record its long callbacks in FILE."""
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    record_callbacks(lambda callback: _append(descriptor, callback))
    del sys.argv[1]

    import uvicorn.config  # imported after the hook is set, like all modules of the server

    from serverpy.cli.main import main as serverpy

    uvicorn.config.LOOP_FACTORIES["uvloop"] = uvicorn.config.LOOP_FACTORIES["asyncio"]
    serverpy()


def _append(descriptor: int, callback: Callback) -> None:
    os.write(descriptor, json.dumps(asdict(callback)).encode() + b"\n")


if __name__ == "__main__":
    main()
