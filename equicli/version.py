"""Which equicli this is."""

VERSION = "0.1.0"
