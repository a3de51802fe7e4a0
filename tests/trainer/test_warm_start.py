"""The same script by `python SCRIPT` and by a process that waited: nothing must tell them apart."""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from trainer import warm_plan
from trainer.run_records import WarmStart
from trainer.warm_plan import Cold, plan

PATIENCE_S = 60.0
ENV = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "LANG": "C.UTF-8"}


@dataclass
class Result:
    status: int
    output: str
    files: dict[str, bytes]


class Tree:
    """A folder with scripts, and both ways to run one."""

    def __init__(self, path: Path, files: dict[str, str]) -> None:
        self.path = path
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        self.before = self._files()

    def _files(self) -> dict[str, bytes]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return {str(p.relative_to(self.path)): p.read_bytes() for p in found if p.suffix != ".pyc"}

    def _result(self, process: "subprocess.Popen[bytes]") -> Result:
        output, _ = process.communicate(timeout=PATIENCE_S)
        written = {n: data for n, data in self._files().items() if n not in self.before}
        for name in written:
            (self.path / name).unlink()
        text = re.sub(r"0x[0-9a-f]{8,}", "ADDRESS", output.decode())
        return Result(process.returncode, text, written)

    def _popen(self, argv, env, stdin) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            argv,
            cwd=self.path,
            env=env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def cold(self, *argv: str, env: dict[str, str] = ENV) -> Result:
        return self._result(self._popen(argv, env, subprocess.DEVNULL))

    def plan(self, *argv: str, preload=("decimal",), env: dict[str, str] = ENV) -> WarmStart | Cold:
        def read(path: PurePosixPath) -> bytes | None:
            file = self.path / path
            return file.read_bytes() if file.is_file() else None

        return plan(argv, env, tree=str(self.path), read=read, preload=preload)

    def warm(self, *argv: str, preload=("decimal",), env: dict[str, str] = ENV) -> Result:
        process, ours = self.arm(*argv, preload=preload, env=env)
        with ours:
            assert ours.recv(600) == b"ready\n"
            ours.sendall(b"!")
        return self._result(process)

    def arm(self, *argv, preload=("decimal",), env=ENV):
        start = self.plan(*argv, preload=preload, env=env)
        assert isinstance(start, WarmStart), start
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        with theirs:
            return self._popen(start.argv, start.env, theirs), ours


def same_both_ways(tree: Tree, *argv: str, **values) -> Result:
    """Run both ways and return the result, which must be one and the same."""
    preload = values.pop("preload", ("decimal",))
    cold = tree.cold(*argv, **values)
    assert tree.warm(*argv, preload=preload, **values) == cold
    return cold


