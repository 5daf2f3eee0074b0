"""The generator of docs/settings.md from the fields of `Settings`. With `--check` it only reports whether the file is
up to date. Run it as `python -m serverpy.cli.docs` in a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from pydantic.fields import FieldInfo

from serverpy.cli.options import choices_of, default_of, unit_of
from serverpy.memory.profile import PROFILES
from serverpy.settings import Settings
from serverpy.settings.sources import environment_name
from serverpy.settings.types import format_size

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Made by `make settings-doc` from serverpy/settings/fields.py: change it there. -->

Each setting is a key in the file `serverpy.toml` (in the working directory, or the file that `SERVERPY_CONFIG` names),
an environment variable, and an option of `serverpy serve`. Options override the environment, which overrides the file.

- Items of a list are separated by commas or spaces; in the file, a list may also be an array. An empty list is `none`.
- Sizes are bytes, or a number with `KiB`, `MiB`, `GiB` or `TiB`. Durations are seconds.
- An empty value or `none` unsets an optional setting.
- An unknown key in the file is an error; an unknown `SERVERPY_*` variable causes a warning.

```toml
# serverpy.toml
host = "0.0.0.0"
require_key = true
api_keys_file = "/etc/serverpy/keys.toml"
profile = "medium"
memory_budget = "512MiB"
allow_networks = ["10.1.0.0/16", "127.0.0.1:8001"]
```

## All settings

| file | environment | option | unit | default | meaning |
|---|---|---|---|---|---|
"""

TAIL = """
## Profiles

`auto` chooses the largest profile for which the memory (of the machine, or the limit of its cgroup) and the cores
suffice.

| profile | needs | MAX_WORKERS | QUEUE_CHUNKS | MAX_STREAMS | MEMORY_BUDGET |
|---|---|---|---|---|---|
"""

NEEDS = {"small": "–", "medium": "4 GB, 2 cores", "large": "8 GB, 4 cores"}

NOTES = """
## Not in this version

`STATE_URL` exists so that a configuration need not change later: any value but `memory://` is refused at start.
"""


def page() -> str:
    """Return the whole of docs/settings.md as Markdown."""
    settings = "\n".join(_row(name, field) for name, field in Settings.model_fields.items())
    profiles = "\n".join(
        f"| `{profile.name}` | {NEEDS[profile.name]} | {profile.max_workers} | {profile.queue_chunks} "
        f"| {profile.max_streams} | {format_size(profile.memory_budget)} |"
        for profile in PROFILES.values()
    )
    return f"{HEAD}{settings}\n{TAIL}{profiles}\n{NOTES}"


def _row(name: str, field: FieldInfo) -> str:
    choices = choices_of(field)
    meaning = (field.description or "") + (f" One of {', '.join(f'`{word}`' for word in choices)}." if choices else "")
    option = f"--{name.replace('_', '-')}"
    return (
        f"| `{name}` | `{environment_name(name)}` | `{option}` | {unit_of(field) or '–'} "
        f"| {default_of(field)} | {meaning.replace('|', chr(92) + '|')} |"
    )


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with status 1 if docs/settings.md is out of date.")
def command(check: bool) -> None:
    if not check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        print(f"{PAGE.name} is out of date: run make settings-doc", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    command()
