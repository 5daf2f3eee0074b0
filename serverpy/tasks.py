"""Background tasks with a name and an owner. `asyncio.create_task` alone keeps only a weak reference."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has ended; what it raised in the end is not raised here."""
    task.cancel()
    await asyncio.wait([task])


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start `coroutine`; the caller keeps the task, and awaits or cancels it."""
    return asyncio.get_running_loop().create_task(coroutine, name=name)
