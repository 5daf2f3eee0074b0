"""The server's answers to the requests in tests/record/answers.json, in a form that is the same in every run.

Port numbers are replaced by names. A validator is recorded as `site` if it is that of a file of the sample site, and as
`present` otherwise, because ETag and Last-Modified contain the time at which the file was made. A body that is a file
of the sample site, or a range of one, is recorded by the file's name. Any other body is recorded by its length and
SHA-256. A truncated body is recorded as `cut`, because its number of bytes depends on timing. The status, the headers
and the `code` of an error are recorded, but not its text.

The sample media are made by encoders, whose output may differ between versions and processors. `Record.media` is a
fingerprint of the media; `relaxed` removes from an answer the parts that depend on the media's bytes. The bytes of
photos differ with the number of processors, so the photos are not part of the fingerprint, and their lengths are not
recorded.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from serverpy.sample import SampleSite, large_sha256
from serverpy.sample.content import FileContent, large_content
from serverpy.sample.hls import SHAPES, VARIANTS, parts_of
from serverpy.sample.make import ensure_media
from serverpy.sample.media import etag_of
from tests.record.samples import SECURE, Case, Sample, cases
from tests.server import Server, serving
from tests.written import as_relayed

Answer = dict[str, Any]
"""An answer as a JSON object with the keys `status`, `headers` (only those that differ from COMMON), and `code`, `body`
or `info`."""

ANSWER_SECONDS = 300.0
"""Timeout in seconds of each read by the client."""
SETTINGS: dict[str, Any] = {
    "profile": "medium",
    "max_children": 4,
    "wait_seconds": 300,
    "extract_timeout": 300,
    "stall_timeout": 300,
    "connect_timeout": 60,
    "max_streams": 16,
}
"""Settings with which the server's answers do not depend on the machine and its speed."""
UNSTABLE = frozenset({"date", "x-request-id", "server-timing"})
EVERY = {
    "cross-origin-resource-policy": "same-site",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}
COMMON = {
    "problem": {**EVERY, "cache-control": "no-store", "content-type": "application/problem+json"},
    "info": {**EVERY, "cache-control": "no-store", "content-type": "application/json"},
    "stream": {
        **EVERY,
        "cache-control": "private, no-cache",
        "content-security-policy": "script-src 'none'; object-src 'none'",
    },
}
"""Headers that nearly all answers of the same kind (problem document, `/info` or stream) have. For each answer, the
record contains only the headers that differ from these, and the names of those that the answer lacks."""
MISSING, PRESENT, SITE, CUT = "(missing)", "present", "site", "cut"
LARGE_MIB = 6
PHOTO_SUFFIX, PHOTO_TYPE = ".jpg", "image/jpeg"


