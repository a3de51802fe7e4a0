"""Changes to texts, as language models write them, applied as a whole or not at all. Pure.

Three forms: an exact piece of text and what comes in its place, a unified diff, or a whole file.
The only tolerance is for white space at the ends of lines, and it is used where the exact text is
nowhere: models drop it, and no program means anything by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proposer.hunks import Hunk, lines_of, read_hunks

_MOST_QUOTED = 80


class EditProblem(ValueError):
    """An edit that cannot be applied; the message says exactly why, for its author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change to one file: exactly one of the three forms."""

    path: str
    search: str = ""
    """Text that stands in the file exactly once."""
    replace: str = ""
    """What comes in its place."""
    diff: str = ""
    """A unified diff of the file."""
    content: str | None = None
    """The whole new text; None for the other forms."""


def apply_edits(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    """Return the new text of each file that changes; the edits apply one after the other.

    Args:
        files: text of every file that may be changed, by path.
        edits: at least one.

    Raises:
        EditProblem: a file that may not be changed, a text that is not there or there twice, a diff
            that does not fit, or nothing that changes. Nothing is applied then.
    """
    if not edits:
        raise EditProblem("it has no edits")
    texts = dict(files)
    for edit in edits:
        if edit.path not in files:
            allowed = ", ".join(sorted(files))
            raise EditProblem(f"{edit.path} may not be changed; only {allowed} may")
        texts[edit.path] = _applied(texts[edit.path], edit)
    changed = {path: text for path, text in texts.items() if text != files[path]}
    if not changed:
        raise EditProblem("its edits change nothing")
    return changed


def _applied(text: str, edit: Edit) -> str:
    forms = [name for name in ("search", "diff", "content") if getattr(edit, name)]
    if len(forms) > 1:
        raise EditProblem(f"{edit.path}: an edit has one form, and this one {' and '.join(forms)}")
    if edit.content is not None and forms in ([], ["content"]):
        return edit.content
    if edit.diff:
        try:
            hunks = read_hunks(edit.path, edit.diff)
        except ValueError as error:
            raise EditProblem(str(error)) from error
        return _patched(text, hunks, edit.path)
    if not edit.search:
        raise EditProblem(f"{edit.path}: an edit needs search, diff or content")
    return _replaced(text, edit.search, edit.replace, edit.path)


def _replaced(text: str, search: str, replace: str, path: str) -> str:
    found = _count(text, search)
    if found == 1:
        return text.replace(search, replace)
    if found > 1:
        raise EditProblem(
            f"{path}: the text {_quoted(search)} stands there {found} times; quote more around it"
        )
    lines, wanted = lines_of(text), search.removesuffix("\n").split("\n")
    places = _places(lines, wanted)
    if len(places) > 1:
        raise EditProblem(
            f"{path}: but for white space at the ends of lines, the text {_quoted(search)} stands "
            f"there {len(places)} times; quote more around it"
        )
    if not places:
        raise EditProblem(f"{path}: the text {_quoted(search)} is not there{_near(text, search)}")
    start, end = places[0], places[0] + len(wanted)
    put = replace if replace.endswith("\n") or not replace else f"{replace}\n"
    return "".join([*lines[:start], put, *lines[end:]])


def _count(text: str, search: str) -> int:
    """Return how often a text stands in another; places that overlap are several."""
    at, found = text.find(search), 0
    while at >= 0:
        at, found = text.find(search, at + 1), found + 1
    return found


def _places(lines: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return where others begin that are the same but for white space at the ends of lines."""
    stripped = [line.rstrip() for line in lines]
    sought = [line.rstrip() for line in wanted]
    if not sought:
        return []
    last = len(stripped) - len(sought)
    return [at for at in range(last + 1) if stripped[at : at + len(sought)] == sought]


def _near(text: str, search: str) -> str:
    """Return where the first line of what was sought is, if that is there."""
    first = next((line.strip() for line in search.splitlines() if line.strip()), "")
    for number, line in enumerate(text.splitlines(), start=1):
        if first and line.strip() == first:
            return f"; its first line is line {number}, and what follows there differs"
    return ""


def _patched(text: str, hunks: Sequence[Hunk], path: str) -> str:
    lines = lines_of(text)
    done: list[str] = []
    at = 0
    for number, hunk in enumerate(hunks, start=1):
        place = _place(lines, hunk, at)
        if place is None:
            first = next((line for line in hunk.before if line.strip()), "")
            raise EditProblem(
                f"{path}: hunk {number} of the diff does not fit: {_quoted(first)} and what "
                f"follows it are not there, or there more than once"
            )
        done += lines[at:place]
        at = place + len(hunk.before)
        done = _joined(done, _put(hunk, lines[place:at], _end_of(lines, place)))
    return "".join(_joined(done, lines[at:]))


def _put(hunk: Hunk, found: Sequence[str], end: str) -> list[str]:
    """Return what a hunk leaves of the lines that it found: its context as it stands there."""
    old = iter(found)
    # Of a diff that has them itself, each line ends as it says.
    own_end = "\n" if any(text.endswith("\r") for _, text in hunk.lines) else end
    put: list[str] = []
    for sign, text in hunk.lines:
        line = f"{text}{own_end}" if sign == "+" else next(old)
        if sign != "-":
            put = _joined(put, [line])
    if hunk.is_open_ended and put:
        put[-1] = put[-1].removesuffix("\n").removesuffix("\r")
    return put


def _joined(lines: list[str], more: Sequence[str]) -> list[str]:
    """Return lines and what follows them; the last line of a file may have had no end."""
    if lines and more and not lines[-1].endswith("\n"):
        lines = [*lines[:-1], f"{lines[-1]}\n"]
    return [*lines, *more]


def _end_of(lines: Sequence[str], at: int) -> str:
    """Return how lines end around a place."""
    near = lines[min(at, len(lines) - 1)] if lines else ""
    return "\r\n" if near.endswith("\r\n") else "\n"


def _place(lines: Sequence[str], hunk: Hunk, after: int) -> int | None:
    """Return the line at which a hunk belongs: where its lines stand, nearest to where it says.

    Models count lines badly, so the number decides only between several places.
    """
    if not hunk.before:
        return min(max(hunk.line, after), len(lines))
    found = [at for at in _places(lines, hunk.before) if at >= after]
    if len(found) <= 1:
        return found[0] if found else None
    nearest = [at for at in found if at == hunk.line - 1]
    return nearest[0] if nearest else None


def _quoted(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= _MOST_QUOTED else f"{flat[:_MOST_QUOTED]}...")
