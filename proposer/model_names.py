"""Which models the installed SDK knows by name, read from its source text.

Without importing it, which takes a second that a command has not.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def known_models() -> frozenset[str]:
    """Return the names that `anthropic.types.ModelParam` lists; none if it cannot be told."""
    spec = find_spec("anthropic")
    if spec is None or spec.origin is None:
        return frozenset()
    try:
        text = Path(spec.origin).with_name("types").joinpath("model_param.py").read_text("utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError):
        return frozenset()
    literals = (
        node.slice
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Literal"
    )
    constants = (each for literal in literals for each in ast.walk(literal))
    words = (each.value for each in constants if isinstance(each, ast.Constant))
    return frozenset(word for word in words if isinstance(word, str))