SCRIPTS = {
    "namespace": """
import sys, os
print(__name__, __file__, __doc__, __package__, __spec__, __cached__, type(__loader__).__name__)
print(sorted(globals()), __builtins__, sys.modules["__main__"].__file__)
print(sys.argv, sys.orig_argv[1:], sys.path[0], os.getcwd(), len(sys.path), sys.flags)
print(sorted(os.environ.items()))
import inspect
def f(): return 1
print(inspect.getsource(f), inspect.getfile(f))
""",
    "annotations": "from __future__ import annotations\nx: undefined = 1\nprint(__annotations__)",
    "no inherited annotations": "x: int = 1\nprint(__annotations__)",
    "standard input": "import sys, os\nprint([sys.stdin.read()], os.isatty(0), os.read(0, 1))",
    "open files": """
import os
print(sorted(os.readlink(f'/proc/self/fd/{n}').partition(':')[0] for n in range(30)
  if os.path.exists(f'/proc/self/fd/{n}')))
""",
    "traceback": "def f():\n    1 / 0\n\nf()\n",
    "chained traceback": "try: {}['a']\nexcept KeyError as e: raise RuntimeError('b') from e",
    "traceback from a module": "import local\nlocal.fail()\n",
    "import error": "import nowhere_to_be_found",
    "recursion": "def f(): f()\ntry: f()\nexcept RecursionError as e: print(e)",
    "exit nothing": "raise SystemExit",
    "exit 3": "import sys; sys.exit(3)",
    "exit negative": "import sys; sys.exit(-1)",
    "exit 256": "import sys; sys.exit(256)",
    "exit large": "import sys; sys.exit(1 << 40 | 3)",
    "exit huge": "import sys; sys.exit(1 << 80)",
    "exit text": "import sys; print('a'); sys.exit('no data')",
    "exit False": "import sys; sys.exit(False)",
    "exit object": "import sys; sys.exit((1, 2))",
    "os._exit": "import os; print('lost?', flush=True); os._exit(7)",
    "interrupted": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "aborted": "import os, faulthandler; os.abort()",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "excepthook": """
import sys
def hook(kind, error, trace):
    print('hook', kind, error, trace.tb_lineno, trace.tb_frame.f_code.co_name, sys.last_value)
sys.excepthook = hook
1 / 0
""",
    "broken excepthook": """
import sys
def hook(kind, error, trace): raise ValueError('hook')
sys.excepthook = hook
1 / 0
""",
    "excepthook that exits": "import sys\nsys.excepthook = lambda *a: sys.exit(5)\n1 / 0",
    "atexit": """
import atexit, sys
atexit.register(print, 'first registered')
atexit.register(lambda: 1 / 0)
atexit.register(print, 'last registered')
sys.exit(4)
""",
    "atexit after a failure": "import atexit\natexit.register(print, 'bye')\n1 / 0",
    "threads": """
import threading, time
def work():
    time.sleep(0.1)
    print('thread done')
threading.Thread(target=work).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print('main done')
""",
    "executor": """
import concurrent.futures, time
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(lambda: (time.sleep(0.1), print('task done')))
print('main done')
""",
    "thread's exception": """
import threading
def work(): 1 / 0
t = threading.Thread(target=work, name='T'); t.start(); t.join()
""",
    "destructors": """
class Loud:
    def __init__(self, name): self.name = name
    def __del__(self): print('gone', self.name)
_a, b, c = Loud('a'), Loud('b'), Loud('c')
print('end')
""",
    "unclosed files": """
import gzip, io, zipfile, local
a = open('a.txt', 'w'); a.write('text')
b = open('b.bin', 'wb'); b.write(b'binary')
c = gzip.GzipFile('c.gz', 'wb', mtime=0); c.write(b'zipped')
d = zipfile.ZipFile('d.zip', 'w'); d.writestr(zipfile.ZipInfo('m'), 'member')
local.kept = open('e.txt', 'w'); local.kept.write('held by a module')
local.zipped = io.TextIOWrapper(gzip.GzipFile('f.gz', 'wb', mtime=0))
local.zipped.write('held by a module')
""",
    "unclosed files after a failure": "a = open('a.txt', 'w'); a.write('text')\n1 / 0",
    "C's own buffer": "import ctypes\nctypes.CDLL(None).puts(b'from C')\n",
    "unbuffered mix": "import sys\nfor i in range(3): print(i); print(i, file=sys.stderr)",
    "full output": """
import os, sys
print('x')
os.dup2(os.open('/dev/full', os.O_WRONLY), 1)
sys.exit(2)
""",
    "closed output": "import sys\nprint('x', flush=True)\nsys.stdout.close()\n",
    "pickle": """
import pickle
class Point:
    def __init__(self, x): self.x = x
print(pickle.loads(pickle.dumps(Point(3))).x, Point)
""",
    "warning": "import warnings\ndef f(): warnings.warn('careful')\nf()",
    "subprocess": """
import subprocess, sys
show = 'import sys, os; print(sys.path[0], os.getcwd())'
subprocess.run([sys.executable, '-c', show], check=True)
subprocess.run([sys.executable, 'other.py', *sys.orig_argv[1:]], check=True)
""",
    "signals": """
import signal
print([signal.getsignal(number) for number in (2, 13, 15, 17)])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
""",
    "nothing in its place": "import sys as s\ns.modules.pop('__main__')\nprint('end')",
    "asyncio": "import asyncio\nasync def main(): print('in loop')\nasyncio.run(main())",
    "logging": "import logging\nlogging.basicConfig()\nlogging.getLogger().warning('%s', __file__)",
}
for method in ("fork", "spawn", "forkserver"):
    SCRIPTS[f"{method} pool"] = f"""
import multiprocessing, os
state = ['child' if __name__ != '__main__' else 'main']
def work(x): return x * x, __name__, os.path.basename(__file__)
if __name__ == '__main__':
    with multiprocessing.get_context('{method}').Pool(2) as pool:
        print(pool.map(work, range(4)))
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_cannot_tell_that_it_was_waited_for(name: str, tmp_path: Path) -> None:
    local = "kept = zipped = None\ndef fail():\n    raise ValueError('from local')\n"
    files = {"train.py": SCRIPTS[name], "local.py": local, "other.py": "print(__file__)"}
    same_both_ways(Tree(tmp_path, files), "python", "train.py", "--lr", "0.1")


def test_the_comparison_notices_a_difference(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {"train.py": "print(open('/proc/self/cmdline').read())"})
    assert tree.cold("python", "train.py") != tree.warm("python", "train.py")


@pytest.mark.parametrize(
    "argv",
    [
        ("python", "-u", "train.py"),
        ("python3", "./train.py", "-x"),
        (sys.executable, "-O", "-B", "sub/run.py", ""),
        ("python", "sub/../train.py"),
        ("python", "link/run.py"),
    ],
)
def test_scripts_are_called_in_many_ways(argv: tuple[str, ...], tmp_path: Path) -> None:
    show = "import sys\nprint(__file__, sys.argv, sys.path[0], sys.flags, sys.orig_argv[1:])\n1 / 0"
    tree = Tree(tmp_path, {"train.py": show, "sub/run.py": f"assert False\n{show}"})
    (tmp_path / "link").symlink_to("sub")
    same_both_ways(tree, *argv)


def test_modules_of_the_tree_are_found_on_pythonpath_after_go_alone(tmp_path: Path) -> None:
    script = (
        "import package, sys, os\nprint(package.__file__, sys.path[:3], os.environ['PYTHONPATH'])"
    )
    tree = Tree(tmp_path, {"train.py": script, "src/package.py": "print('package')"})
    env = {**ENV, "PYTHONPATH": str(tmp_path / "src")}
    result = same_both_ways(tree, "python", "train.py", env=env)
    assert "src/package.py" in result.output


@pytest.mark.parametrize(
    ("shadow", "module"),
    [
        ("decimal.py", "decimal"),
        ("json/__init__.py", "json"),
        ("src/types.py", "types"),
        ("src/sitecustomize.py", "sitecustomize"),
    ],
)
def test_no_code_of_the_tree_runs_before_go(shadow: str, module: str, tmp_path: Path) -> None:
    """A file that stands in for a library is met by a cold start alone, in its trial's own time."""
    tree = Tree(tmp_path, {"train.py": "print(1)", shadow: "open('ran', 'w')"})
    env = {**ENV, "PYTHONPATH": str(tmp_path / "src")}
    process, ours = tree.arm("python", "train.py", env=env)
    with ours:
        answer = f"failed: ImportError: the tree has a {module} of its own\n"
        assert ours.recv(600) == answer.encode()
        assert process.wait(PATIENCE_S) == 1
    assert not (tmp_path / "ran").exists()
    process.communicate()


