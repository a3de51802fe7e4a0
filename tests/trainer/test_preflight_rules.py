"""What preflight rejects and what it lets pass, rule by rule.

Every source is run as well: what is rejected has to fail, and what passes here has to succeed, so
that no row of the tables can be wrong about Python.
"""

import re
import subprocess
import sys

import pytest

from tests.trainer.conftest import Research
from tests.trainer.preflights import BASE, TREE, check, ending, patched


def runs(research: Research, candidate: str) -> bool:
    """Say whether the script ends well and prints the metric."""
    for name, text in {**TREE, "train.py": candidate}.items():
        (research.checkout / name).parent.mkdir(exist_ok=True)
        (research.checkout / name).write_text(text)
    done = subprocess.run(
        (sys.executable, "train.py"),
        check=False,
        cwd=research.checkout,
        capture_output=True,
        text=True,
    )
    return done.returncode == 0 and "val_loss" in done.stdout


# --- what is rejected -----------------------------------------------------------------------------

NO_SUCH = "needs no_such_package, which is not in the environment"
REJECTED = {
    "a typo": (patched("value = loss(", "value = los("), "train.py:11: undefined name 'los'"),
    "a typo in a function": (
        patched("* SCALE", "* SKALE"),
        "train.py:8: undefined name 'SKALE'",
    ),
    "a function that is gone": (
        patched("def loss(x):\n    return math.sqrt(x) * SCALE\n", ""),
        "train.py:9: undefined name 'loss'",
    ),
    "a name that is local elsewhere": (
        patched("math.sqrt(x) * SCALE", "(lambda factor: x)(1) * factor"),
        "train.py:8: undefined name 'factor'",
    ),
    "an import that is gone": (
        patched("import math\n", ""),
        "train.py:7: undefined name 'math'",
    ),
    "a name in a class": (
        ending("class Model:\n    width = WIDHT"),
        "train.py:15: undefined name 'WIDHT'",
    ),
    "several": (
        patched("value = loss(4.0)", "value = aa + aa + bb + cc + dd"),
        (
            "train.py:11: undefined name 'aa'; train.py:11: undefined name 'bb'; "
            "train.py:11: undefined name 'cc' (and 1 more)"
        ),
    ),
    "a handler for something else": (
        ending("try:\n    made\nexcept RuntimeError:\n    pass"),
        "train.py:15: undefined name 'made'",
    ),
    "an open parenthesis": (
        patched("loss(4.0)", "loss(4.0"),
        "train.py:11: syntax error: '(' was never closed",
    ),
    "a wrong indent": (
        patched("    return", "  return 1\n    return"),
        "train.py:9: syntax error: unexpected indent",
    ),
    "a return without a function": (
        ending("return value"),
        "train.py:14: syntax error: 'return' outside function",
    ),
    "a package": (patched("import math", "import math, no_such_package"), f"train.py:1: {NO_SUCH}"),
    "a package's part": (
        patched("import sys", "import sys\nfrom no_such_package.nn import Linear"),
        f"train.py:3: {NO_SUCH}",
    ),
    "the metric is lost": (
        patched('print(f"val_loss: {value}")\n', ""),
        "train.py: no longer prints val_loss",
    ),
    "the metric is renamed": (
        patched('"val_loss: {value}"', '"objective: {value}"'),
        "train.py: no longer prints val_loss",
    ),
    "the metric is in a docstring alone": (
        '"""Prints val_loss."""\n' + patched('print(f"val_loss: {value}")\n', ""),
        "train.py: no longer prints val_loss",
    ),
    "F501": (
        ending('print("%y" % value)'),
        "train.py:14: '%'-format string has unsupported format character 'y'",
    ),
    "F502": (
        ending('print("%(a)s" % (1,))'),
        "train.py:14: '%'-format string expected mapping but got sequence",
    ),
    "F505": (ending('print("%(a)s %(b)s" % {"a": 1})'), "train.py:14: .*missing .*: b"),
    "F507": (
        ending('print("%s %s" % (1,))'),
        r"train.py:14: .*2 placeholder\(s\) but 1 substitution\(s\)",
    ),
    "F521": (ending('print("{".format(1))'), "train.py:14: '.format' .*invalid format string.*"),
    "F524": (ending('print("{} {}".format(1))'), "train.py:14: '.format' .*missing .*: 1"),
    "F525": (ending('print("{} {0}".format(1))'), "train.py:14: '.format' .*mixes .*"),
    "F633": (ending('print >> sys.stderr, "done"'), "train.py:14: .*'>>'.*'print'.*"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_can_only_fail_is_rejected_with_the_line(research: Research, name: str) -> None:
    candidate, reason = REJECTED[name]
    assert not runs(research, candidate)
    found = check(research, candidate)
    assert "\n" not in found
    if name.startswith("F"):
        assert re.fullmatch(reason, found), found
    else:
        assert found == reason


# --- what passes ----------------------------------------------------------------------------------

PASSES = {
    "nothing unusual": patched("* SCALE", "* SCALE + abs(0)"),
    "a star import": patched("import math\n", "import math\nfrom math import *\n").replace(
        "math.sqrt", "sqrt"
    ),
    "globals": ending('globals()["made"] = 1\nprint(made)'),
    "vars": ending('vars()["made"] = 1\nprint(made)'),
    "locals": ending('locals()["made"] = 1\nprint(made)'),
    "exec": ending('exec("made = 1")\nprint(made)'),
    "builtins": ending("import builtins\nbuiltins.made = 1\nprint(made)"),
    "the module itself": ending('setattr(sys.modules[__name__], "made", 1)\nprint(made)'),
    "asking first": ending('if "made" in dir():\n    print(made)'),
    "a name that is global in a function": ending(
        "def make():\n    global made\n    made = 1\n\nmake()\nprint(made)"
    ),
    "a name that is deleted": ending("for made in (1, 2):\n    print(made)\n    del made"),
    "a handler for NameError": ending("try:\n    made\nexcept NameError:\n    made = 1"),
    "a handler for anything": ending("try:\n    made\nexcept Exception:\n    made = 1"),
    "a bare handler": ending('try:\n    "%d %d" % (1,)\nexcept:\n    made = 1'),
    "suppressed": ending("import contextlib\nwith contextlib.suppress(NameError):\n    made"),
    "for type checkers": ending(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    import no_such_package\n    made\n"
        "def f(x: 'no_such_package.Tensor') -> 'Made':\n    return x"
    ),
    "postponed annotations": "from __future__ import annotations\n"
    + ending("def f(x: Made, *rest: More) -> Most:\n    y: Other = x\n    return y"),
    "annotations of shapes": ending(
        "def f(x: dict['batch seq', 'heads']) -> 'batch':\n    return x"
    ),
    "noqa": ending("def never():\n    return made  # noqa: F821"),
    "a package that may be absent": ending(
        "try:\n    import no_such_package\nexcept ImportError:\n    no_such_package = None"
    ),
    "a package on one platform": ending('if sys.platform == "none":\n    import no_such_package'),
    "a package that is imported when needed": ending("def never():\n    import no_such_package"),
    "a part of the tree": ending("import parts.blocks\nfrom helper import report"),
    "another folder": ending(
        "import pathlib, tempfile\nfolder = tempfile.mkdtemp()\n"
        'pathlib.Path(folder, "made.py").write_text("X = 1")\n'
        "sys.path.insert(0, folder)\nimport made"
    ),
    "the standard library": ending("import zoneinfo, tomllib, ctypes, xml.etree"),
    "what Incumbent's own Python has": ending("import pydantic"),
    "the metric from a dict": patched(
        'print(f"val_loss: {value}")\n',
        'for name, number in dict(val_loss=value).items():\n    print(f"{name}: {number}")\n',
    ),
    "the metric from parts": patched(
        'print(f"val_loss: {value}")\n', 'kind = "loss"\nprint(f"val_{kind}: {value}")\n'
    ),
    "the metric from a field": patched(
        'print(f"val_loss: {value}")\n',
        "from dataclasses import asdict, dataclass\n\n"
        "@dataclass\nclass End:\n    val_loss: float\n\n"
        'for name, number in asdict(End(value)).items():\n    print(f"{name}: {number}")\n',
    ),
    "the metric from an attribute": patched(
        'print(f"val_loss: {value}")\n',
        "class End: pass\n\nend = End()\nend.val_loss = value\n"
        'for name, number in vars(end).items():\n    print(f"{name}: {number}")\n',
    ),
    "the metric as bytes": patched(
        'print(f"val_loss: {value}")\n', 'sys.stdout.buffer.write(b"val_loss: %f" % value)\n'
    ),
    "the metric by the name of a variable": patched(
        'print(f"val_loss: {value}")\n',
        'val_loss = value\nfor name in ("val" + "_loss",):\n    print(name, locals()[name])\n',
    ),
    "a byte order mark": "\ufeff" + patched("SCALE = 1.0", "SCALE = 1.0  # scaled"),
    "a coding cookie": "# -*- coding: utf-8 -*-\n" + BASE,
    "carriage returns": patched("* SCALE", "* SCALE + 0").replace("\n", "\r\n"),
    "one placeholder for a dict": ending('print("%s" % {"a": 1}, "%s %(a)s" % {"a": 1})'),
    "nothing to format": ending('print("%%" % {}, "text" % (locals()), "text" % [1])'),
    "a tuple from elsewhere": ending('def two():\n    return 1, 2\n\nprint("%s %s" % two())'),
    "a name of an earlier round": ending(
        "for n in range(2):\n    if n > 0:\n        print(last)\n    last = n"
    ),
    "a local name of an earlier round": ending(
        "def f():\n    for n in range(2):\n        if n > 0:\n            print(last)\n"
        "        last = n\n\nf()"
    ),
    "a helper that is deleted in the end": ending(
        "def helper():\n    pass\n\ndef f():\n    helper()\n\nf()\ndel helper"
    ),
    "a percent sign": ending('print("100%% of %s" % value)'),
    "unused arguments": ending('print("{}".format(1, 2), "%(a)s" % {"a": 1, "b": 2})'),
    "a local name before its line": ending(
        "def last():\n    for n in range(2):\n        if n > 0:\n            print(value)\n"
        "        value = n\n\nlast()"
    ),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_may_succeed_passes(research: Research, name: str) -> None:
    candidate = PASSES[name]
    assert runs(research, candidate)
    assert check(research, candidate) == ""
