"""Tests of the bound on extractions under way: the places of a client and of a host, and the queue."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.errors import Busy
from serverpy.extraction.admission import Admission, Applicant
from serverpy.tasks import cancel, spawn


async def test_a_client_gets_half_of_the_places_and_a_host_a_quarter() -> None:
    admission = Admission(8)
    for number in range(4):
        await admission.enter(Applicant("greedy", f"h{number}"), 0)
    with pytest.raises(Busy):
        await admission.enter(Applicant("greedy", "another"), 0)
    for number in range(2):
        await admission.enter(Applicant(f"c{number}", "slow"), 0)
    with pytest.raises(Busy):
        await admission.enter(Applicant("c2", "slow"), 0)
    await admission.enter(Applicant("c2", "fast"), 0)
    assert (admission.taken, admission.refused) == (7, 2)


async def test_the_operator_has_no_limit_of_its_own() -> None:
    admission = Admission(4)
    for number in range(4):
        await admission.enter(Applicant("", f"h{number}"), 0)
    with pytest.raises(Busy):
        await admission.enter(Applicant("", "h4"), 0)


async def test_a_place_goes_to_the_first_that_may_have_it() -> None:
    admission = Admission(4)
    first = Applicant("a", "one")
    for applicant in (first, Applicant("a", "two"), Applicant("b", "three"), Applicant("b", "four")):
        await admission.enter(applicant, 0)
    entered: list[str] = []

    async def enter(client: str, host: str) -> None:
        await admission.enter(Applicant(client, host), 60)
        entered.append(client)

    waiting = [spawn(enter(*each), name="enter") for each in (("b", "x"), ("c", "two"), ("c", "y"), ("d", "z"))]
    await asyncio.sleep(0)
    assert admission.waiting == 4
    admission.leave(first)
    await waiting[2]
    assert entered == ["c"]
    for task in waiting:
        await cancel(task)
    assert (admission.taken, admission.waiting) == (4, 0)


async def test_a_request_that_is_cancelled_or_too_late_gives_its_place_to_the_next() -> None:
    admission = Admission(1)
    one = Applicant("a", "h")
    await admission.enter(one, 0)
    late = spawn(admission.enter(one, 60), name="late")
    following = spawn(admission.enter(one, 60), name="following")
    await asyncio.sleep(0)
    admission.leave(one)
    late.cancel()  # in the same turn of the event loop in which the place came
    await following
    assert (admission.taken, admission.waiting) == (1, 0)
    admission.leave(one)
    assert admission.taken == 0


def test_the_host_of_a_page_is_compared_without_case_port_and_final_dot() -> None:
    hosts = {Applicant.of("", url).host for url in ("http://Site.example:81/x", "https://u@site.example./y")}
    assert hosts == {"site.example"}
