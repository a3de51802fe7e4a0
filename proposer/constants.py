"""The constants of all editable files together, and proposals that change some of them.

Knows which reader belongs to which file, how names stay unique across files, and how a change is
told in a hypothesis. Both the tuner and `incumbent submit` make their proposals here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

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
    if before == after or before.keys() != after.keys():
        return {}
    try:
        old, new = read_constants(before), read_constants(after)
    except ValueError:
        return {}
    if old.keys() != new.keys():
        return {}
    for path, text in before.items():
        literals = {knob: new[name].source for name, knob in old.items() if knob.path == path}
        if splice(text, literals) != after[path]:
            return {}
    return {name: knob.value for name, knob in new.items()}


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
