"""Reads the text of a repository's scripts, and works out what their constants are.

Knows Python's syntax and enough of shell scripts to see what they name; runs nothing. It exists so
that `detect` can ask questions ("which paths below the home directory?") instead of parsing.
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 1_000_000
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_PATH_MAKERS = {"Path", "PosixPath", "join", "expanduser", "abspath", "realpath", "str"}
_CODE = re.compile(r"[\w./-]+\.(?:py|sh|env|cc?|cpp|cu|rs|go|js|ts|jl)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One text file of a repository."""

    path: str
    """Relative to the repository."""
    text: str
    tree: ast.Module | None
    """None for what is not Python, or not valid Python."""

    def at(self, place: ast.AST | int) -> str:
        """Return `path:line` of a syntax node, or of an offset in the text."""
        if isinstance(place, int):
            return f"{self.path}:{self.text.count(chr(10), 0, place) + 1}"
        return f"{self.path}:{getattr(place, 'lineno', 1)}"

    def nodes(self) -> Iterator[ast.AST]:
        """Iterate over all syntax nodes; over none in what is not Python."""
        yield from ast.walk(self.tree) if self.tree else ()


def read_source(repository: Path, path: str) -> Source | None:
    """Read a text file; None where there is none, or one that is too long to be a script."""
    try:
        with (repository / path).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError:
        return None
    if len(content) > _MOST_BYTES:
        return None
    text = content.decode("utf-8-sig", errors="replace")
    return Source(path=path, text=text, tree=_parse(text) if path.endswith(".py") else None)


def read_with_imports(repository: Path, path: str) -> list[Source]:
    """Read a script and the modules beside it that it imports, the script first."""
    found: dict[str, Source] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop(0)
        source = None if path in found else read_source(repository, path)
        if source:
            found[path] = source
            waiting += [f"{name}.py" for name in imported(source)]
    return list(found.values())


def imported(source: Source) -> list[str]:
    """Return the top-level names of the modules that a script imports, in order."""
    names: dict[str, None] = {}
    for node in source.nodes():
        if isinstance(node, ast.Import):
            names.update((alias.name.split(".")[0], None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module.split(".")[0]] = None
    return list(names)


def code_named_in(source: Source, repository: Path) -> list[str]:
    """Return the files of the repository that a shell script names and that look like code."""
    names = (match[0].removeprefix("./") for match in _CODE.finditer(source.text))
    inside = (name for name in names if not name.startswith("/") and ".." not in name.split("/"))
    return [name for name in dict.fromkeys(inside) if (repository / name).is_file()]


def assignments(source: Source) -> dict[str, ast.expr]:
    """Return what the module-level names of a Python file are set to; the first value counts."""
    return assigned(source.tree.body if source.tree else ())


def assigned(body: Iterable[ast.stmt]) -> dict[str, ast.expr]:
    """Return what statements set names to, nested ones aside; the first value counts."""
    found: dict[str, ast.expr] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, node.value)
    return found


def number(node: ast.expr) -> float | None:
    """Work out a constant expression such as `5 * 60` or `float(environ.get(NAME, "3"))`."""
    match node:
        case ast.Constant(value=int() | float() | str() as value):
            return _float(value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first, second = number(left), number(right)
            return None if first is None or second is None else _OPERATORS[type(op)](first, second)
        case ast.Call(func=ast.Name(id="float" | "int"), args=[argument]):
            return number(argument)
        case ast.Call(func=ast.Attribute(attr="get" | "getenv"), args=[_, default]):
            return number(default)
    return None


def home_path(node: ast.expr, names: Mapping[str, ast.expr]) -> str | None:
    """Work out an expression that makes a path below the home directory, as `~/...` or `~`.

    Understands `os.path` and `pathlib`, and names in `names`; None for all else.
    """
    text = _path(node, names)
    return text if text == "~" or (text and text.startswith("~/")) else None


def _parse(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a stranger's doubtful escapes
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _float(text: str | float) -> float | None:
    try:
        return float(text)
    except (ValueError, OverflowError):
        return None


def _path(node: ast.expr, names: Mapping[str, ast.expr]) -> str | None:
    text: str | None = None
    match node:
        case ast.Constant(value=str()):
            text = str(node.value)
        case ast.Name(id=name) if name in names:
            # Without the name itself: a name may be defined by itself.
            text = _path(names[name], {other: names[other] for other in names if other != name})
        case ast.JoinedStr(values=parts):
            text = _join("", [_path(part, names) for part in parts])
        case ast.FormattedValue(value=value):
            text = _path(value, names)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            text = _join("/", [_path(left, names), _path(right, names)])
        case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value="HOME")):
            text = "~"
        case ast.Call():
            text = _called(node, names)
    return text


def _called(call: ast.Call, names: Mapping[str, ast.expr]) -> str | None:
    parts = [_path(argument, names) for argument in call.args]
    text: str | None = None
    match call.func:
        case ast.Attribute(attr="home"):
            text = "~"
        case ast.Attribute(value=owner, attr="expanduser" | "resolve" | "absolute") if not parts:
            text = _path(owner, names)
        case ast.Attribute(value=owner, attr="joinpath"):
            text = _join("/", [_path(owner, names), *parts])
        case ast.Attribute(attr="get" | "getenv") if len(parts) == 2:
            text = parts[1]  # what an environment variable is without being set
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in _PATH_MAKERS:
            text = _join("/", parts)
    return text


def _join(separator: str, parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return separator.join(known) if len(known) == len(parts) and known else None
