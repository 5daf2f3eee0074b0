"""The settings of the server. `load_settings` reads them from the file `serverpy.toml` (or the file that the variable
SERVERPY_CONFIG names, or no file if the variable is empty), the environment (`SERVERPY_<NAME>`) and keyword arguments.
Later sources override earlier ones.
"""

from serverpy.settings.fields import Settings, load_settings

__all__ = ["Settings", "load_settings"]
