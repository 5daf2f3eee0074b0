"""Tests of the response of `/info` for pages with thousands of formats and items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serverpy.api.info_response import ITEM_BYTES, PIECE_BYTES, InfoResponse
from serverpy.engine import Engine
from serverpy.errors import Busy
from serverpy.extraction.values import Entry, Media, Track
from serverpy.info import info_of
from serverpy.memory.budget import Budget
from serverpy.plan import Capabilities
from serverpy.settings import load_settings

ITEMS = 2000


@pytest.fixture(scope="module")
def capabilities() -> Capabilities:
    return Engine(load_settings(port=0)).delivery.capabilities


def page(items: int) -> Media:
    track: dict[str, Any] = {
        "url": "http://a.test/film",
        "protocol": "https",
        "ext": "mp4",
        "vcodec": "avc1",
        "acodec": "mp4a",
    }
    return Media(
        raw_id="1",
        id="1",
        title='"größer"\n' * items * 20,
        kind="playlist",
        extractor="Example",
        webpage_url="http://a.test/",
        tracks=tuple(Track(id=str(number), fps=float("nan"), **track) for number in range(items)),
        entries=tuple(Entry(title=str(number), url="http://a.test/") for number in range(items)),
    )


async def sent(response: InfoResponse, method: str = "GET") -> tuple[dict[str, Any], list[bytes]]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("the response must not read from the client")

    await response({"type": "http", "method": method}, receive, send)
    return messages[0], [each["body"] for each in messages[1:]]


@pytest.mark.parametrize("items", [0, 1, ITEMS])
async def test_the_streamed_json_of_info_equals_the_json_of_the_whole_info_model(
    capabilities: Capabilities, items: int
) -> None:
    start, pieces = await sent(InfoResponse(page(items), capabilities, None, Budget(1 << 26, 1, 0)))
    expected = json.loads(info_of(page(items), capabilities, None).model_dump_json())
    assert json.loads(b"".join(pieces)) == expected
    assert (b"content-length" in dict(start["headers"])) == (items < ITEMS)
    assert max(map(len, pieces)) < 3 * PIECE_BYTES


async def test_the_memory_of_a_large_info_response_is_charged_to_the_budget_while_the_response_is_sent(
    capabilities: Capabilities,
) -> None:
    budget = Budget(2 * ITEMS * ITEM_BYTES, 1, 0)
    assert budget.try_keep(ITEMS * ITEM_BYTES)
    with pytest.raises(Busy):
        await sent(InfoResponse(page(ITEMS), capabilities, None, budget))
    budget.shrink(ITEMS * ITEM_BYTES)
    await sent(InfoResponse(page(ITEMS), capabilities, None, budget))
    assert budget.used_bytes == 0


async def test_the_response_of_info_to_head_has_no_body(capabilities: Capabilities) -> None:
    _, pieces = await sent(InfoResponse(page(ITEMS), capabilities, None, Budget(1 << 26, 1, 0)), "HEAD")
    assert pieces == [b""]
