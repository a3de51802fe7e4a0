"""Commit messages that git's own tools can take apart again.

Knows subjects and trailers. Does not know what they mean. Values come from people and models: a
line break or a leading `---` in one must not become a trailer of its own, or end the message.
"""

import re
from collections.abc import Sequence

_MOST_SUBJECT = 200


def one_line(text: str) -> str:
    """Return `text` with every run of white space and of what does not print as one space.

    `git log` hands on to a terminal what it obeys (U+009B) and what turns text round (U+202E).
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def compose(subject: str, trailers: Sequence[tuple[str, str]] = ()) -> str:
    """Return a message with `subject`, and a block that `git interpret-trailers --parse` reads.

    Trailers with an empty value are left out: git does not read them back.
    """
    # `git interpret-trailers` takes a line that starts with three dashes for the start of a patch.
    line = re.sub(r"^(---\s*)+", "", one_line(subject)) or "change"
    if len(line) > _MOST_SUBJECT:
        line = line[: _MOST_SUBJECT - 3] + "..."
    block = [f"{key}: {one_line(value)}" for key, value in trailers if one_line(value)]
    return "\n".join([line, "", *block]).rstrip() + "\n"
