"""The sources of the settings: keyword arguments, which override the environment, which overrides the file. The module
also makes the error messages for invalid settings.

An error message is one line that names the setting and its source, but not the value.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from serverpy.errors import ConfigurationError
from serverpy.settings.types import mask_password

PREFIX = "SERVERPY_"
CONFIG_VARIABLE = "SERVERPY_CONFIG"
CONFIG_FILE = "serverpy.toml"
_URLS = ("proxy", "state_url")
"""Settings whose URL may contain a password. LINK_SECRET needs no masking, because its items are SecretStrs."""


def environment_name(name: str) -> str:
    return PREFIX + name.upper()


class SourcedSettings(BaseSettings):
    """The base class of `Settings`, which defines everything except the fields. The constructor reads the file and the
    environment, and raises `ConfigurationError` if a setting is invalid."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        enable_decoding=False,  # a list in an environment variable has commas or spaces, and is not JSON
        hide_input_in_errors=True,  # an error message must not show the invalid value, which may be a secret
        str_strip_whitespace=True,
        validate_default=True,
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            faults = [_fault(details, values) for details in error.errors(include_input=False, include_url=False)]
            # `from None`, because the error of pydantic contains the invalid values, which may be secrets
            raise ConfigurationError("\n".join(fault for fault in faults if fault)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = InitSettingsSource(settings_cls, _read_file(settings_cls.model_fields))
        return init_settings, env_settings, file

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Return the fields and values that `repr` shows, with passwords replaced by asterisks."""
        shown = dict(super().__repr_args__())
        return [(name, mask_password(value) if name in _URLS and value else value) for name, value in shown.items()]

    def to_environment(self) -> dict[str, str]:
        """Return all settings as environment variables for a child process. In that process, `load_settings()` returns
        equal settings, even if the process finds a settings file. The variables contain the secrets in clear text."""
        environment = {environment_name(name): _as_text(getattr(self, name)) for name in type(self).model_fields}
        return {CONFIG_VARIABLE: "", **environment}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ",".join(str(item) for item in sorted(value))
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return str(value)


def _read_file(known: Collection[str]) -> dict[str, Any]:
    """Read the settings file, and return its values by key in lower case. Returns {} if no file is named and the
    default file does not exist. Raises `ConfigurationError` if a named file does not exist, or if the file is
    invalid."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named == "":
        return {}
    path = Path(named or CONFIG_FILE)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is None:
            return {}
        raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no file {path}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except ValueError:  # `int` raises this error if a number has too many digits
        raise ConfigurationError(f"{path} is not valid TOML: a number has too many digits") from None
    return _known_keys(content, known, path)


def _known_keys(content: Mapping[str, Any], known: Collection[str], path: Path) -> dict[str, Any]:
    values = {key.lower(): value for key, value in content.items()}
    unknown = [key for key in content if key.lower() not in known]
    if unknown:
        raise ConfigurationError("\n".join(f"{path}: {key} is not a setting of ServerPY" for key in unknown))
    if len(values) < len(content):
        raise ConfigurationError(f"{path} sets the same key twice, in upper and in lower case")
    return values


def _fault(details: ErrorDetails, given: Mapping[str, Any]) -> str | None:
    """Describe an error of pydantic in one line, without the invalid value. Returns None if the error is only a
    consequence of another error."""
    if details["type"] == "default_factory_not_called":
        return None
    message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not details["loc"]:
        return message
    name = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        return f"{name} is not a setting of ServerPY"
    return f"{_source_name(name, given)}: {message}"


def _source_name(name: str, given: Mapping[str, Any]) -> str:
    if name in given:
        return name.upper()
    if any(variable.upper() == environment_name(name) for variable in os.environ):
        return environment_name(name)
    return f"{name} in {os.environ.get(CONFIG_VARIABLE) or CONFIG_FILE}"
