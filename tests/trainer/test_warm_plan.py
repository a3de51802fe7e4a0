"""Which commands start warm, and what is read off the source of a script."""

import json
from pathlib import PurePosixPath

import pytest

from trainer.run_records import WarmStart
from trainer.warm_plan import Cold, plan

ENV = {"PATH": "/venv/bin:/usr/bin", "HOME": "/home/u"}


def planned(files, command="python train.py", env=ENV, preload=None, tree="/experiment"):
    """The plan for a tree whose train.py is `files`, or for several files."""
    texts = {"train.py": files} if isinstance(files, str) else files

    def read(path: PurePosixPath) -> bytes | None:
        text = texts.get(str(path))
        return None if text is None else text.encode()

    return plan(command.split(), env, tree=tree, read=read, preload=preload)


def order_of(start) -> dict:
    assert isinstance(start, WarmStart), start
    return json.loads(start.argv[-1])


@pytest.mark.parametrize(
    ("command", "begins", "script", "arguments"),
    [
        ("python train.py", ("python",), "train.py", []),
        ("python3 -u train.py --lr 1", ("python3", "-u"), "train.py", ["--lr", "1"]),
        ("python3.12 -B -O ./train.py -u", ("python3.12", "-B", "-O"), "./train.py", ["-u"]),
        ("/venv/bin/python train.py", ("/venv/bin/python",), "train.py", []),
        ("uv run train.py 3", ("python",), "train.py", ["3"]),
        ("/opt/uv run python -u train.py", ("python", "-u"), "train.py", []),
    ],
)
def test_scripts_of_python_start_warm(command, begins, script, arguments) -> None:
    files = {"train.py": "import torch", "./train.py": "import torch"}
    start = planned(files, command)
    assert isinstance(start, WarmStart)
    assert start.argv[:-2] == (*begins, "-c")
    assert start.env == ENV
    order = order_of(start)
    assert (order["script"], order["arguments"]) == (script, arguments)
    assert order["preload"] == ["torch"]
    assert order["flags"] == list(begins[1:])


@pytest.mark.parametrize(
    "command",
    [
        "sh train.sh",
        "torchrun train.py",
        "python -m train",
        "python -X dev train.py",
        "python -c pass",
        "python",
        "python -u",
        "python /elsewhere/train.py",
        "python missing.py",
        "uv run",
        "uv run --with torch train.py",
        "uv run train",
        "uv sync train.py",
        "python2 train.py",
    ],
)
def test_other_commands_start_cold(command: str) -> None:
    assert isinstance(planned("import torch", command), Cold)


def test_a_script_that_brings_its_own_dependencies_starts_cold_under_uv() -> None:
    script = "# /// script\n# dependencies = ['torch']\n# ///\nimport torch"
    assert isinstance(planned(script, "uv run train.py"), Cold)
    assert isinstance(planned(script, "python train.py"), WarmStart)


@pytest.mark.parametrize(
    "files",
    [
        "import torch",
        "import torch.nn as nn",
        "from torch.utils.data import DataLoader",
        "import os, sys\nimport numpy as np\nimport torch",
        "try:\n    import torch\nexcept ImportError:\n    torch = None",
        "if True:\n    with open('x'):\n        import torch",
        "match 1:\n    case 1:\n        import torch",
        {"train.py": "from model import Net", "model.py": "import torch"},
        {"train.py": "import lib.net", "lib/__init__.py": "", "lib/net.py": "import torch"},
        {"train.py": "from lib import net", "lib/__init__.py": "", "lib/net.py": "import torch"},
        {
            "train.py": "import lib.a",
            "lib/__init__.py": "",
            "lib/a.py": "from . import b\nfrom .b import x",
            "lib/b.py": "import torch",
        },
        {"train.py": "import a", "a.py": "import b", "b.py": "import a\nimport torch"},
    ],
)
def test_torch_is_imported_early_where_the_script_imports_it(files) -> None:
    assert order_of(planned(files))["preload"] == ["torch"]


@pytest.mark.parametrize(
    "files",
    [
        "import json",
        "def f():\n    import torch",
        "import torchvision",
        "import torch.nn as nn; this is no Python",
        {"train.py": "import model", "model.py": "import json"},
    ],
)
def test_a_script_without_torch_starts_cold(files) -> None:
    assert isinstance(planned(files), Cold)


def test_what_is_imported_early_can_be_said() -> None:
    start = planned("import json", preload=("numpy", "tiktoken"))
    assert order_of(start)["preload"] == ["numpy", "tiktoken"]
    assert planned("import torch", preload=()) == Cold(reason="[trial] preload is empty")


