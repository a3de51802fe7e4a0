"""Reads the assignments of a shell script or an environment file.

Knows `KEY=value` and `export KEY=value` alone on a line that is not indented. Deliberately not a
shell: what needs an expansion, a continuation or a command behind it is left alone.
"""

import math
import re
from collections import Counter

from proposer.knob import Knob, is_constant, read_hint
from proposer.literal import Syntax, shell_boolean
from proposer.proposal import Scalar

_ASSIGNMENT = re.compile(
    r"""^(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)=
        (?P<source>(?P<quote>["'])(?P<quoted>[^"'$`\\\r\n!]+)(?P=quote)|(?P<bare>[\w.+:/,@%=-]+))
        (?:[ \t]+(?P<comment>\#[^\r\n]*))?[ \t]*\r?$""",
    re.MULTILINE | re.VERBOSE | re.ASCII,
)
_BINDING = re.compile(r"(?:^|[\s;&|({])([A-Za-z_]\w*)\+?=", re.ASCII)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?", re.ASCII)


def read_shell(path: str, text: str) -> list[Knob]:
    """Return the assignments of a file whose name is assigned only once, in order of its lines."""
    bindings = Counter(_BINDING.findall(text))
    knobs = []
    for found in _ASSIGNMENT.finditer(text):
        value = _value(found["quoted"] or found["bare"])
        source = found["source"]
        hint = read_hint(found["comment"] or "", value, source=source, syntax=Syntax.SHELL)
        if bindings[found["name"]] == 1 and is_constant(found["name"], hint):
            knob = Knob(
                name=found["name"],
                path=path,
                value=value,
                source=source,
                start=found.start("source"),
                syntax=Syntax.SHELL,
                hint=hint,
            )
            knobs.append(knob)
    return knobs


def _value(word: str) -> Scalar:
    if _INTEGER.fullmatch(word):
        return int(word)
    if _FLOAT.fullmatch(word) and math.isfinite(float(word)):
        return float(word)
    boolean = shell_boolean(word)
    return word if boolean is None else boolean
