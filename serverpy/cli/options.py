"""Command-line options made from the fields of `Settings`, which are the only source of an option's name, type, help
and default."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from serverpy.settings import Settings
from serverpy.settings.sources import environment_name
from serverpy.settings.types import format_size

Command = TypeVar("Command", bound=Callable[..., Any])

ENGINE_SETTINGS = {
    "How media are fetched": ("method", "proxy", "cookies_file", "impersonate", "source_address", "ca_file"),
    "What may be fetched": (
        "allow_networks", "deny_ports", "allow_sites", "deny_sites", "generic_extractor", "max_duration", "max_bytes",
    ),
    "How long to wait": ("connect_timeout", "extract_timeout", "stall_timeout", "wait_seconds"),
    "Memory and log": ("profile", "memory_budget", "log_level"),
}  # fmt: skip
"""The settings that are options of commands that start no server (`engine_options`), by section of the commands'
help."""
SHORT = {"method": "-m"}


class SettingType(click.ParamType[Any]):
    """The type of an option, which validates the value as the field of `Settings` does. The value stays text, because
    `Settings` parses all values again."""

    def __init__(self, field: FieldInfo) -> None:
        self.name = unit_of(field) or "text"
        annotated: Any = Annotated[(field.annotation, *field.metadata)]
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotated)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            self._adapter.validate_python(value)
        except ValidationError as error:
            message = error.errors(include_input=False, include_url=False)[0]["msg"]
            self.fail(message.removeprefix("Value error, ").replace("Input should be", "must be"), param, ctx)
        return value


class EngineCommand(click.Command):
    """A command with `engine_options`. Its help lists these options by section, after the command's own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {each.name: each.get_help_record(ctx) for each in self.get_params(ctx)}
        settings = {name for names in ENGINE_SETTINGS.values() for name in names}
        sections = {"Options": tuple(name or "" for name in found if name not in settings), **ENGINE_SETTINGS}
        for title, names in sections.items():
            records = [record for name in names if (record := found[name]) is not None]
            with formatter.section(title):
                formatter.write_dl(records)


def setting_options(command: Command) -> Command:
    """Add an option for each setting to `command`. If an option is not given, its value is None, and the environment or
    the settings file determines the setting."""
    return _with_options(command, Settings.model_fields)


def engine_options(command: Command) -> Command:
    """Add the options for settings that apply without a server to `command`. The environment and the settings file
    determine the other settings."""
    return _with_options(command, [name for names in ENGINE_SETTINGS.values() for name in names])


def named_options(*names: str) -> Callable[[Command], Command]:
    """Add an option for each of the named settings."""
    return lambda command: _with_options(command, names)


def _with_options(command: Command, names: Iterable[str]) -> Command:
    for name in reversed(list(names)):
        command = _option(name, Settings.model_fields[name])(command)
    return command


def unit_of(field: FieldInfo) -> str:
    return str(_extra(field)["unit"] or "")


def default_of(field: FieldInfo) -> str:
    """Return the default value of a setting as `--help` and docs/settings.md show it."""
    shown = _extra(field)["shown"]
    if shown:
        return str(shown)
    default = field.default
    if default is PydanticUndefined or default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return format_size(default) if unit_of(field) == "bytes" else str(default)


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the words that the field of a setting accepts. The tuple is empty if the field accepts any value."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag = name.replace("_", "-")
    short = (SHORT[name],) if name in SHORT else ()
    text = f"{field.description}  [default: {default_of(field)}; {environment_name(name)}]"
    if field.annotation is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
    choices = choices_of(field)
    kind = click.Choice(choices, case_sensitive=False) if choices else SettingType(field)
    return click.option(*short, f"--{flag}", name, type=kind, default=None, help=text)


def _extra(field: FieldInfo) -> dict[str, Any]:
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra
