"""Tests with requests that schemathesis generates from the OpenAPI schema and sends to a server over a socket. Each
response has a status and an error code that the schema documents for the operation, and no request gets 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import Case, openapi
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema

from serverpy.api.problems import MEDIA_TYPE
from serverpy.app import create_app
from serverpy.sample.site import SampleSite
from serverpy.settings import Settings
from tests.links import issue
from tests.server import Server, serving

PAGES = ("/page/prog", "/media/prog.mp4", "/page/hls-ts", "/page/list", "/page/none", "/nowhere")
DOCUMENT = create_app(Settings()).openapi()
SCHEMA: BaseSchema = openapi.from_dict(DOCUMENT)
CASES = st.one_of([found.ok().as_strategy() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)])


@pytest.fixture(scope="module")
def open_server(site: SampleSite) -> Iterator[Server]:
    with serving(site, rate_limit="100000/second") as server:
        yield server


def check(server: Server, case: Case[Any], page: str, is_valid: bool) -> None:
    """Send the request of `case`. If `is_valid` is true, first set the URL parameter of the request to the URL of
    `page`, and its link token to a valid token, if its operation has these parameters. Raises AssertionError if the
    schema does not document the response."""
    if is_valid:
        _aim(server, case, page)
    answer = case.call(base_url=server.url, timeout=120)
    allowed = case.operation.definition.raw["responses"]
    assert answer.status_code != 500, (case.as_curl_command(), answer.content)
    if answer.status_code == 405:
        return  # schemathesis may send a method that the path does not support
    assert str(answer.status_code) in allowed, (case.as_curl_command(), answer.content)
    if answer.status_code >= 400 and case.method != "HEAD" and answer.status_code != 503:
        problem = answer.json()
        assert answer.headers["content-type"] == [MEDIA_TYPE]
        documented = allowed[str(answer.status_code)]["content"][MEDIA_TYPE]["examples"]
        assert problem["code"] in documented, (case.as_curl_command(), problem)


def _aim(server: Server, case: Case[Any], page: str) -> None:
    url = f"{server.site.http}{page}"
    if "url" in (case.query or {}):
        case.query["url"] = url
    if isinstance(case.body, dict) and "url" in case.body:
        case.body["url"] = url
    if "token" in (case.path_parameters or {}):
        case.path_parameters["token"] = issue(server, page).split("/")[2]


def checked(server: Server, examples: int) -> None:
    quiet: Any = [HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=examples, deadline=None, suppress_health_check=quiet, database=None, derandomize=False)
    @given(case=CASES, page=st.sampled_from(PAGES), is_valid=st.booleans())
    def run(case: Case[Any], page: str, is_valid: bool) -> None:
        assume(case.operation.path != "/logout" or case.method == "POST")
        check(server, case, page, is_valid)

    run()


def test_each_of_300_generated_requests_gets_a_documented_response(open_server: Server) -> None:
    checked(open_server, 300)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_each_of_10000_generated_requests_gets_a_documented_response(open_server: Server) -> None:
    checked(open_server, 10_000)
