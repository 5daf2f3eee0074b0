"""Why claims turned out as they did: paragraphs written by the verdict, true whichever way it falls.

A remark is about one or more claims. Its first sentence states claim and measurement; what follows depends on the
verdict. A remark whose first claim was not measured is one sentence saying so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serverpy.bench.report.claims import Judged, Verdict

HELD, HIGH, LOW, WRONG = Verdict.HELD, Verdict.TOO_HIGH, Verdict.TOO_LOW, Verdict.WRONG


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """`by` holds the text for each verdict of the first of `about`; the others only lend their figures."""

    title: str
    about: tuple[str, ...]
    by: Mapping[Verdict, str]
    always: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    title: str
    text: str


def say(remark: Remark, judged: Mapping[str, Judged]) -> Said:
    first = judged[remark.about[0]]
    if first.verdict in (Verdict.NOT_MEASURED, Verdict.FAILED):
        return Said(remark.title, f"The document says {_claimed(first)}. It was {first.measured} in this run.")
    measured = [judged[key] for key in remark.about]
    figures = "; ".join(f"{each.claim.what} ({each.claim.on}): {each.measured}" for each in measured)
    parts = (f"The document says {_claimed(first)}. Measured: {figures}.", remark.by.get(first.verdict), remark.always)
    return Said(remark.title, " ".join(part for part in parts if part))


def _claimed(judged: Judged) -> str:
    return f"“{judged.claim.what}”: {judged.claim.claimed}"


REMARKS: tuple[Remark, ...] = (
    Remark(
        title="Relaying on the event loop against a thread and a queue",
        about=("200-winner", "10-winner", "50-winner"),
        by={
            WRONG: "Embedding does not win. A relay on the event loop has "
            "no stack and no queue; it reads the next bytes only when the client has taken the last, so that it holds "
            "about one chunk. A thread adds its stack and its own HTTP client, and a queue is there to be full: with a "
            "slow reader every place of it is taken.",
            HELD: "On this machine embedding is indeed the lighter one. That is not what the parts lead to expect (a "
            "relay on the event loop has neither a thread's stack nor a queue), so look at the two rows of the crowd, "
            "and at their bases, before building on it.",
        },
        always="The figure compares the whole process, base included; the memory of each further stream, where the "
        "base does not count, is in the first table of this page.",
    ),
    Remark(
        title="What a request in a thread adds",
        about=("sum-next-embedded", "sum-next-seed"),
        by={
            HIGH: "The document adds up 10 to 15 MB for a thread, 1 to 20 MB for the queue and 5 to 10 MB for a "
            "client, as if each were filled. They are not: of a stack only the touched pages are memory, a queue "
            "holds what was put into it, and an HTTP connection is a few buffers.",
            HELD: "The sum of thread, queue and client is about what the document says.",
            LOW: "More than the document says: yt-dlp's own downloader grows its blocks to 4 MiB for a fast source "
            "unless it is told not to, and what a thread has freed its arena keeps.",
        },
    ),
    Remark(
        title="What a thread costs",
        about=("emb-thread", "emb-thread-stock"),
        by={
            HIGH: "A thread's stack is 8 MB of address space, which is what the document seems to have counted. "
            "Memory is only what was touched of it.",
            HELD: "A thread with what it loads at its first use reaches the document's figure here.",
            LOW: "More than the document says: its first use loads what later threads share.",
        },
    ),
    Remark(
        title="What a child costs",
        about=("child-total", "child-interpreter", "child-library"),
        by={
            HIGH: "A child is dear, but less so than claimed. PSS divides what processes share (the interpreter's "
            "code, the libraries' pages) among them; RSS, which counts shared pages again for every process, would "
            "come closer to the document.",
            HELD: "A child costs what the document says.",
            LOW: "A child costs even more than the document says.",
        },
    ),
    Remark(
        title="How much embedding saves",
        about=("sum-embedded-saved-embedded", "50-saved-embedded", "200-saved-embedded"),
        by={
            HIGH: "It saves less than claimed: the base, which is there before the first request, weighs against it "
            "while few are connected.",
            HELD: "So it does.",
            LOW: "It saves more than claimed. The document reckons with 25 MB for a stream and 80 to 110 MB for a "
            "child; what the two really cost stands in the first table of claims.",
        },
        always="The more are connected, the less the base counts; at one request alone embedding saves little.",
    ),
    Remark(
        title="The base",
        about=("emb-base", "emb-base-seed"),
        by={
            HIGH: "Less than claimed: extractors are loaded when they are needed, not all at once.",
            HELD: "As claimed, although it stands in two processes here: the server, and a worker that has yt-dlp.",
            LOW: "More than claimed: server and worker are two interpreters, which is the price for a serving loop "
            "that never waits for yt-dlp.",
        },
    ),
    Remark(
        title="200 people",
        about=("200-embedded-embedded", "200-embedded-seed", "end-200-embedded"),
        by={
            HIGH: "The document multiplied its 25 MB for a request by 200, so that what is wrong with the one is "
            "wrong with the other.",
            HELD: "As claimed.",
            LOW: "More than claimed.",
        },
    ),
    Remark(
        title="Children leak, threads do not",
        about=("time-child-cleanup", "time-child-zombies", "seq-growth-subprocess"),
        by={
            WRONG: "A child gives back everything when it ends, which is the one thing a process does better than a "
            "thread. Zombies are children that nobody waited for: a fault of the parent, not of the method.",
            HELD: "Memory stays behind after the children have gone; whether zombies are the reason, their row tells.",
        },
    ),
    Remark(
        title="The two charts over two minutes",
        about=("time-plateau-embedded", "time-child-peak"),
        by={},
        always="The document does not say how many clients its charts had, so that their heights cannot be compared "
        "with any run, only their shapes: whether memory stays level while the clients do, and what is left when they "
        "have gone. Those have rows of their own.",
    ),
    Remark(
        title="What is given back when all have gone",
        about=("time-released-embedded", "time-released-seed"),
        by={
            WRONG: "Not at once. What a thread has freed, the allocator keeps in that thread's arena for the next "
            "stream. By itself that is no leak: a leak shows as growth from request to request, which has a row of "
            "its own.",
            HELD: "What the streams held went back to the system.",
        },
    ),
    Remark(
        title="Embedded memory is stable",
        about=("seq-growth-embedded", "seq-growth-seed"),
        by={
            HELD: "It stays within the document's 10 MB. That is not for granted: an instance of yt-dlp that is not "
            "closed is kept by a log handler, 0.7 MB each, whatever the garbage collector does.",
            LOW: "It grows by more than claimed. What an allocator keeps for the next request is not lost, and "
            "settles; what grows with every request is a leak. The row with more requests tells them apart.",
        },
    ),
    Remark(
        title="Queue and chunk",
        about=("queue-20-small", "queue-20-large", "queue-latency", "queue-speed"),
        by={
            HIGH: "A queue holds at most its places times the chunk, and here less.",
            HELD: "A queue that is full holds its places times the chunk, as claimed.",
            LOW: "Beside the queue there is always a thread, a connection and yt-dlp's block in hand, which at chunks "
            "of 8 KB weigh more than the queue itself.",
        },
        always="So the size to set is the product, in bytes. A queue between a source and a slower reader is full and "
        "delays nothing; between a source and a faster reader it is empty and speeds up nothing. That is why the first "
        "byte should not depend on its length; the figures for that are the last two.",
    ),
    Remark(
        title="Time to the first byte",
        about=("end-latency-embedded", "end-latency-child-subprocess", "child-spawn"),
        by={
            HIGH: "Sooner than claimed: against the bench's own site on the same machine only the extraction counts. A "
            "real site adds its own answers, the same for every method.",
            HELD: "As claimed, with the source on the same machine; a real site adds its own answers.",
            LOW: "Later than claimed, although the source is on the same machine.",
        },
        always="A child must load yt-dlp and match the address against every extractor before it asks for the first "
        "byte; that is CPU time, so it grows with the number of children that start at once.",
    ),
    Remark(
        title="Requests a second",
        about=("end-rate-embedded", "end-rate-seed", "end-rate-child-subprocess"),
        by={
            HIGH: "Fewer than claimed: every request here has an extraction of its own, and extractions hold the "
            "interpreter's lock, so that more threads do not help.",
            HELD: "As claimed, each with an extraction of its own.",
            LOW: "More than claimed: an extraction in a process that has yt-dlp loaded and its extractors matched "
            "once is short.",
        },
        always="A request whose extraction is cached costs none of this; see the table of rates.",
    ),
    Remark(
        title="Collecting garbage after each request",
        about=("gc-memory", "gc-cpu"),
        by={
            HIGH: "It saves less than claimed. Python frees by counting references; the collector is for cycles, and "
            "it runs by itself. A forced collection walks every object of yt-dlp each time.",
            HELD: "It saves what was claimed; its price in CPU is the second figure.",
            LOW: "It saves more than claimed; its price in CPU is the second figure.",
        },
    ),
    Remark(
        title="The number of workers",
        about=("workers-20", "workers-10", "workers-50"),
        by={
            HIGH: "Less than claimed: the base is shared, and a busy worker adds one stream. The number of workers is "
            "a limit on how many can stream by threads at once more than a matter of memory.",
            HELD: "As claimed.",
            LOW: "More than claimed.",
        },
    ),
    Remark(
        title="How many a server carries",
        about=("small-users", "medium-users", "large-users", "small-embedded", "medium-embedded", "large-embedded"),
        by={
            HIGH: "Fewer than the document's number.",
            HELD: "As many as the document says.",
            LOW: "More than the document's number: a relayed stream is bounded by the memory budget, not by threads, "
            "and there is room for many in it.",
        },
        always="Through `embedded` a profile carries as many as it has workers, by design: a thread cannot serve two. "
        "How many people a line to the internet carries is another question, which loopback does not ask.",
    ),
    Remark(
        title="A limit on concurrent streams",
        about=("limit",),
        by={
            WRONG: "The peak was no lower with the limit: what a further stream keeps is little beside the base, so "
            "that turning some away saves little.",
            HELD: "It does, at the price of those who wait or are turned away.",
        },
        always="ServerPY reserves each stream's bytes before its first, and counts those that wait as well; a "
        "semaphore in a middleware, as in the document, lets the waiting line grow without limit.",
    ),
)
