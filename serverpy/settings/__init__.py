"""The settings: `load_settings` reads the file `serverpy.toml` (or the one that SERVERPY_CONFIG names; empty names
none), the environment (`SERVERPY_<NAME>`) and keyword arguments, each stronger than the one before, into `Settings`.
"""

from serverpy.settings.fields import Settings, load_settings

__all__ = ["Settings", "load_settings"]
