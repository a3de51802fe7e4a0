"""The constants of all editable files together, and proposals that change some of them.

Knows which reader belongs to which file, how names stay unique across files, and how a change is
told in a hypothesis. Both the tuner and `incumbent submit` make their proposals here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from types import MappingProxyType

from proposer.knob import Knob, splice
from proposer.knobs_apart import read_python_apart
from proposer.proposal import Proposal, Scalar
from proposer.shell_knobs import read_shell

LOOKED_FOR = (
    "assignments such as LR = 3e-4 at module level of Python files (capitals, or with a comment "
    "`# choices: a, b` or `# range: 1e-4..1e-2 log`) and KEY=value lines of .sh and .env files"
)
"""What `read_constants` looks for, for messages."""


def read_constants(files: Mapping[str, str]) -> dict[str, Knob]:
    """Return all constants of all files by name; a name in two files is `path:NAME` in both.

    Raises:
        ValueError: a Python file with a syntax error, or one that cannot be read; names the path.
    """
    found = [knob for path, text in files.items() for knob in _read(path, text)]
    counts = Counter(knob.name for knob in found)
    knobs = [
        replace(knob, name=f"{knob.path}:{knob.name}") if counts[knob.name] > 1 else knob
        for knob in found
    ]
    return {knob.name: knob for knob in knobs}


def _read(path: str, text: str) -> Sequence[Knob]:
    match PurePosixPath(path):
        case PurePosixPath(suffix=".py"):
            return read_python_apart(path, text)
        case PurePosixPath(suffix=".sh" | ".env") | PurePosixPath(name=".env"):
            return read_shell(path, text)
        case _:
            return []


def merged_values(
    values: Mapping[str, Scalar], before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, Scalar]:
    """Return what constants are when a change of `before` has been merged cleanly into `after`.

    `values` are those after the change alone. Where it left a constant as it was, that is what
    `after` says; one that `after` has no more is left out. Three-way on values, so that no tree
    has to be read that nobody has read before: reading one takes a process and most of a second.

    Raises:
        ValueError: as `read_constants`.
    """
    old, new = read_constants(before), read_constants(after)
    return {
        name: new[name].value if name in old and value == old[name].value else value
        for name, value in values.items()
        if name in new
    }


def turned_constants(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Scalar]:
    """Return the values of all constants of `after`, if it differs from `before` in these alone.

    Whoever made the change: it is then one that an optimiser could have made, and can learn from.
    Empty if anything else differs, a comment included, or nothing does; and where the constants of
    either cannot be read.
    """
    return {new.name: new.value for _, new in _turned(before, after)}


def merged_constants(
    before: Mapping[str, str],
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    values: Mapping[str, Scalar] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the texts that hold both changes of `before`, one of which turns constants alone.

    What that one turned is put into the texts of the other, wherever it stands there by now: git
    sees a conflict where two constants stand in neighbouring lines. `values` are what constants of
    `theirs` are, as far as that is on record: where it suffices, `theirs` need not be read.

    Raises:
        ValueError: both changes are of more than constants, both turn one to different values, one
            that is turned is no constant of the other's any more, or files cannot be read.
    """
    if not before.keys() == ours.keys() == theirs.keys():
        raise ValueError("files were added or removed")
    if pairs := _recorded(before, theirs, values):
        return _put(pairs, ours)
    for giving, taking in ((ours, theirs), (theirs, ours)):
        if pairs := _turned(before, giving):
            return _put(pairs, taking)
    raise ValueError("each side changes more than constants")


def _turned(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[Knob, Knob]]:
    """Return each constant before and after, if nothing but constants differs; else nothing."""
    if before == after or before.keys() != after.keys():
        return []
    try:
        old = read_constants(before)
        if not all(_may_be_turned(old, path, before[path], after[path]) for path in before):
            return []
        new = read_constants(after)
    except ValueError:
        return []
    if old.keys() != new.keys():
        return []
    return _proven([(knob, new[name]) for name, knob in old.items()], before, after)


