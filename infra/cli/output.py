"""What commands print."""

import json
import sys

from infra.facts.plain_text import json_text


def print_json(facts: object) -> None:
    """Print facts as JSON, for programs."""
    text = json_text(facts, indent=2)
    if not (sys.stdout.encoding or "utf-8").lower().startswith("utf"):
        # Other characters stand within strings alone, so that their escapes mean the same.
        text = "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write(text + "\n")


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
