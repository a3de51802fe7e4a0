"""Whether two versions of a program are the same code, whatever their comments look like. Pure."""

import ast
import hashlib
from collections.abc import Mapping


def digest(files: Mapping[str, str]) -> str:
    """Return a digest that versions share if they differ in comments and formatting alone.

    Python is compared by its syntax tree, docstrings and all; what Python cannot read, and all
    other files, by their text.
    """
    whole = hashlib.sha256()
    for path in sorted(files):
        content = _essence(path, files[path])
        whole.update(f"{path}\0{len(content)}\0{content}\0".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()[:40]


def _essence(path: str, text: str) -> str:
    if not path.endswith(".py"):
        return text
    try:
        return ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