def _may_be_turned(knobs: Mapping[str, Knob], path: str, before: str, after: str) -> bool:
    """Say whether all that stands around the constants is still there: most patches are told so."""
    pieces, end = [], 0
    for knob in sorted(knobs.values(), key=lambda knob: knob.start):
        if knob.path == path:
            pieces.append(before[end : knob.start])
            end = knob.start + len(knob.source)
    pieces.append(before[end:])
    place = 0
    for piece in pieces:
        found = after.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return after.startswith(pieces[0]) and after.endswith(pieces[-1])


def _recorded(
    before: Mapping[str, str], after: Mapping[str, str], values: Mapping[str, Scalar]
) -> list[tuple[Knob, Knob]]:
    """Return what `_turned` does without reading `after`: where it spells `values` as we do."""
    pairs = []
    for name, knob in read_constants(before).items():
        value = values.get(name, knob.value)
        if type(value) is not type(knob.value):
            return []
        try:
            source = knob.source if value == knob.value else knob.spell(value)
        except ValueError:
            return []
        pairs.append((knob, replace(knob, value=value, source=source)))
    return _proven(pairs, before, after) if before != after else []


def _proven(
    pairs: Sequence[tuple[Knob, Knob]], before: Mapping[str, str], after: Mapping[str, str]
) -> list[tuple[Knob, Knob]]:
    literals = {old: new.source for old, new in pairs}
    return list(pairs) if _spliced(before, literals) == dict(after) else []


def _put(pairs: Sequence[tuple[Knob, Knob]], files: Mapping[str, str]) -> dict[str, str]:
    there = {_place(knob): knob for knob in read_constants(files).values()}
    literals = {}
    for old, new in pairs:
        if old.source == new.source:
            continue
        present = there.get(_place(old))
        if present is None:
            raise ValueError(f"{old.name} is no constant any more")
        literals[present] = _merged_literal(old, new, present)
    return _spliced(files, literals)


def _place(knob: Knob) -> tuple[str, str]:
    """Return path and name, the same whether or not another file has that name as well."""
    return knob.path, knob.name.removeprefix(f"{knob.path}:")


def _merged_literal(old: Knob, one: Knob, other: Knob) -> str:
    if other.source == old.source:
        return one.source
    was, first, second = (repr(knob.value) for knob in (old, one, other))  # True is not 1
    if first in {was, second}:
        return other.source
    if second == was:
        return one.source
    raise ValueError(f"{old.name} is {one.source} on one side and {other.source} on the other")


def _spliced(files: Mapping[str, str], literals: Mapping[Knob, str]) -> dict[str, str]:
    return {
        path: splice(text, {knob: new for knob, new in literals.items() if knob.path == path})
        for path, text in files.items()
    }


def change(
    files: Mapping[str, str], knobs: Mapping[str, Knob], values: Mapping[str, Scalar]
) -> Proposal:
    """Return the proposal that gives the named constants new values and changes nothing else.

    Its parameters are the values of all `knobs` after the change.

    Raises:
        ValueError: no value differs from the present one, or a file cannot hold a value.
    """
    new = {name: value for name, value in values.items() if value != knobs[name].value}
    if not new:
        raise ValueError(
            "changes nothing: " + ", ".join(f"{name} is {knobs[name].source}" for name in values)
        )
    literals: defaultdict[str, dict[Knob, str]] = defaultdict(dict)
    for name, value in new.items():
        literals[knobs[name].path][knobs[name]] = knobs[name].spell(value)
    return Proposal(
        edits={path: splice(files[path], changes) for path, changes in literals.items()},
        hypothesis=", ".join(
            f"{knob.name} {knob.source} -> {text}"
            for changes in literals.values()
            for knob, text in changes.items()
        ),
        parameters={name: knob.value for name, knob in knobs.items()} | new,
    )
