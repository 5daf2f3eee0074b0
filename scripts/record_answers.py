"""Recorder and checker of the server's answers to all requests for the sample site.

    python scripts/record_answers.py --output tests/record/answers.json
    python scripts/record_answers.py --check tests/record/answers.json [--only PATTERN] [--jobs N]

The script starts the sample site and a server on loopback. It requests each sample by `auto`, `relay` and `embedded`,
with three ranges each (none, `bytes=1000-4999`, `bytes=-1000`), its `/info`, and the headers of its stream by HEAD. A
child process of the method `subprocess` takes two to four seconds of CPU, so this method is used only for the pages of
the sample site and a few media addresses without a range, and for three samples with ranges. Samples whose answers have
no end or depend on the machine are left out; tests/record/samples.py lists them. Run the script before and after a
change that must not change any behaviour.

A record holds the status, the headers, the code of an error, and the body: the name of the sample's file, or length and
SHA-256. If the sample media of this machine differ from those of the record, --check compares only the parts of the
answers that do not depend on the bytes of the media, and says so.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.record.answers import Asker, Record, answers, asking, differences
from tests.record.samples import SAMPLES, Case, Sample, cases


def ask(asker: Asker, pattern: re.Pattern[str] | None, jobs: int) -> Record:
    """Send all requests whose name matches `pattern` to the server, and show the progress on standard error."""

    def wanted(case: Case) -> bool:
        return pattern is None or pattern.search(str(case)) is not None

    todo = [sample for sample in SAMPLES if any(wanted(case) for case in cases(sample))]
    count = 0

    def done(sample: Sample) -> None:
        nonlocal count
        count += 1
        print(f"{count}/{len(todo)} {sample}", file=sys.stderr, flush=True)

    return Record(asker.files.fingerprint, answers(asker, todo, wanted, jobs, done))


def check(recorded: Record, found: Record, pattern: re.Pattern[str] | None) -> int:
    """Print the differences between two records. Returns the exit status: 1 if there are differences, else 0."""
    if recorded.media != found.media:
        print("The sample media are not those of the record: lengths and hashes are not compared.")
    names = {name for name in (*recorded.answers, *found.answers) if pattern is None or pattern.search(name)}
    lines = differences(recorded, found, names)
    print("\n".join(lines) if lines else f"All {len(names)} answers are as recorded.")
    return 1 if lines else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--output", type=Path, metavar="FILE", help="write the recorded answers to FILE")
    todo.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="compare the server's answers with the record FILE; exit with 1 if any answer differs",
    )
    parser.add_argument(
        "--only",
        type=re.compile,
        metavar="PATTERN",
        help="send only requests whose name, such as '/page/prog relay bytes=-1000', matches this regular expression",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="number of samples to request at the same time (default: 2)"
    )
    options = parser.parse_args()
    recorded = None if options.check is None else Record.read(options.check)
    with asking() as asker:
        found = ask(asker, options.only, options.jobs)
    if recorded is not None:
        return check(recorded, found, options.only)
    options.output.write_text(found.text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
