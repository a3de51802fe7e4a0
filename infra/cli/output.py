"""What commands print."""

import sys

from infra.facts.plain_text import json_text


def print_json(facts: object) -> None:
    """Print facts as JSON, for programs."""
    sys.stdout.write(json_text(facts, indent=2) + "\n")


def say(text: str = "") -> None:
    """Print a line, for people."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a line beside the output proper."""
    sys.stderr.write(text + "\n")


def note_if_any(text: str) -> None:
    """Print a line beside the output proper, unless there is none to print."""
    if text:
        note(text)
