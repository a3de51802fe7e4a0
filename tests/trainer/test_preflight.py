"""What preflight rejects and what it lets pass.

Every source is run as well: what is rejected has to fail, and what passes here has to succeed, so
that no row of the tables can be wrong about Python.
"""

import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from eval.metric import Goal, Metric
from tests.infra.autoresearch_repository import create_autoresearch_repository
from tests.trainer.conftest import Research, git
from trainer import source_checks
from trainer.preflight import Preflight, is_same_but_numbers
from trainer.source_checks import ask_ruff
from trainer.trial import CommitId

METRIC = Metric(name="val_loss", goal=Goal.MINIMIZE, pattern=r"^val_loss:\s+(\S+)")
HERE = Path(sys.executable)
BASE = """\
import math
import sys

SCALE = 1.0


def loss(x):
    return math.sqrt(x) * SCALE


value = loss(4.0)
print("begin", file=sys.stderr)
print(f"val_loss: {value}")
"""
TREE = {
    "train.py": BASE,
    "helper.py": "def report(number):\n    print('the end', number)\n",
    "parts/blocks.py": "WIDTH = 3\n",
    "README.md": "prints val_loss\n",
}


def check(
    research: Research,
    candidate: str,
    *,
    python: Path | None = HERE,
    tree: Mapping[str, str] = TREE,
    metric: Metric = METRIC,
    path: str = "train.py",
) -> str:
    base = research.commit({**tree, "nothing.txt": uuid.uuid4().hex})  # git wants a change
    preflight = Preflight(repository=research.bare, metric=metric, python=python)
    return preflight.problem(
        base=CommitId(base), before={path: tree[path]}, after={path: candidate}
    )


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


def patched(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


def ending(line: str) -> str:
    return BASE + line + "\n"


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
        patched("value = loss(4.0)", "value = aa + bb + cc + dd"),
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


def test_what_the_base_has_is_no_problem_of_the_candidate(research: Research) -> None:
    odd = BASE + "def never():\n    import gone_package\n    return made + '%d %d' % (1,)\n"
    tree = {**TREE, "train.py": odd}
    assert check(research, odd + "made\nimport gone_package\n", tree=tree) == ""
    assert check(research, odd + "other\n", tree=tree) == "train.py:17: undefined name 'other'"


def test_the_metric_may_be_printed_by_a_frozen_file(research: Research) -> None:
    lost = patched('print(f"val_loss: {value}")', "import helper\nhelper.report(value)")
    assert check(research, lost) == "train.py: no longer prints val_loss"
    tree = {**TREE, "helper.py": "def report(x):\n    print(f'val_loss: {x}')\n"}
    assert check(research, lost, tree=tree) == ""


def test_a_base_that_changes_where_modules_are_found_lets_any_module_pass(
    research: Research,
) -> None:
    wants = patched("import math", "import math, no_such_package")
    tree = {**TREE, "helper.py": "import sys\nsys.path.append('lib')\n"}
    assert check(research, wants, tree=tree) == ""


def test_a_script_that_brings_its_own_dependencies_may_import_them(research: Research) -> None:
    head = "# /// script\n# dependencies = ['no_such_package']\n# ///\n"
    wants = head + patched("import math", "import math, no_such_package")
    assert check(research, wants) == ""


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("run.sh", "python train.py\n", "python train.py $((\n"),
        ("notes.ipynb", "{}", "{"),
        ("train.py", "print 'python 2'\n", "print 'val_loss', (\n"),
        ("train.py", "%matplotlib inline\n", "%matplotlib inline\nmade(\n"),
    ],
)
def test_what_was_never_python_passes(
    research: Research, path: str, before: str, after: str
) -> None:
    assert check(research, after, tree={**TREE, path: before}, path=path) == ""


def test_a_source_that_cannot_be_read_passes(research: Research) -> None:
    assert check(research, BASE + "x = " + "-" * 200_000 + "1\n") == ""
    assert check(research, BASE + "x = " + "[" * 90 + "]" * 90 + "\n") == ""


def test_a_new_file_is_looked_at_too(research: Research) -> None:
    base = CommitId(research.commit(TREE))
    preflight = Preflight(repository=research.bare, metric=METRIC, python=HERE)
    after = {"train.py": BASE, "model.py": "WIDTH = HEIGHT\n"}
    reason = preflight.problem(base=base, before={"train.py": BASE}, after=after)
    assert reason == "model.py:1: undefined name 'HEIGHT'"
    moved = {"train.py": "import model\n", "model.py": BASE + "x = 1\n"}
    assert preflight.problem(base=base, before={"train.py": BASE}, after=moved) == ""


# --- the interpreter ------------------------------------------------------------------------------


def test_without_a_known_interpreter_no_module_is_missing(research: Research) -> None:
    wants = patched("import math", "import math, no_such_package")
    assert check(research, wants, python=None) == ""
    assert check(research, BASE + "made\n", python=None) == "train.py:14: undefined name 'made'"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="needs syntax newer than this Python")
def test_without_a_known_interpreter_newer_syntax_passes(research: Research) -> None:
    newer = BASE + "type Number = int | float\n"
    assert check(research, newer, python=None) == ""
    assert check(research, newer) == "train.py:14: syntax error: invalid syntax"
    broken = "train.py:14: syntax error: '(' was never closed"
    assert check(research, BASE + "(\n", python=None) == broken


