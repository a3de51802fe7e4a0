"""Reads the constants of a Python file, with libcst.

Knows which module-level assignments are constants and what literals mean. Only reads: every knob
carries its place in the text, and `proposer.knob.splice` replaces exactly the literal there. That
keeps every other byte where libcst's own round trip does not (a byte order mark, a form feed).
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping

import libcst as cst
from libcst.metadata import (
    CodeRange,
    GlobalScope,
    MetadataWrapper,
    PositionProvider,
    ScopeProvider,
)

from proposer.knob import Knob, is_constant, read_hint
from proposer.proposal import Scalar

_LINE_END = re.compile(r"\r\n?|\n")
_BYTE_ORDER_MARK = "\ufeff"
_MOST = 2**63
"""Larger integers are not numbers that an optimiser turns."""
_MOST_EXPONENT = 64
_LONGEST = 64
"""Longer strings are texts, not settings."""
_OPERATORS: Mapping[type[cst.BaseBinaryOp], Callable[[float, float], object]] = {
    cst.Add: operator.add,
    cst.Subtract: operator.sub,
    cst.Multiply: operator.mul,
    cst.Divide: operator.truediv,
    cst.FloorDivide: operator.floordiv,
}


def read_python(path: str, text: str) -> list[Knob]:
    """Return the constants of a file in the order of its lines.

    A constant is a name bound exactly once at module level, there assigned (annotated or not) a
    number, a boolean, a plain string, an arithmetic expression of number literals, or a tuple of
    numbers, whose elements are knobs of their own. Assignments inside `if`, `try`, functions and
    classes are none, nor are names that a function declares global.

    Raises:
        ValueError: the file is not Python; names the path and the line.
    """
    body = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        wrapper = MetadataWrapper(cst.parse_module(body), unsafe_skip_copy=True)
    except cst.ParserSyntaxError as error:
        raise ValueError(_complaint(path, body, error)) from error
    places = _Places(body, wrapper, len(text) - len(body))
    bound_once = _bound_once(wrapper)
    knobs: list[Knob] = []
    for name, node, comment in _assignments(wrapper.module):
        if name in bound_once:
            knobs += _knobs(name, node, comment, path, places)
    return knobs


def _complaint(path: str, text: str, error: cst.ParserSyntaxError) -> str:
    # Python's own parser says better than libcst's what is wrong.
    try:
        ast.parse(text)
    except SyntaxError as better:
        return f"{path}, line {better.lineno}: {better.msg}"
    except ValueError as better:
        return f"{path}: {better}"
    return f"{path}, line {error.raw_line}: not understood as Python"


def _bound_once(wrapper: MetadataWrapper) -> frozenset[str]:
    scopes = wrapper.resolve(ScopeProvider).values()
    scope = next((scope for scope in scopes if isinstance(scope, GlobalScope)), None)
    if scope is None:
        return frozenset()
    names = {assignment.name for assignment in scope.assignments}
    return frozenset(name for name in names if len(scope[name]) == 1)


def _assignments(module: cst.Module) -> Iterator[tuple[str, cst.BaseExpression, str]]:
    for statement in module.body:
        if not isinstance(statement, cst.SimpleStatementLine):
            continue
        comment = statement.trailing_whitespace.comment
        for part in statement.body:
            match part:
                case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))]):
                    yield name, part.value, comment.value if comment else ""
                case cst.AnnAssign(target=cst.Name(value=name), value=cst.BaseExpression() as node):
                    yield name, node, comment.value if comment else ""
                case _:
                    pass


class _Places:
    """Where a node stands in the text."""

    def __init__(self, text: str, wrapper: MetadataWrapper, offset: int) -> None:
        self._text = text
        self._module = wrapper.module
        self._ranges: Mapping[cst.CSTNode, object] = wrapper.resolve(PositionProvider)
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]
        self._offset = offset

    def find(self, node: cst.BaseExpression) -> tuple[int, str] | None:
        """Return a node's offset and source, both without parentheses around it."""
        place = self._ranges[node]
        if not isinstance(place, CodeRange):
            return None
        start = self._starts[place.start.line - 1] + place.start.column
        source = self._module.code_for_node(node.with_changes(lpar=(), rpar=()))
        # libcst leaves a form feed out of its columns: such a line is not worth a guess.
        if self._text[start : start + len(source)] != source:
            return None
        return start + self._offset, source


def _knobs(
    name: str, node: cst.BaseExpression, comment: str, path: str, places: _Places
) -> Iterator[Knob]:
    for label, part, value in _values(name, node):
        hint = read_hint(comment, value)
        place = places.find(part)
        if place and is_constant(name, hint):
            start, source = place
            yield Knob(name=label, path=path, value=value, source=source, start=start, hint=hint)


def _values(
    name: str, node: cst.BaseExpression
) -> Iterator[tuple[str, cst.BaseExpression, Scalar]]:
    if isinstance(node, cst.Tuple):
        numbers = [(part.value, _number(part.value)) for part in node.elements]
        known = [(part, number) for part, number in numbers if number is not None]
        if len(known) == len(numbers):
            yield from ((f"{name}[{index}]", *found) for index, found in enumerate(known))
    elif (value := _scalar(node)) is not None:
        yield name, node, value


def _scalar(node: cst.BaseExpression) -> Scalar | None:
    match node:
        case cst.Name(value="True" | "False" as word):
            return word == "True"
        case cst.SimpleString(prefix="" | "r" | "R" | "u" | "U", quote="'" | '"'):
            text = node.evaluated_value
            return text if isinstance(text, str) and len(text) <= _LONGEST else None
        case _:
            return _number(node)


def _number(node: cst.BaseExpression) -> int | float | None:
    """Evaluate literals and arithmetic of literals; None for anything else, and for the absurd."""
    match node:
        case cst.Integer() | cst.Float():
            return _sane(node.evaluated_value)
        case cst.UnaryOperation(operator=cst.Minus() | cst.Plus() as sign, expression=inner):
            value = _number(inner)
            return value if value is None or isinstance(sign, cst.Plus) else -value
        case cst.BinaryOperation(left=left, operator=symbol, right=right):
            first, second = _number(left), _number(right)
            return None if first is None or second is None else _apply(symbol, first, second)
        case _:
            return None


def _apply(symbol: cst.BaseBinaryOp, first: float, second: float) -> int | float | None:
    try:
        match symbol:
            # Unbounded, 9**9**9 in a candidate's file would keep the proposer busy for ever.
            case cst.Power() if abs(second) <= _MOST_EXPONENT:
                return _sane(first**second)
            case cst.LeftShift() if (
                isinstance(first, int) and isinstance(second, int) and 0 <= second <= _MOST_EXPONENT
            ):
                return _sane(first << second)
            case _ if type(symbol) in _OPERATORS:
                return _sane(_OPERATORS[type(symbol)](first, second))
            case _:
                return None
    except (ArithmeticError, ValueError):
        return None


def _sane(value: object) -> int | float | None:
    if isinstance(value, int):
        return value if abs(value) <= _MOST else None
    return value if isinstance(value, float) and math.isfinite(value) else None
