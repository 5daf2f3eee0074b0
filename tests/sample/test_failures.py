from __future__ import annotations

import ssl
from contextlib import closing
from http.client import HTTPSConnection
from urllib.parse import urlsplit

import pytest

from serverpy.sample import SampleSite
from serverpy.sample.failures import Failure

from .raw import Answer, ask, connect, receive

NAME = "audio.mp3"


def failing(site: SampleSite, how: str, *headers: str, silence_seconds: float = 30.0) -> Answer:
    return ask(f"{site.http}/fault/fails={how}/media/{NAME}", *headers, silence_seconds=silence_seconds)


@pytest.mark.parametrize("spec", ["reset", "reset@", "reset@third", "burn@first", "200@first", "@first"])
def test_a_fails_specification_with_an_unknown_failure_or_place_is_answered_with_400(
    site: SampleSite, spec: str
) -> None:
    with pytest.raises(ValueError, match="failure"):
        Failure.parse(spec)
    assert failing(site, spec).status == 400


@pytest.mark.parametrize(
    ("how", "end"), [("reset", "rst"), ("short", "fin"), ("stall", "silence"), ("404", "fin"), ("loop", "fin")]
)
def test_a_failure_in_the_middle_ends_the_body_of_a_response_before_the_middle_byte(
    site: SampleSite, how: str, end: str
) -> None:
    whole = site.path(NAME).read_bytes()
    middle = len(whole) // 2
    answer = failing(site, f"{how}@middle", silence_seconds=1.0)
    assert (answer.end, answer.body) == (end, whole[:middle])
    assert failing(site, f"{how}@middle", f"Range: bytes=0-{middle - 1}").end == "length"


def test_a_range_request_that_begins_shortly_before_the_failure_point_fails_too(site: SampleSite) -> None:
    middle = site.path(NAME).stat().st_size // 2
    near = f"Range: bytes={middle - 4096}-"
    assert failing(site, "503@middle", near).status == 503
    assert failing(site, "loop@middle", near).headers["location"] == f"{site.http}/fault/fails=loop@middle/media/{NAME}"
    assert len(failing(site, "short@middle", near).body) == 4096
    with connect(f"{site.http}/") as client:
        client.sendall(f"GET /fault/fails=refuse@first/media/{NAME} HTTP/1.1\r\nHost: {site.http[7:]}\r\n\r\n".encode())
        assert receive(client) == "rst"


def test_a_response_that_fails_at_the_last_byte_has_all_other_bytes(site: SampleSite) -> None:
    whole = site.path(NAME).read_bytes()
    assert failing(site, "short@last").body == whole[:-1]


def test_the_failure_garbage_sends_an_invalid_chunk_and_no_last_chunk(site: SampleSite) -> None:
    answer = failing(site, "garbage@middle")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert b"no chunk" in answer.body
    assert not answer.body.endswith(b"0\r\n\r\n")


def test_the_failure_drip_sends_the_whole_body_but_slowly(site: SampleSite) -> None:
    answer = failing(site, "drip@last")
    assert (answer.end, answer.body) == ("length", site.path(NAME).read_bytes())


def test_the_failure_tls_sends_bytes_that_are_not_a_tls_record() -> None:
    with SampleSite(https_port=0) as site:
        assert site.https is not None
        address = urlsplit(site.https)
        tls = ssl.create_default_context(cafile=site.ca_file)
        with closing(HTTPSConnection(address.hostname or "", address.port, context=tls)) as connection:
            connection.request("GET", f"/fault/fails=tls@middle/media/{NAME}")
            answer = connection.getresponse()
            with pytest.raises(ssl.SSLError):
                answer.read()


def test_the_fault_surplus_adds_bytes_after_the_body_and_the_fault_fields_adds_header_fields(site: SampleSite) -> None:
    whole = site.path(NAME).read_bytes()
    answer = ask(f"{site.http}/fault/surplus=100,fields=90/media/{NAME}", until_end=True, silence_seconds=1.0)
    assert int(answer.headers["content-length"]) == len(whole)
    assert answer.body[:-100] == whole
    assert sum(name.startswith("x-field-") for name in answer.headers) == 90
