"""The program that waits inside a trial's own environment, with its imports done, for the word go.

It is not imported: its source is given to the environment's interpreter by `-c`, with one argument,
a JSON object that trainer/warm_plan.py writes. Any Python from 3.9 on, standard library only.
Standard input is a socket: a line `ready`, or `failed: REASON`, goes out; a byte comes back that
says go, or its end, which says leave. Until then no code of the trial's tree runs.

From go on everything is to be as with `python SCRIPT`: `__main__`, argv, paths, environment,
tracebacks, exit codes. One difference is wanted: once all is written, the process leaves without
the interpreter's teardown, which takes half a second where torch is imported. What else differs:
one frame lies below the script's, and the kernel remembers another command line.
"""

import sys

# Nothing may be imported that a file in the working directory, the tree, could be taken for.
if sys.path and not sys.path[0]:
    del sys.path[0]

import _io
import atexit
import builtins
import fcntl
import gc
import importlib
import importlib.machinery
import io
import json
import os
import signal
import stat
import threading
import types
from typing import Any, Callable, Iterable, Optional, Set

_SIGINT_STATUS = -signal.SIGINT


def _prepare(order: Any) -> None:
    """Import what is to be imported; raises whatever goes wrong."""
    before = {name: os.environ.get(name) for name in order["settings"]}
    os.environ.update(order["settings"])
    for name in order["preload"]:
        importlib.import_module(name)
    for name, value in before.items():  # libraries have read them; the script sets them again
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    found = _shadowed([_folder(order["script"]), *order["late_path"]])
    if found:
        raise ImportError(f"the tree has a {sorted(found)[0]} of its own")


def _folder(script: str) -> str:
    """Return the script's folder as the interpreter puts it on sys.path: links are followed."""
    return os.path.dirname(os.path.realpath(script))


def _shadowed(folders: Iterable[str]) -> Set[str]:
    """Return modules that a fresh interpreter would have found in `folders` instead."""
    loaded = {name.partition(".")[0] for name in sys.modules} - set(sys.builtin_module_names)
    loaded = (loaded | {"sitecustomize", "usercustomize"}) - {"__main__"}
    found = set()
    for folder in filter(os.path.isdir, folders):
        with os.scandir(folder) as entries:
            for entry in entries:
                stem = entry.name.partition(".")[0]
                if stem in loaded and (_is_module(entry.name) or _is_package(entry)):
                    found.add(stem)
    return found


def _is_module(name: str) -> bool:
    return name.endswith((".py", ".pyc", ".so"))


def _is_package(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir() and any(name.startswith("__init__.") for name in os.listdir(entry))


def _wait(order: Any) -> None:
    """Say how the preparation went, and return when it is time to go."""
    try:
        _prepare(order)
        answer = "ready"
    except BaseException as error:  # a library may well exit: that, too, is only a cold start
        answer = f"failed: {type(error).__name__}: {error}".splitlines()[0]
    os.write(0, answer.encode("utf-8", "replace")[:500] + b"\n")
    if answer != "ready" or not os.read(0, 1):
        os._exit(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)


def _become_main(order: Any) -> str:
    """Put everything in the place where the script expects it; return its file's full name."""
    script: str = order["script"]
    os.environ.update(order["late_environment"])
    sys.path[:0] = [_folder(script), *order["late_path"]]
    sys.argv[:] = [script, *order["arguments"]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.orig_argv[0], *order["flags"], *sys.argv]
    file = os.path.join(os.getcwd(), script)
    main: Any = types.ModuleType("__main__")
    main.__file__ = file
    main.__cached__ = None
    main.__builtins__ = builtins
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", file)
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return file


def _compiled(file: str) -> types.CodeType:
    with open(file, "rb") as source:
        code: types.CodeType = compile(source.read(), file, "exec", dont_inherit=True)
    return code


def _status_of(error: BaseException, trace: Optional[types.TracebackType]) -> int:
    """Do with an exception that nobody caught what the interpreter does; return the exit status."""
    for stream in (sys.stderr, sys.stdout):
        _attempt(lambda stream=stream: stream.flush())  # type: ignore[misc]
    if isinstance(error, SystemExit):
        return _status_of_exit(error)
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit as other:
        return _status_of_exit(other)
    except BaseException as other:
        inner = other.__traceback__.tb_next if other.__traceback__ else None
        other.__traceback__ = inner
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(other), other, inner)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, trace)
    return _SIGINT_STATUS if isinstance(error, KeyboardInterrupt) else 1


def _status_of_exit(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF if -(1 << 63) <= error.code < 1 << 63 else 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _leave(status: int) -> None:
    """End the process, once what the script wanted done is done and what it wrote is written."""
    threading_shutdown: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    threading_shutdown()
    _attempt(atexit._run_exitfuncs)  # Python 3.9 raises again what it has shown
    _drop_main()
    is_whole = _flush(sys.stdout)
    _flush(sys.stderr)
    _write_files()
    _flush_libraries()
    if status == _SIGINT_STATUS:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status if is_whole else 120)


def _drop_main() -> None:
    """Let go of the script's globals, in the interpreter's order: destructors may have a task."""
    sys.last_type = sys.last_value = sys.last_traceback = None
    main = sys.modules.get("__main__")  # which the script may have put in its place, or nothing
    names = main.__dict__ if isinstance(main, types.ModuleType) else {}
    first = [name for name in names if name[:1] == "_" and name[1:2] != "_"]
    for name in first + [name for name in names if name != "__builtins__"]:
        names[name] = None


def _write_files() -> None:
    """Have written what open files still buffer, the outermost layer first.

    Those that are written in Python (gzip) are closed, for only then are they whole; the others
    may still be in use by a thread. Finding them takes 35 ms beside torch.
    """
    if not any(map(_is_output, os.listdir("/proc/self/fd"))):
        return
    # By type: `isinstance` asks the object, and some objects of libraries answer with a warning.
    files: Any = [each for each in gc.get_objects() if issubclass(type(each), _io._IOBase)]
    for file in files:
        if isinstance(file, io.TextIOWrapper):
            _attempt(file.flush)
    for file in files:
        if isinstance(file, io.BufferedIOBase) and type(file).__module__ != "_io":
            _attempt(file.close)
    for file in files:
        if isinstance(file, (io.BufferedWriter, io.BufferedRandom)):
            _attempt(file.flush)


def _is_output(descriptor: str) -> bool:
    """Say whether an open file, besides the standard ones, is one to write data to."""
    number = int(descriptor)
    try:
        mode = os.fstat(number).st_mode
        is_read_only = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except OSError:
        return False
    return number > 2 and not is_read_only and (stat.S_ISREG(mode) or stat.S_ISFIFO(mode))


def _flush_libraries() -> None:
    """Flush what C code has printed, which is buffered apart from Python's own output."""
    try:
        import ctypes
    except ImportError:
        return
    _attempt(lambda: ctypes.CDLL(None).fflush(None))


def _flush(stream: Any) -> bool:
    if stream is None or stream.closed:
        return True
    try:
        stream.flush()
    except Exception as error:
        sys.stderr.write(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}\n")
        return False
    return True


def _attempt(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


_own = sys.modules["__main__"]  # kept alive: the script's takes its place
_order = json.loads(sys.argv[1])
_wait(_order)
_file = _become_main(_order)
_code = _error = _trace = None
try:
    _code = _compiled(_file)
except BaseException as _caught:
    _error = _caught
if _code is not None:
    # At the top level, so that no more than one frame of ours lies below the script's.
    try:
        exec(_code, sys.modules["__main__"].__dict__)
    except BaseException as _caught:
        _error, _trace = _caught, _caught.__traceback__ and _caught.__traceback__.tb_next
# No exception is being handled from here on: one that the script's hooks raise has no context.
_status = 0 if _error is None else _status_of(_error, _trace)
_error = _trace = None
_leave(_status)
