"""Tests that work which takes long does not run in the thread of the event loop. The benchmark scenario `callbacks`
measures the work that runs there (`tests/bench/test_callbacks.py`)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serverpy.access import link_secrets
from serverpy.access.link_secrets import LinkSecrets
from serverpy.access.links import LinkKey, derive
from serverpy.api.openapi import MOST_WAITING, Document
from serverpy.app import create_app
from serverpy.delivery import FEW_TRACKS
from serverpy.engine import Engine
from serverpy.extraction.values import Media, Track
from serverpy.settings import Settings
from serverpy.tasks import spawn
from tests.aio import PATIENCE_SECONDS, eventually


def page(tracks: int) -> Media:
    listed = tuple(Track(id=str(n), url=f"https://e.example/{n}", protocol="https", ext="mp4") for n in range(tracks))
    url = "https://e.example"
    return Media(raw_id="1", id="1", title="A film", kind="video", extractor="X", webpage_url=url, tracks=listed)


@pytest.mark.parametrize(("tracks", "in_thread"), [(FEW_TRACKS, False), (FEW_TRACKS + 1, True), (2000, True)])
async def test_only_work_on_a_page_with_many_tracks_runs_in_a_thread(tracks: int, in_thread: bool) -> None:
    found = await Engine(Settings()).delivery.by_tracks(page(tracks), threading.get_ident)
    assert (found != threading.get_ident()) == in_thread


async def test_the_work_on_several_pages_with_many_tracks_runs_one_after_another() -> None:
    delivery, may_end, begun = Engine(Settings()).delivery, threading.Event(), list[int]()

    def work() -> None:
        begun.append(threading.get_ident())
        may_end.wait()

    tasks = [spawn(delivery.by_tracks(page(FEW_TRACKS + 1), work), name="request") for _ in range(5)]
    try:
        await eventually(lambda: begun)
        for _ in range(3):  # each of the other requests runs in the first iteration
            await asyncio.sleep(0)
        assert len([task for task in asyncio.all_tasks() if task.get_name() == "many tracks"]) == 1
        assert len(begun) == 1
    finally:
        may_end.set()
        await asyncio.gather(*tasks)
    assert len(begun) == 5


async def test_the_first_of_several_requests_builds_the_openapi_document_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, threads = create_app(Settings()), list[int]()
    build: Callable[[], dict[str, Any]] = app.openapi

    def counted() -> dict[str, Any]:
        threads.append(threading.get_ident())
        return build()

    monkeypatch.setattr(app, "openapi", counted)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(3)))
        answers.append(await client.get("/openapi.json"))
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    assert [answer.json()["info"]["title"] for answer in answers] == ["ServerPY"] * 4
    assert app.openapi_schema is None, "the dictionary takes more memory than the document"


async def test_only_a_limited_number_of_requests_wait_until_the_openapi_document_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each request that waits keeps a place of the limited client connections."""
    app, may_end = create_app(Settings()), threading.Event()
    build: Callable[[], dict[str, Any]] = app.openapi
    monkeypatch.setattr(app, "openapi", lambda: (may_end.wait(), build())[1])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        asked = [spawn(client.get("/openapi.json"), name="request") for _ in range(2 * MOST_WAITING)]
        try:
            await eventually(lambda: sum(task.done() for task in asked) == MOST_WAITING)
            refused = [task.result() for task in asked if task.done()]
        finally:
            may_end.set()
        answers = await asyncio.gather(*asked)
        assert (await client.get("/openapi.json")).status_code == 200
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(503, "busy")] * MOST_WAITING
    assert all(answer.headers["retry-after"] for answer in refused)
    assert [answer.status_code for answer in answers].count(200) == MOST_WAITING


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_the_openapi_document_is_built_after_the_first_request_for_it_has_failed_or_was_cancelled(
    how: str,
) -> None:
    app = FastAPI()
    builds, may_end = list[str](), threading.Event()

    def build() -> dict[str, Any]:
        builds.append(how)
        may_end.wait(PATIENCE_SECONDS)
        if how == "fails" and len(builds) == 1:
            raise RuntimeError(how)
        return {"openapi": "3.1.0"}

    app.openapi = build  # type: ignore[method-assign]  # FastAPI's documentation shows this way to replace the schema
    document = Document(app)
    first = spawn(document.json(), name="request")
    await eventually(lambda: builds)
    if how == "is cancelled":
        first.cancel()
    may_end.set()
    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await first
    assert await document.json("/films") == b'{"openapi":"3.1.0","servers":[{"url": "/films"}]}'


async def test_the_keys_of_signed_links_are_derived_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def counted(secret: str) -> LinkKey:
        threads.append(threading.get_ident())
        return derive(secret)

    monkeypatch.setattr(link_secrets, "derive", counted)
    secrets = LinkSecrets(["a secret that is long enough", "another secret of that length"], None)
    first, *others = await asyncio.gather(*(secrets.keys() for _ in range(3)))
    assert others == [first] * 2
    assert len(threads) == 2
    assert threading.get_ident() not in threads
