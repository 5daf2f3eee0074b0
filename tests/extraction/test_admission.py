"""Tests of the limit on concurrent extractions: the share of one client, the share of one host, and the queue of
waiting extractions."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.errors import Busy
from serverpy.extraction.admission import Admission, Applicant
from serverpy.extraction.values import OwnAddress
from serverpy.tasks import cancel, spawn


async def test_one_client_may_use_half_of_the_extraction_places_and_one_host_may_use_a_quarter() -> None:
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


async def test_the_operator_may_use_all_extraction_places() -> None:
    admission = Admission(4)
    for number in range(4):
        await admission.enter(Applicant("", f"h{number}"), 0)
    with pytest.raises(Busy):
        await admission.enter(Applicant("", "h4"), 0)


async def test_a_free_place_goes_to_the_first_waiting_extraction_whose_client_and_host_are_below_their_limits() -> None:
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


async def test_an_extraction_that_is_cancelled_when_it_gets_a_place_passes_the_place_to_the_next_one() -> None:
    admission = Admission(1)
    one = Applicant("a", "h")
    await admission.enter(one, 0)
    late = spawn(admission.enter(one, 60), name="late")
    following = spawn(admission.enter(one, 60), name="following")
    await asyncio.sleep(0)
    admission.leave(one)
    late.cancel()  # in the iteration of the event loop in which the place became free
    await following
    assert (admission.taken, admission.waiting) == (1, 0)
    admission.leave(one)
    assert admission.taken == 0


def test_hosts_of_pages_are_compared_without_case_and_port_and_final_dot() -> None:
    hosts = {Applicant.of("", url).host for url in ("http://Site.example:81/x", "https://u@site.example./y")}
    assert hosts == {"site.example"}


def test_an_own_address_counts_against_its_host_or_else_against_its_scheme() -> None:
    addresses = ("https://Site.example/1", "kaltura:1:2", "nrk:3")
    hosts = [Applicant.of("", str(OwnAddress("Any", address, {"title": "Title"}))).host for address in addresses]
    assert hosts == ["site.example", "kaltura", "nrk"]
