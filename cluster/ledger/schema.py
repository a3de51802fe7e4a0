"""Which version of the schema this program writes. A module of its own, which costs no import."""

SCHEMA_VERSION = 5
"""Raised when an older program could misread what a newer one writes."""
