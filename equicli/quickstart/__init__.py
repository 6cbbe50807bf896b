"""Data and small networks that come with the program, for the first run: digits as pictures, shapes as point clouds."""

from equicli.quickstart.digits import prepare, write_digits

__all__ = ["prepare", "write_digits"]
