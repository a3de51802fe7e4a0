"""Attempts on what judges a trial: code, labels, interpreter, installed packages."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.security.attempt import Aftermath, Attempt, Category, Control, Judge
from tests.security.attempts.files import changed_world

_attempt = partial(Attempt, category=Category.EVALUATOR)


def appeared(place: str) -> Judge:
    """Return a judge that looks for a new file; `place` names an attribute of the world and a path.

    What appeared is removed.
    """
    attribute, _, pattern = place.partition("/")

    def judge(aftermath: Aftermath) -> str:
        folder: Path = getattr(aftermath.world, attribute)
        found = list(folder.glob(pattern))
        for path in found:
            path.unlink()
        return f"{place} is there" if found else ""

    return judge


def new_file(name: str, category: Category, aim: str, place: str) -> Attempt:
    """Return an attempt to make a file at a `place` as `appeared` has it."""
    attribute, _, path = place.partition("/")
    return Attempt(
        name=name,
        category=category,
        aim=aim,
        script=f"""
path = host["{attribute}"] + "/{path}"
os.makedirs(os.path.dirname(path), exist_ok=True)
open(path, "w").close()
""",
        judge=appeared(place),
    )


def _python(*options: str, code: str, aftermath: Aftermath, env: dict[str, str]) -> str:
    """Run Python as somebody would who works where the candidate did; return what it prints."""
    return subprocess.run(
        (sys.executable, *options, "-c", code),
        cwd=aftermath.source,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


_IS_SHADOWED = "import json; print('shadowed' if not hasattr(json, 'loads') else '')"


def shadows_isolated_python(aftermath: Aftermath) -> str:
    """Import in an isolated interpreter, as the trusted side starts every one."""
    return _python("-I", code=_IS_SHADOWED, aftermath=aftermath, env={}).strip()


def shadows_python(aftermath: Aftermath) -> str:
    """Import in an interpreter that was just started there."""
    return _python("-S", code=_IS_SHADOWED, aftermath=aftermath, env={}).strip()


_WAS_CUSTOMISED = "import builtins; print(getattr(builtins, 'planted', ''))"


def customises_isolated_python(aftermath: Aftermath) -> str:
    """Start an isolated interpreter while PYTHONPATH names the candidate's folder."""
    env = {"PYTHONPATH": str(aftermath.out)}
    return _python("-I", code=_WAS_CUSTOMISED, aftermath=aftermath, env=env).strip()


def customises_python(aftermath: Aftermath) -> str:
    """Start any interpreter while PYTHONPATH names the candidate's folder."""
    env = {"PYTHONPATH": str(aftermath.out)}
    return _python(code=_WAS_CUSTOMISED, aftermath=aftermath, env=env).strip()


def imports_what_was_left(aftermath: Aftermath) -> str:
    """Import a frozen module from the folder in which the candidate ran."""
    code = f"import sys; sys.path.insert(0, {str(aftermath.source)!r}); import prepare; "
    code += "print('' if prepare.is_genuine else 'another prepare.py')"
    return _python("-I", code=code, aftermath=aftermath, env={}).strip()


_POISON = """
import importlib.util, marshal, sys
planted = compile("is_genuine = False", "{name}.py", "exec")
UNCHECKED_HASH = (1).to_bytes(4, "little")
data = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + bytes(8) + marshal.dumps(planted)
folder = {folder}
os.makedirs(folder, exist_ok=True)
Path(folder, f"{name}.{{sys.implementation.cache_tag}}.pyc").write_bytes(data)
"""
_SEES_PREPARE = """
sys.path.insert(0, os.getcwd())
import prepare
stopped("as committed") if prepare.is_genuine else escaped("another prepare.py")
"""
_new_file = partial(new_file, category=Category.EVALUATOR)
_next_trial = partial(
    _attempt,
    then=_SEES_PREPARE,
    control=Control.CARELESS,
    careless=imports_what_was_left,
    why="each trial gets a tree of its own; the control imports from what is left of the last",
)

ATTEMPTS = (
    _attempt(
        name="evaluation_code",
        aim="to change the code that judges it",
        script="with open(host['evaluator'], 'a') as file: file.write('score = max')\n",
        judge=changed_world,
    ),
    _attempt(
        name="evaluation_code_replaced",
        aim="the same by putting another file in its place",
        script="""
open(out + "/evaluate.py", "w").close()
os.replace(out + "/evaluate.py", host["evaluator"])
""",
        judge=changed_world,
    ),
    _attempt(
        name="installed_package",
        aim="to change a package that later trials import",
        script="with open(host['site_packages'] + '/torch.py', 'a') as file: file.write('x = 1')\n",
        judge=changed_world,
    ),
    _new_file(
        "new_package_start_file",
        aim="to have code run at each start of the environment's Python, by a .pth file",
        place="site_packages/planted.pth",
    ),
    _new_file(
        "site_customisation",
        aim="the same by sitecustomize.py",
        place="site_packages/sitecustomize.py",
    ),
    _attempt(
        name="compiled_package",
        aim="the same by a compiled file that Python does not compare with its source",
        script=_POISON.format(name="torch", folder="host['site_packages'] + '/__pycache__'"),
        judge=appeared("site_packages/__pycache__/torch.*.pyc"),
    ),
    _new_file(
        "user_packages",
        aim="the same by the user's own site-packages",
        place="home/.local/lib/python3.11/site-packages/usercustomize.py",
    ),
    _attempt(
        name="interpreter",
        aim="to put another interpreter into the environment",
        script="""
at = host["venv"] + "/bin/python"
os.rename(at, at + "-old")
os.rename(at + "-old", at)
escaped("moved, and moved back")
""",
    ),
    _next_trial(
        name="frozen_file",
        aim="to change a frozen file for the trials that follow",
        script="Path('prepare.py').write_text('is_genuine = False')\n",
    ),
    _next_trial(
        name="compiled_frozen_file",
        aim="the same by a compiled file that Python does not compare with its source",
        script=_POISON.format(name="prepare", folder="'__pycache__'"),
    ),
    _attempt(
        name="shadowed_module",
        aim="to have a module of the standard library replaced where Python is started beside it",
        script="for folder in (os.getcwd(), out): open(folder + '/json.py', 'w').close()\n",
        judge=shadows_isolated_python,
        control=Control.CARELESS,
        careless=shadows_python,
        why="the trusted side starts Python isolated; the control does not",
    ),
    _attempt(
        name="customised_python",
        aim="to have code run by a Python whose search path names its output",
        script="""
code = "import builtins; builtins.planted = 'code ran'"
Path(out, "sitecustomize.py").write_text(code)
""",
        judge=customises_isolated_python,
        control=Control.CARELESS,
        careless=customises_python,
        why="the trusted side starts Python isolated; the control does not",
    ),
)
