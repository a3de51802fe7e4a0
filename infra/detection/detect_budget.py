"""Finds how long a repository's script means to train, by the constants that say so.

Knows names such as TIME_BUDGET, at a module's or a class's top, as an option's default and in shell
scripts, and the units that they end in. Reads source text alone: whether the script obeys what it
says is seen when the baseline runs.
"""

import ast
import re
from collections.abc import Iterator, Mapping

from infra.detection.source import Source, assigned, assignments, number

VARIABLE = "INCUMBENT_BUDGET_S"

_WHOSE = r"(?:(?:MAX|TRAIN|TRAINING|TOTAL|RUN|WALL|CLOCK|WALLCLOCK)_)*"
_UNIT = r"(?:_(?:S|SECS?|SECONDS|MINS?|MINUTES|H|HRS|HOURS))?"
_SURE = re.compile(
    rf"{_WHOSE}TIME_(?:BUDGET|LIMIT){_UNIT}|MAX_{_WHOSE}(?:SECONDS|MINUTES|HOURS)"
    rf"|MAX_{_WHOSE}WALL_?(?:CLOCK|TIME){_UNIT}",
    re.IGNORECASE,
)
_CONSTANT = re.compile(rf"(?:BUDGET|MAX_TIME|TRAIN(?:ING)?_(?:TIME|SECONDS)){_UNIT}")
"""Names that mean it where they are written as constants are; as variables they may count it."""
_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("MIN", "MINS", "MINUTES"), 60),
    **dict.fromkeys(("H", "HRS", "HOURS"), 3600),
}
_MOST_S = 1e7
_SHELL = re.compile(
    r"^(?:export\s+)?(?P<name>\w+)=[\"']?(?:\$\{\w+:-)?(?P<value>\d+)", re.MULTILINE
)


def budgets(source: Source) -> Iterator[tuple[float, str]]:
    """Yield the seconds of each time budget that a file names, the surest first, with its place."""
    for name, value, place in _named(source):
        seconds = value * _UNITS.get(name.upper().rpartition("_")[2], 1)
        if _is_budget(name) and 0 < seconds < _MOST_S:
            yield seconds, f"{source.at(place)} {name}"


def _is_budget(name: str) -> bool:
    return name == VARIABLE or bool(_SURE.fullmatch(name) or _CONSTANT.fullmatch(name))


def _named(source: Source) -> Iterator[tuple[str, float, ast.AST | int]]:
    for name, node in _expressions(source):
        value = number(node)
        if value is not None:
            yield name, value, node
    for found in () if source.tree else _SHELL.finditer(source.text):
        yield found["name"], float(found["value"]), found.start()


def _expressions(source: Source) -> Iterator[tuple[str, ast.expr]]:
    calls = [node for node in source.nodes() if isinstance(node, ast.Call)]
    for call in calls:
        match call:
            case ast.Call(func=ast.Attribute(), args=[ast.Constant(value=name), _]):
                if name == VARIABLE:
                    yield VARIABLE, call
    yield from assignments(source).items()
    for node in source.nodes():
        if isinstance(node, ast.ClassDef):
            yield from assigned(node.body).items()
    for call in calls:
        yield from _option(call)


def _option(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Yield the default of an option of argparse, by its long name."""
    match call:
        case ast.Call(func=ast.Attribute(attr="add_argument")):
            names = (argument.value for argument in call.args if isinstance(argument, ast.Constant))
            defaults = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
            for name in names:
                if isinstance(name, str) and name.startswith("--") and defaults:
                    yield name.removeprefix("--").replace("-", "_"), defaults[0]