class Files:
    """Index of the sample site's files. It finds the name of a file by its bytes, and tells whether a validator is that
    of any of the files."""

    def __init__(self, directory: Path) -> None:
        self._names: dict[str, str] = {}
        self._validators: set[str] = set()
        digest = hashlib.sha256()
        for path in sorted(each for each in directory.rglob("*") if each.is_file()):
            name = path.relative_to(directory).as_posix()
            content = path.read_bytes()
            known = self._learn(name, content)
            if path.suffix != PHOTO_SUFFIX:
                digest.update(f"{name} {known}\n".encode())
            self._validators |= {etag_of(FileContent(path)), formatdate(path.stat().st_mtime, usegmt=True)}
        self._learn_hls(directory / "hls")
        self._learn_large(directory / "prog.mp4")
        self.fingerprint = digest.hexdigest()

    def name(self, body: bytes) -> str:
        """Return the name of the file, or range of a file, that consists of these bytes. Returns the length and SHA-256
        of the bytes if there is no such file."""
        digest = hashlib.sha256(body).hexdigest()
        return self._names.get(digest) or f"{len(body)} bytes {digest}"

    def validator(self, value: str) -> str:
        return SITE if value in self._validators else PRESENT

    def _learn(self, name: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self._names.setdefault(digest, name)
        if len(content) >= 5000:
            for part, data in (("[1000:5000]", content[1000:5000]), ("[-1000:]", content[-1000:])):
                self._names.setdefault(hashlib.sha256(data).hexdigest(), name + part)
        return digest

    def _learn_hls(self, directory: Path) -> None:
        """Store the hashes of the concatenated segments of each variant, both as they are on the site and as the relay
        sends them."""
        for kind in ("ts", "fmp4", "audio", *SHAPES):
            for variant in VARIANTS:
                content = b"".join((directory / part).read_bytes() for part in parts_of(kind, variant))
                name = f"segments of hls/{kind}/{variant}"
                self._learn(name, content)
                self._learn(f"{name} with durations", as_relayed(content, has_length=kind == "byterange-fmp4"))

    def _learn_large(self, prog: Path) -> None:
        large = large_content(LARGE_MIB, prog)
        assert large is not None
        self._names[large_sha256(LARGE_MIB)] = f"large-{LARGE_MIB}.mp4"
        self._validators.add(etag_of(large))


@dataclass(frozen=True, slots=True)
class Asker:
    """HTTP client of one server."""

    server: Server
    files: Files

    def ask(self, case: Case) -> Answer:
        """Return the answer to one request. Raises OSError if the server closes the connection without a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            headers = {} if case.range is None else {"Range": case.range}
            connection.request(case.verb, self._target(case), headers=headers)
            response = connection.getresponse()
            try:
                body: bytes | None = response.read()
            except (http.client.IncompleteRead, ConnectionResetError):
                body = None
        found = {name.lower(): value for name, value in response.getheaders()}
        return self._stable(case, response.status, found, body)

    def _target(self, case: Case) -> str:
        assert self.server.site.https is not None
        return case.target(self.server.site.http, self.server.site.https)

    def ask_all(self, sample: Sample, wanted: Callable[[Case], bool]) -> dict[str, Answer]:
        return {str(case): self.ask(case) for case in cases(sample) if wanted(case)}

    def _stable(self, case: Case, status: int, headers: Mapping[str, str], body: bytes | None) -> Answer:
        if headers.get("content-type") == "application/problem+json":
            problem: Answer = {"status": status, "headers": self._headers("problem", headers)}
            return {**problem, "code": json.loads(body)["code"]} if body else problem
        if case.path == "/info":
            info = CUT if body is None else self._info(json.loads(self._named(body.decode())))
            return {"status": status, "info": info, "headers": self._headers("info", headers)}
        answer: Answer = {"status": status, "headers": self._headers("stream", headers)}
        if case.verb != "HEAD":
            answer["body"] = CUT if body is None else self.files.name(body)
        return answer

    def _headers(self, kind: str, headers: Mapping[str, str]) -> dict[str, str]:
        stable = {name: self._named(value) for name, value in headers.items() if name not in UNSTABLE}
        for name in ("etag", "last-modified"):
            if name in stable:
                stable[name] = self.files.validator(stable[name])
        if disposition := stable.get("content-disposition"):
            stable["content-disposition"] = _short_disposition(disposition)
        if stable.get("content-type") == PHOTO_TYPE:
            stable = {name: _without_lengths(name, value) for name, value in stable.items()}
        if kind != "stream":  # the Content-Length varies with port numbers and the text of errors
            stable.pop("content-length", None)
        common = COMMON[kind]
        others = {name: value for name, value in stable.items() if common.get(name) != value}
        return others | {name: MISSING for name in common if name not in stable}

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return a summary of an `/info` document, and a hash of the whole document. The summary lets a reader
        understand a difference."""
        text = json.dumps(info, sort_keys=True, ensure_ascii=False)
        formats = [f"{each['id']} {''.join(sorted(name[0] for name in each['methods']))}" for each in info["formats"]]
        return {
            "kind": info["kind"],
            "title": info["title"],
            "formats": ", ".join(formats),
            "entries": len(info["entries"]) + len(info["images"]),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }

    def _named(self, text: str) -> str:
        """Return `text` with names in place of the site's origins and port numbers."""
        site = self.server.site
        for origin, name in (
            (site.http, "SITE"),
            (site.https, SECURE),
            (f"http://127.0.0.1:{site.closed_port}", "CLOSED"),
        ):
            assert origin is not None
            host = origin.partition("://")[2]
            text = text.replace(origin, name).replace(host, name).replace(host.replace(":", "_"), name)
        return text


@contextlib.contextmanager
def asking() -> Iterator[Asker]:
    """Run a sample site and a server during the block. Yields a client of the server."""
    with SampleSite(https_port=0) as site, serving(site, **SETTINGS) as server:
        yield Asker(server, Files(ensure_media()))


def answers(
    asker: Asker,
    samples: Iterable[Sample],
    wanted: Callable[[Case], bool],
    jobs: int,
    done: Callable[[Sample], None] = lambda _sample: None,
) -> dict[str, Answer]:
    """Return the answers to all wanted requests, keyed by request. Sends requests for `jobs` samples at a time. The
    requests for one sample are sent one after the other."""
    found: dict[str, Answer] = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(asker.ask_all, sample, wanted): sample for sample in samples}
        try:
            for future in as_completed(futures):
                found |= future.result()
                done(futures[future])
        finally:
            pool.shutdown(cancel_futures=True)
    return found