def test_a_folder_of_data_shadows_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {"train.py": "print(1)", "json/data.txt": "", "decimal.txt": ""})
    assert tree.warm("python", "train.py").output == "1\n"


@pytest.mark.parametrize(
    ("preload", "reason"),
    [
        ("nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("antigravity.nothing", "ModuleNotFoundError"),
        ("this.is.no.module", "ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_imported_is_reported(preload: str, reason: str, tmp_path: Path) -> None:
    process, ours = Tree(tmp_path, {"train.py": ""}).arm("python", "train.py", preload=[preload])
    with ours:
        assert reason.encode() in ours.recv(600)
    assert process.wait(PATIENCE_S) == 1
    process.communicate()


def test_a_process_that_nobody_waits_for_any_more_leaves(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {"train.py": "open('ran', 'w')"})
    process, ours = tree.arm("python", "train.py")
    assert ours.recv(600) == b"ready\n"
    ours.close()
    assert process.wait(PATIENCE_S) == 1
    assert process.communicate()[0] == b""
    assert not (tmp_path / "ran").exists()


def test_variables_that_the_script_sets_are_there_while_libraries_are_imported(
    tmp_path: Path,
) -> None:
    library = tmp_path / "libraries"
    script = (
        'import os\nprint(os.environ.get("A"), os.environ["B"])\n'
        'os.environ["A"] = "1"\nos.environ["B"] = "2"\nimport early\nprint(early.seen)'
    )
    tree = Tree(tmp_path / "tree", {"train.py": script})
    library.mkdir()
    (library / "early.py").write_text("import os\nseen = os.environ['A'], os.environ['B']\n")
    (library / "early.pth").write_text("")
    site = f"import sys; sys.path.append({str(library)!r})"
    (tmp_path / "tree" / "none").mkdir()
    process_env = {**ENV, "B": "0"}
    # An installed library: found by the environment itself rather than by a path of the tree.
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next(venv.glob("lib/python*/site-packages"))
    (packages / "early.pth").write_text(site)
    python = str(venv / "bin/python")
    result = same_both_ways(tree, python, "train.py", preload=("early",), env=process_env)
    assert result.output == "None 0\n('1', '2')\n"


TORCH = """
import os
os.environ["OMP_NUM_THREADS"] = "1"
import torch
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self): return 8
    def __getitem__(self, index): return torch.tensor(float(index))

if __name__ == "__main__":
    torch.manual_seed(3)
    print(torch.get_num_threads(), torch.rand(3))
    loader = DataLoader(Numbers(), 8, num_workers=1, multiprocessing_context="spawn")
    print([batch.sum().item() for batch in loader])
    model = torch.nn.Linear(2, 1)
    torch.save({"model": model.state_dict()}, "model.pt")
    model(torch.zeros(1, 3))
"""


def test_torch_with_workers_works_as_ever(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {"train.py": TORCH})
    cold = tree.cold("python", "train.py")
    warm = tree.warm("python", "train.py", preload=None)
    assert (warm.status, warm.output) == (cold.status, cold.output)
    assert "RuntimeError: " in warm.output
    assert set(warm.files) == set(cold.files) == {"model.pt"}


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13", "3.14"])
def test_other_versions_of_python_can_wait_too(version: str, tmp_path: Path) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], check=False).returncode != 0:
        pytest.skip(f"there is no Python {version} here")
    for name in (
        "namespace",
        "traceback",
        "chained traceback",
        "atexit",
        "executor",
        "destructors",
    ):
        (tmp_path / name).mkdir()
        same_both_ways(Tree(tmp_path / name, {"train.py": SCRIPTS[name]}), python, "train.py")


def test_the_source_is_as_old_as_it_says() -> None:
    ast.parse(
        Path(warm_plan.__file__).with_name("warm_start.py").read_text(), feature_version=(3, 9)
    )
