"""ServerPY: one GET turns the address of a page into a stream of bytes, in bounded memory."""

__version__ = "0.1.0"
