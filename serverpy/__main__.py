"""Entry point of `python -m serverpy` and of the command `serverpy`."""

from __future__ import annotations

from serverpy.cli.main import main

if __name__ == "__main__":
    main()
