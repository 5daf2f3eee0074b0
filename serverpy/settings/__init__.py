"""The settings: `load_settings` reads them from the file `serverpy.toml` (or the file that SERVERPY_CONFIG names; if
SERVERPY_CONFIG is empty, no file), the environment (`SERVERPY_<NAME>`) and keyword arguments. Later sources override
earlier ones.
"""

from serverpy.settings.fields import Settings, load_settings

__all__ = ["Settings", "load_settings"]