@pytest.mark.parametrize(
    ("before", "settings"),
    [
        ('os.environ["A"] = "1"', {"A": "1"}),
        ("import os as o\no.environ['A'] = '1'\no.environ['A'] = '2'", {"A": "2"}),
        ("from os import environ\nenviron['A'] = '1'", {"A": "1"}),
        ("os.environ.setdefault('A', '1'); os.environ.setdefault('HOME', '/x')", {"A": "1"}),
        ("os.environ.setdefault('A', '1'); os.environ.setdefault('A', '2')", {"A": "1"}),
        ("os.environ.update({'A': '1', 'B': '2'}, C='3')", {"A": "1", "B": "2", "C": "3"}),
        ("os.environ.update(A='1')", {"A": "1"}),
        ("print(os.environ['HOME'], os.environ.get('A'), 'A' in os.environ)", {}),
        ("budget = float(os.environ.get('INCUMBENT_BUDGET_S', 300))", {}),
    ],
)
def test_what_a_script_sets_before_it_imports_torch_is_read_off(before, settings) -> None:
    script = f"import os\n{before}\nimport torch\nos.environ['LATE'] = '1'"
    assert order_of(planned(script))["settings"] == settings


def test_settings_of_modules_of_the_tree_count_in_their_order() -> None:
    files = {
        "train.py": "import first\nimport os\nos.environ['A'] = '2'\nimport last",
        "first.py": "import os\nos.environ['A'] = '1'\nos.environ['B'] = '1'",
        "last.py": "import os\nos.environ['C'] = '3'\nimport torch\nos.environ['D'] = '4'",
    }
    assert order_of(planned(files))["settings"] == {"A": "2", "B": "1", "C": "3"}


@pytest.mark.parametrize(
    "before",
    [
        "os.environ['A'] = str(1)",
        "os.environ[name] = '1'",
        "os.environ['A'] += '1'",
        "os.environ |= {'A': '1'}",
        "os.environ = {}",
        "del os.environ['A']",
        "os.environ.pop('A')",
        "os.environ.clear()",
        "os.environ.update(values)",
        "os.environ.update({'A': a})",
        "os.environ.update({**a})",
        "os.environ.update(**a)",
        "os.environ.setdefault('A')",
        "os.putenv('A', '1')",
        "environment = os.environ",
        "change(os.environ)",
        "if True:\n    os.environ['A'] = '1'",
        "def f():\n    os.environ['A'] = '1'",
        "import numpy\nos.environ['A'] = '1'",
    ],
)
def test_what_is_not_plain_starts_cold(before: str) -> None:
    found = planned(f"import os\n{before}\nimport torch")
    assert isinstance(found, Cold)
    assert found.reason.startswith("train.py, line ")


@pytest.mark.parametrize(
    "before",
    [
        "sys.path.insert(0, 'lib')\nimport settings",
        "sys.path += ['lib']",
        "from sys import path\npath.append('lib')",
        "sys.modules['numpy'] = None",
        'exec(\'import os; os.environ["A"] = "1"\')',
        "import importlib\nimportlib.import_module('settings')",
        "from importlib import import_module\nimport_module('settings')",
        "__import__('settings')",
        "import site\nsite.addsitedir('lib')",
        "import os\nos.sched_setaffinity(0, {0})",
    ],
)
def test_what_no_source_tells_the_effect_of_starts_cold(before: str) -> None:
    cold = planned(f"import sys\n{before}\nimport torch")
    assert isinstance(cold, Cold)
    assert cold.reason.endswith("before what is imported early")
    assert isinstance(planned(f"import torch\nimport sys\n{before}"), WarmStart)


@pytest.mark.parametrize(
    "before", ["model.eval()", "print(sys.path[0], len(sys.path))", "sys.modules['os'].getcwd()"]
)
def test_what_only_looks_like_that_starts_warm(before: str) -> None:
    assert isinstance(planned(f"import sys\n{before}\nimport torch"), WarmStart)


def test_a_candidate_whose_settings_differ_is_armed_with_its_own() -> None:
    base = order_of(planned("import os\nos.environ['A'] = '1'\nimport torch"))
    other = order_of(planned("import os\nos.environ['A'] = '2'\nimport torch"))
    assert (base["settings"], other["settings"]) == ({"A": "1"}, {"A": "2"})


def test_folders_of_the_tree_join_the_search_path_late() -> None:
    files = {"train.py": "import package", "src/package/__init__.py": "import torch"}
    start = planned(files, env={**ENV, "PYTHONPATH": "/experiment/src:/elsewhere"})
    order = order_of(start)
    assert start.env == ENV
    assert order["late_path"] == ["/experiment/src", "/elsewhere"]
    assert order["late_environment"] == {"PYTHONPATH": "/experiment/src:/elsewhere"}


def test_endless_or_hostile_sources_end_in_a_cold_start() -> None:
    deep = "(" * 5000 + ")" * 5000
    assert isinstance(planned(deep), Cold)
    assert isinstance(planned("\0"), Cold)
    assert isinstance(planned("if 1: pass\n" + "elif 1: pass\n" * 2500), Cold)
    many = {f"m{n}.py": f"import m{n + 1}" for n in range(500)}
    assert isinstance(planned({"train.py": "import m0", **many}), Cold)


def test_the_environment_by_another_name_starts_cold() -> None:
    source = "from os import environ as env\nenv['OMP_NUM_THREADS'] = '1'\nimport torch"
    assert isinstance(planned(source), Cold)
    assert isinstance(planned("from os import environ\nimport torch"), WarmStart)
