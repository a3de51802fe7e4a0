"""What a model wrote with a proposal, from the reply that was kept of its call."""

import json
from pathlib import Path

from infra.facts.plain_text import printable_lines

_MOST_BYTES = 4 << 20


def author_notes(calls: Path, origin: str) -> str:
    """Return what was noted with the answer that `origin` names, e.g. "c12/0"; empty if nothing.

    Notes go for an answer as a whole. A reply is a model's, so whatever is in it is taken for text,
    and for nothing where it is not shaped as expected.
    """
    call = origin.partition("/")[0]
    if not call.isalnum():
        return ""
    try:
        with (calls / f"{call}.json").open("rb") as file:
            record = json.loads(file.read(_MOST_BYTES))
        notes = json.loads(record["settlement"]["reply"])["notes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return printable_lines(notes).strip() if isinstance(notes, str) else ""