# The record file


@dataclass(frozen=True, slots=True)
class Record:
    """The recorded responses, keyed by request, and the fingerprint of the sample media with which they were
    recorded."""

    media: str
    answers: Mapping[str, Answer]

    def text(self) -> str:
        """Return JSON with one line for each request. If an answer equals an earlier answer for the same sample, its
        line contains only the name of the earlier request: `relay` is the request by `relay` without a range. In a line
        with `"as":"relay"`, the answer equals the answer to `relay`, except for the other fields of the line."""
        seen: dict[str, dict[str, str]] = {}
        lines = {}
        for name in sorted(self.answers, key=_place):
            sample, _, kind = name.partition(" ")
            value = _json(self.answers[name])
            first = seen.setdefault(sample, {}).setdefault(value, kind)
            base = self.answers.get(f"{sample} {BASE}")
            shorter = (
                value
                if base is None or kind == BASE
                else min(value, _json(_changes(base, self.answers[name])), key=len)
            )
            lines[name] = shorter if first == kind else _json(first)
        body = ",\n".join(f"{_json(name)}:{lines[name]}" for name in sorted(lines))
        return f'{{"media":{_json(self.media)},\n"answers":{{\n{body}\n}}}}\n'

    @classmethod
    def read(cls, path: Path) -> Record:
        record = json.loads(path.read_text(encoding="utf-8"))
        lines = record["answers"]

        def whole(name: str) -> Answer:
            sample, value = name.partition(" ")[0], lines[name]
            if isinstance(value, str):
                return whole(f"{sample} {value}")
            return _changed(whole(f"{sample} {value['as']}"), value) if "as" in value else dict(value)

        return cls(record["media"], {name: whole(name) for name in lines})


BASE = "relay"


def _changes(base: Answer, answer: Answer) -> Answer:
    """Return the differences between `answer` and `base`, from which `_changed` can restore `answer`."""
    changes = _replaced(base, answer)
    if "headers" in changes:
        changes["headers"] = _replaced(base["headers"], answer["headers"])
    return {**changes, "as": BASE}


def _changed(base: Answer, changes: Answer) -> Answer:
    return _without_nulls({**base, **changes, "headers": _without_nulls(base["headers"] | changes.get("headers", {}))})


def _replaced(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `other` that differ from `base`. The value of a key that only `base` has is None."""
    return {key: other.get(key) for key in (*base, *other) if base.get(key) != other.get(key)}


def _without_nulls(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None and key != "as"}


def _place(name: str) -> tuple[bool, bool, str]:
    """Return the sort key of a request: the method `relay` comes before other methods, and a request without a range
    before requests with a range."""
    kind = name.partition(" ")[2]
    return not kind.startswith("relay"), "=" in kind, name


def _short_disposition(value: str) -> str:
    """Return Content-Disposition with `filename*` replaced by a short mark if it equals `filename`."""
    match = re.fullmatch(r"(\w+; filename=\"(.*)\"); filename\*=UTF-8''(.*)", value)
    return f"{match[1]}; filename*=SAME" if match and unquote(match[3]) == match[2] else value


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def relaxed(answer: Answer) -> Answer:
    """Return an answer without the parts that depend on the bytes of the sample media."""
    headers = {name: _without_lengths(name, value) for name, value in answer["headers"].items()}
    answer = {**answer, "headers": headers}
    if "body" in answer:
        answer["body"] = re.sub(r"^\d+ bytes [0-9a-f]{64}$", "bytes", answer["body"])
    if isinstance(answer.get("info"), dict):
        answer["info"] = {name: answer["info"][name] for name in ("kind", "title", "entries")}
    return answer


def _without_lengths(name: str, value: str) -> str:
    if name in ("content-length", "x-estimated-content-length"):
        return PRESENT
    return re.sub(r"\d+", "N", value) if name == "content-range" else value


def differences(recorded: Record, found: Record, asked: Iterable[str]) -> list[str]:
    """Return the answers that differ, for the requests in `asked`. A line that begins with - contains the recorded
    answer, and a line that begins with + the new answer. If the sample media differ from those of the record, compares
    only the parts of answers that do not depend on the media."""
    view: Callable[[Answer], Answer] = dict if recorded.media == found.media else relaxed
    lines = []
    for name in sorted(asked):
        before, after = (each.answers.get(name) for each in (recorded, found))
        old, new = (None if each is None else _json(view(each)) for each in (before, after))
        if old != new:
            lines += [f"{sign} {name} {text}" for sign, text in (("-", old), ("+", new)) if text is not None]
    return lines
