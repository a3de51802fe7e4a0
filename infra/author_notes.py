"""What a model wrote with a proposal, from the reply that was kept of its call."""

import json
from pathlib import Path

from infra.plain_text import printable_lines

_MOST_BYTES = 4 << 20


def author_notes(calls: Path, origin: str) -> str:
    """Return the notes of the proposal that `origin` names, e.g. "c12/0"; empty if there are none.

    A reply is a model's, so whatever is in it is taken for text, and for nothing where it is not
    shaped as expected.
    """
    call, _, index = origin.partition("/")
    if not call.isalnum() or not index.isdecimal():
        return ""
    try:
        with (calls / f"{call}.json").open("rb") as file:
            reply = json.loads(file.read(_MOST_BYTES))
        notes = reply["proposals"][int(index)]["notes"]
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    return printable_lines(notes).strip() if isinstance(notes, str) else ""
