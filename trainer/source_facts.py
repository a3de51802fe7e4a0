"""What Python files say of themselves, told by the interpreter that is to run them.

A program of its own, `PYTHON -I -B source_facts.py`, where PYTHON is that of the trials. It may be
older or newer than ours: hence the standard library alone, and nothing that Python 3.8 lacks.
Parses and compiles what it is given, and runs none of it.

Reads one JSON object on standard input and writes one on standard output:

    {"files": {PATH: TEXT}, "known": [MODULE] or null}
    {"version": [3, 11], "files": {PATH: FACTS}, "missing": [MODULE]}

`missing` are the top-level modules that the files import, that are not `known`, and that this
interpreter does not find; none where `known` is null. FACTS are the fields of
`trainer.source_checks.SourceFacts`. A file that can be neither read nor called wrong (too deep, too
large) has none.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import resource
import site
import symtable
import sys
from pathlib import Path
from typing import Any

_MOST_BYTES = 2 << 30
_MOST_CPU_S = 8
_BROAD = {
    *("BaseException", "Exception", "NameError", "TypeError", "ValueError"),
    *("LookupError", "KeyError", "IndexError"),
}
"""A handler of any of these may be there to catch what is looked for here."""
_DYNAMIC = {"__builtins__", "builtins", "exec", "globals", "locals"}
"""Through these, names come to be that no assignment shows."""
_FINDERS = {"__import__", "imp", "importlib", "pkgutil", "runpy", "site"}
"""Through these, modules come to be found that nobody else finds."""


class _Reader(ast.NodeVisitor):
    """Collects the facts of one file."""

    def __init__(self) -> None:
        self.loads: list[tuple[int, str]] = []
        self.doubtful: list[tuple[int, int]] = []
        self.mentions: set[str] = set()
        self.strings: set[str] = set()
        self.is_dynamic = False
        self.finds_modules = False

    def visit_Name(self, node: ast.Name) -> None:
        """Note a name that is looked up, unless it is built in."""
        self.is_dynamic |= node.id in _DYNAMIC
        self.finds_modules |= node.id in _FINDERS
        if isinstance(node.ctx, ast.Load) and not hasattr(builtins, node.id):
            self.loads.append((node.lineno, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Note uses of `sys`, and attributes that are set: they may be printed by name."""
        if isinstance(node.value, ast.Name) and node.value.id == "sys":
            self.finds_modules |= node.attr in {"path", "meta_path", "path_hooks", "modules"}
            self.is_dynamic |= node.attr == "modules"
        if isinstance(node.ctx, ast.Store):
            self.strings.add(node.attr)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Note a string."""
        if isinstance(node.value, str):
            self.strings.add(node.value)
        elif isinstance(node.value, bytes):
            self.strings.add(node.value.decode("latin-1"))

    def visit_Expr(self, node: ast.Expr) -> None:
        """Leave docstrings out: nobody prints them."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        """Note a keyword, which is a string to the function that is called."""
        if node.arg:
            self.strings.add(node.arg)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Note `vars()` and `dir()`, which look at the names around them."""
        if isinstance(node.func, ast.Name) and node.func.id in {"dir", "vars"} and not node.args:
            self.is_dynamic = True
        self.generic_visit(node)

    # Annotations may be strings, dimensions of a tensor, or never looked at: all are left out.

    def visit_arg(self, node: ast.arg) -> None:
        """Leave its annotation out."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Note a field of a class, which may be printed by name."""
        if isinstance(node.target, ast.Name):
            self.strings.add(node.target.id)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Visit all but the annotation and the type parameters."""
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Do as with any function."""
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for child in (*node.decorator_list, node.args, *node.body):
            self.visit(child)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        """Leave it out: it is looked at when somebody asks."""

    # What may fail, or may never be run, on purpose.

    def visit_Try(self, node: ast.Try) -> None:
        """Mark a body whose failure is caught."""
        self._visit_try(node)

    def visit_TryStar(self, node: ast.TryStar) -> None:
        """Do as with any try."""
        self._visit_try(node)

    def _visit_try(self, node: ast.Try | ast.TryStar) -> None:
        if any(_is_broad(handler.type) for handler in node.handlers):
            self._doubt(node.body)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        """Mark a body whose failure is suppressed."""
        if any("suppress" in ast.dump(item.context_expr) for item in node.items):
            self._doubt(node.body)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """Mark a body that only a type checker reads."""
        if "'TYPE_CHECKING'" in ast.dump(node.test):
            self._doubt(node.body)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """Note what is imported."""
        for alias in node.names:
            self._imported(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Note what is imported from."""
        names = {alias.name for alias in node.names}
        self.is_dynamic |= "*" in names
        self.finds_modules |= node.module == "sys" and "path" in names
        if not node.level:
            self._imported(node.module or "")

    def _imported(self, module: str) -> None:
        top = module.partition(".")[0]
        self.mentions.add(top)
        self.is_dynamic |= top in _DYNAMIC
        self.finds_modules |= top in _FINDERS

    def _doubt(self, body: list[ast.stmt]) -> None:
        last = body[-1]
        self.doubtful.append((body[0].lineno, last.end_lineno or last.lineno))


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    names = {node.id for node in ast.walk(kind) if isinstance(node, ast.Name)}
    return bool(names & _BROAD)


def unbound(top: symtable.SymbolTable) -> set[str]:
    """Return the names that are looked up as global ones and that nothing in the file binds.

    A name that is bound later, or was deleted, counts as bound: a loop may come to it in its own
    order.
    """
    wanted: set[str] = set()
    bound: set[str] = set()
    pending = [top]
    while pending:
        table = pending.pop()
        pending += table.get_children()
        for symbol in table.get_symbols():
            if table is not top and not symbol.is_global():
                continue
            if symbol.is_referenced():
                wanted.add(symbol.get_name())
            if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                bound.add(symbol.get_name())
    return wanted - bound


def _imports(tree: ast.Module) -> dict[str, int]:
    """Return what is imported without any condition, with the line where it is imported first."""
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.name.partition(".")[0], node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.setdefault(node.module.partition(".")[0], node.lineno)
    return found


def read(text: str, path: str) -> dict[str, Any] | None:
    """Return the facts of one file; None if it cannot be read."""
    facts: dict[str, Any] = {
        "error": None,
        "imports": {},
        "mentions": [],
        "loads": [],
        "doubtful": [],
        "strings": [],
        "is_dynamic": False,
        "finds_modules": False,
    }
    try:
        # From bytes, as a file is read: a byte order mark and a coding cookie count.
        tree = ast.parse(text.encode(), path)
        compile(text.encode(), path, "exec", dont_inherit=True)
        names = unbound(symtable.symtable(text.lstrip("\ufeff"), path, "exec"))
        reader = _Reader()
        reader.visit(tree)
    except SyntaxError as error:
        facts["error"] = [error.lineno or 0, error.msg]
        return facts
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return None
    facts.update(
        imports=_imports(tree),
        mentions=sorted(reader.mentions),
        loads=[(line, name) for line, name in reader.loads if name in names],
        doubtful=reader.doubtful,
        strings=sorted(reader.strings),
        is_dynamic=reader.is_dynamic,
        finds_modules=reader.finds_modules,
    )
    return facts


def is_missing(module: str) -> bool:
    """Say whether no such top-level module can be found; runs none of it."""
    try:
        return importlib.util.find_spec(module) is None
    except Exception:  # noqa: BLE001 - a finder that an environment installs may raise anything
        return False


def _look_at_user_site() -> bool:
    """Look into the user's own site-packages too, which -I hides; return False if that cannot be.

    A trial without a sandbox sees them, outside of a virtual environment. What .pth files there
    would add, nobody knows without running them.
    """
    folder = Path(site.getusersitepackages())
    if _is_closed_environment() or not folder.is_dir():
        return True
    sys.path.append(str(folder))
    return not any(folder.glob("*.pth"))


def _is_closed_environment() -> bool:
    """Say whether this is a virtual environment that sees no other packages than its own."""
    if sys.prefix == sys.base_prefix:
        return False
    settings = Path(sys.prefix, "pyvenv.cfg").read_text(errors="replace").lower()
    return "include-system-site-packages = true" not in settings


def main() -> None:
    """Answer one question."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU_S, _MOST_CPU_S))
    question = json.loads(sys.stdin.buffer.read().decode())
    files = {path: read(text, path) for path, text in question["files"].items()}
    found = {path: facts for path, facts in files.items() if facts is not None}
    missing = _missing(found, question["known"])
    answer = {"version": list(sys.version_info[:2]), "files": found, "missing": missing}
    sys.stdout.write(json.dumps(answer))


def _missing(files: dict[str, dict[str, Any]], known: list[str] | None) -> list[str]:
    if known is None or not _look_at_user_site():
        return []
    names = {name for facts in files.values() for name in facts["imports"]}
    return [name for name in sorted(names.difference(known)) if is_missing(name)]


if __name__ == "__main__":
    main()
