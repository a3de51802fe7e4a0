"""Words and numbers for people, out of text that nobody vouches for. Pure.

Hypotheses, log lines and notes come from candidates and models. Before a terminal, a table or a
picture shows one, it passes through here: what could move a cursor, change a colour, reverse the
reading direction or start a new line is gone afterwards.
"""

import json
import re
from datetime import datetime

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # control sequences, e.g. colours
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands, e.g. window titles
    r"|\x1b[ -/]*[0-~]"
)


def one_line(text: str, most: int = 0) -> str:
    """Return printable characters on one line, at most `most` of them if that is given."""
    printable = "".join(c if c.isprintable() else " " for c in _ESCAPE.sub("", text))
    line = " ".join(printable.split())
    return line if not most or len(line) <= most else line[: most - 1].rstrip() + "…"


def printable_lines(text: str) -> str:
    """Return the lines of a log with nothing but printable characters in them."""
    lines = _ESCAPE.sub("", text).expandtabs(4).splitlines()
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)


def json_text(facts: object, indent: int | None = None) -> str:
    """Return facts as JSON that is safe to look at: what does not print is there as its escape.

    Python escapes control characters below 32 alone; terminals obey others too, and text that runs
    from right to left hides what it says. Raises ValueError for a number that JSON lacks.
    """
    text = json.dumps(facts, indent=indent, ensure_ascii=False, allow_nan=False)
    if text.replace("\n", "").isprintable():
        return text
    # Such characters stand within strings alone, so that their escapes mean the same.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def number(value: float | None) -> str:
    """Return a score with up to six significant digits; a dash for none."""
    return "-" if value is None else f"{value:.6g}"


def counted(count: int, word: str) -> str:
    """Return how many there are of something: 1 trial, 2 trials."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def rate(value: float) -> str:
    """Return how often something happens, in digits alone: 0.42, 7.1, 38, 1,240."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign; a dash for none."""
    return "-" if value is None else f"{value:+.3g}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 42s, 3m20s, 1h12m, 2d03h."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def on_the_clock(at: str, style: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a moment, as JSON holds it, by the time of where it is read; empty for none."""
    return datetime.fromisoformat(at).astimezone().strftime(style) if at else ""


def dollars(usd: float) -> str:
    """Return an amount of US dollars: in cents, and to two digits where it is less than that."""
    return f"${usd:,.2f}" if usd >= 0.1 or not usd else f"${usd:.2g}"