@pytest.mark.parametrize("words", ["exit 1", "echo nonsense", "sleep 60"])
def test_a_check_that_fails_lets_everything_pass(
    research: Research, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(source_checks, "_TIME_LIMIT_S", 0.5)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {words}\n" if words != "exit 1" else "#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert check(research, BASE + "(\n", python=python) == ""
    assert check(research, BASE + "(\n", python=tmp_path / "none") == ""


def test_nothing_of_a_candidate_is_run(research: Research, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    spell = f"open({str(trace)!r}, 'w')"
    candidate = f"import helper\n{spell}\n\n@{spell}\ndef f(x={spell}): pass\n{BASE}"
    tree = {**TREE, "helper.py": spell, "sitecustomize.py": spell, "ast.py": spell}
    assert check(research, candidate + "made\n", tree=tree).endswith("undefined name 'made'")
    assert not trace.exists()


@pytest.mark.parametrize("version", [None, (3, 6), (3, 8), (3, 11), (3, 99)])
def test_ruff_is_asked_for_the_nearest_version_that_it_knows(
    version: tuple[int, int] | None,
) -> None:
    assert [finding.code for finding in ask_ruff("made\n", version)] == ["F821"]


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("LR = 3e-4", "LR = 1e-3", True),
        ("LR = 0.5  # half", "LR = 1  # half", True),
        ("N = 2**16", "N = 2**17", True),
        ("N = 524_288", "N = 65_536", True),
        ("B = (0.8, 0.95)", "B = (0.9, 0.95)", True),
        ("N = 1", "N = 01", False),
        ("N = 1", "N = 1x", False),
        ("N = 1", "N = 1e", False),
        ("x1 = 1", "x2 = 1", False),
        ("N = 1", "N = M", False),
        ("N = 1", "N = -1", False),
        ("N = 1", "N = 1\n", False),
        ("a\nb", "a b", False),
        ('N = "1.5"', 'N = "2.5"', True),
    ],
)
def test_only_numbers_make_no_difference(*, old: str, new: str, same: bool) -> None:
    assert is_same_but_numbers(old, new) is same


def test_a_turned_constant_is_not_worth_asking_about(research: Research) -> None:
    assert check(research, patched("1.0", "2.5"), python=Path("/nobody/is/asked")) == ""


# --- repositories like real ones ------------------------------------------------------------------


def test_an_autoresearch_repository_passes(tmp_path: Path) -> None:
    source = create_autoresearch_repository(tmp_path / "source")
    text = (source / "train.py").read_text()
    metric = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
    preflight = Preflight(repository=source / ".git", metric=metric, python=HERE)

    def problem(new: str) -> str:
        base = CommitId(git(source, "rev-parse", "HEAD"))
        return preflight.problem(base=base, before={"train.py": text}, after={"train.py": new})

    assert problem(text + "\n# touched\n") == ""
    assert problem(text.replace("import math", "import math  # kept")) == ""
    lines = text.splitlines(keepends=True)
    lost = "".join(line for line in lines if not line.startswith('print(f"val_bpb'))
    assert problem(lost) == "train.py: no longer prints val_bpb"


ECLIP = '''\
"""Mutable training script. Reports the mean rank."""

import os
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore", category=FutureWarning)

import some_framework as fw
from prepare import N_FOLDS, build_fold_dataloaders

DEVICE = "cuda" if fw.cuda.is_available() else "cpu"


class Encoder(fw.Module):
    def __init__(self, name: str = "vit", dim: int = 512):
        super().__init__()
        import another_framework

        self.backbone = another_framework.create(name, dim)


def train() -> float:
    ranks = [1.0 for fold in range(N_FOLDS)]
    for i, r in enumerate(ranks):
        print(f"  Fold {i}: mean_rank = {r:.2f}")
    print(f"\\n>>> val_metric (mean_rank, lower is better): {sum(ranks):.4f}")
    return sum(ranks)


if __name__ == "__main__":
    train()
'''
MARKED = Metric(name="mean_rank", goal=Goal.MINIMIZE, pattern=r"^>>> val_metric \([^)]*\):\s+(\S+)")


def test_a_repository_like_eclips_passes(research: Research) -> None:
    """It runs in a container whose Python nobody knows, from a folder below the top."""
    path = "autoresearch/train.py"
    tree = {path: ECLIP, "autoresearch/prepare.py": "N_FOLDS = 3\n", "autoresearch/run.sh": "x\n"}

    def problem(new: str, python: Path | None = None) -> str:
        return check(research, new, python=python, tree=tree, metric=MARKED, path=path)

    touched = ECLIP.replace("dim: int = 512", "dim: int = 256, *rest")
    wants = ECLIP.replace("import warnings", "import warnings\nimport third_framework")
    lost = ECLIP.replace(">>> val_metric (mean_rank, lower is better)", "mean_rank")
    assert [problem(touched), problem(touched, HERE), problem(wants)] == ["", "", ""]
    assert problem(wants, HERE).startswith(f"{path}:5: needs third_framework")
    assert problem(lost) == f"{path}: no longer prints mean_rank"
