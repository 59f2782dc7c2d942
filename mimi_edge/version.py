"""Which version of mimi-edge this is."""

__version__ = "0.1.0"
