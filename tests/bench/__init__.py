"""Measures against a baseline of the same run, as JSON lines: `make bench`."""
