"""What commands print."""

import json
import sys


def print_json(facts: object) -> None:
    """Print facts as JSON, for programs."""
    sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def say(text: str = "") -> None:
    """Print a line, for people."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a line beside the output proper."""
    sys.stderr.write(text + "\n")
