"""Which commands can start warm, and how the process is started that waits for any.

Pure but for reading sources through a function that is handed in; as these are a candidate's, all
of it belongs into a process that may die (trainer.plan_apart). Knows commands of Python scripts,
and what a script does before it imports the modules that a waiting process has imported already:
what it puts into `os.environ` there is read off its source. In doubt the start is cold, which is
always right. Does not know processes; what happens in the waiting one is trainer/warm_start.py.
"""

import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trainer.run_records import WarmStart

ReadSource = Callable[[PurePosixPath], bytes | None]
"""Returns a regular file of the trial's tree, by its path there; None if there is none."""

DEFAULT_PRELOAD = ("torch",)
"""Imported early, where a script imports it, unless `[trial] preload` says otherwise."""

_PROGRAM = (Path(__file__).with_name("warm_start.py")).read_text("utf-8")
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
_FLAGS = frozenset({"-u", "-B", "-O", "-OO"})
_INLINE_METADATA = re.compile(rb"^# /// script\s*$", re.MULTILINE)
_ENVIRONMENT = frozenset({"environ", "environb", "putenv", "unsetenv"})
_READS = frozenset({"get", "keys", "values", "items", "copy"})
_SEARCH = frozenset({"path", "modules", "meta_path", "path_hooks"})
"""What of `sys` says where modules come from."""
_CHANGES = frozenset(
    {"append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"}
)
_UNREADABLE = frozenset({"exec", "eval", "__import__"})
_UNREADABLE_OF_MODULES = frozenset(
    {"import_module", "run_module", "run_path", "addsitedir", "sched_setaffinity"}
)
"""Calls after which a library may find itself, or its number of threads, otherwise."""
_MOST_FILES = 100
_SHELL_VARIABLES = ("OLDPWD", "PWD", "SHLVL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """A command that has to be started when its turn has come, and why."""

    reason: str


def plan(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    tree: str,
    read: ReadSource,
    preload: Sequence[str] | None = None,
) -> WarmStart | Cold:
    """Say how to have a process wait for the command `argv`, which runs in the folder `tree`.

    `preload` are the modules to import meanwhile: None for those of DEFAULT_PRELOAD that the script
    imports, empty to start cold. They must be installed ones: none of the tree is imported early.
    """
    try:
        return _plan(argv, env, tree, read, preload)
    except _Unclear as unclear:
        return Cold(reason=str(unclear))
    except RecursionError:  # ten thousand `elif` will do
        return Cold(reason="the script is nested too deeply to be looked through")


def can_be_planned(argv: Sequence[str], preload: Sequence[str] | None) -> str:
    """Return why a command starts cold whatever its sources say; empty if they have to be read."""
    if preload is not None and not preload:
        return "[trial] preload is empty"
    if _Command.of(argv) is None:
        return "the command is not `python SCRIPT` or `uv run SCRIPT`"
    return ""


def _plan(
    argv: Sequence[str],
    env: Mapping[str, str],
    tree: str,
    read: ReadSource,
    preload: Sequence[str] | None,
) -> WarmStart:
    command = _Command.of(argv)
    if (problem := can_be_planned(argv, preload)) or command is None:
        raise _Unclear(problem)
    script = PurePosixPath(command.script)
    source = read(script)
    if source is None:
        raise _Unclear(f"{script} is no file of the tree")
    if command.is_uv and _INLINE_METADATA.search(source):
        raise _Unclear(f"{script} names dependencies of its own")
    search_path = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    folders = [script.parent, *_within(tree, search_path)]
    early = frozenset(preload or DEFAULT_PRELOAD)
    start = _Beginning(read=read, folders=folders, env=env, early=early)
    start.follow(script)
    if not preload and not start.found:
        missed = " or ".join(DEFAULT_PRELOAD)
        raise _Unclear(f"{script} does not import {missed}: name what it does in [trial] preload")
    return _warm_start(command, env, search_path, preload or sorted(start.found), start.settings)


def gate(
    argv: Sequence[str], env: Mapping[str, str], cold: Cold, *, is_confined: bool
) -> WarmStart:
    """Return how to have a shell wait that becomes a command for which nothing can be imported.

    So the making of its sandbox is over when its turn comes. bwrap sets PWD, as the shell does.
    """
    known = {*env, "PWD"} if is_confined else env
    added = " ".join(name for name in _SHELL_VARIABLES if name not in known)
    script = f'unset {added}; echo ready >&0 && read -r INCUMBENT_GO && exec "$@" </dev/null'
    argv = ("/bin/sh", "-c", script, "sh", *argv)
    return WarmStart(argv=argv, env=env, without_imports=cold.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A Python script with its arguments."""

    python: str
    flags: tuple[str, ...]
    script: str
    arguments: tuple[str, ...]
    is_uv: bool

    @classmethod
    def of(cls, argv: Sequence[str]) -> "_Command | None":
        words = list(argv)
        is_uv = len(words) > 2 and PurePosixPath(words[0]).name == "uv" and words[1] == "run"
        python = "python"  # `uv run` takes that of the environment, whose folder leads PATH
        if is_uv:
            del words[:2]
        if _PYTHON.fullmatch(PurePosixPath(words[0]).name):
            python = words.pop(0)
        elif not is_uv or not words[0].endswith(".py"):
            return None
        flags = 0
        while flags < len(words) and words[flags] in _FLAGS:
            flags += 1
        if flags == len(words) or words[flags].startswith(("-", "/")):
            return None
        return cls(
            python=python,
            flags=tuple(words[:flags]),
            script=words[flags],
            arguments=tuple(words[flags + 1 :]),
            is_uv=is_uv,
        )


def _warm_start(
    command: _Command,
    env: Mapping[str, str],
    search_path: Sequence[str],
    modules: Sequence[str],
    settings: Mapping[str, str],
) -> WarmStart:
    # With PYTHONPATH in its environment the interpreter could run code of the tree as it starts.
    late = {name: env[name] for name in ("PYTHONPATH",) if name in env}
    order = {
        "preload": list(modules),
        "settings": dict(settings),
        "late_path": list(search_path),
        "late_environment": late,
        "flags": list(command.flags),
        "script": command.script,
        "arguments": list(command.arguments),
    }
    return WarmStart(
        argv=(command.python, *command.flags, "-c", _PROGRAM, json.dumps(order)),
        env={name: value for name, value in env.items() if name not in late},
    )


def _within(tree: str, paths: Sequence[str]) -> Iterator[PurePosixPath]:
    for path in map(PurePosixPath, paths):
        if path.is_relative_to(tree):
            yield path.relative_to(tree)


class _Unclear(Exception):
    """Why the start has to be cold."""


@dataclass(slots=True, kw_only=True)
class _Beginning:
    """What a script does up to the first import of an early module, statement by statement."""

    read: ReadSource
    folders: Sequence[PurePosixPath]
    """Where its modules are looked for, in the tree."""
    env: Mapping[str, str]
    early: frozenset[str]
    found: set[str] = field(default_factory=set)
    """Early modules that are imported; no more is followed once there is one."""
    settings: dict[str, str] = field(default_factory=dict)
    """What it puts into os.environ by then."""
    _foreign: str = ""
    """An installed module that it imports before; what is set later might come too late for it."""
    _seen: set[PurePosixPath] = field(default_factory=set)

    def follow(self, path: PurePosixPath) -> None:
        """Go through a file; raises _Unclear."""
        source = self.read(path)
        if source is None or path in self._seen or len(self._seen) >= _MOST_FILES:
            return
        self._seen.add(path)
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _Unclear(f"{path} cannot be parsed: {error}") from error
        for statement in body:
            if self.found:
                return
            self._set(path, statement)
            for name in _imported(statement, path):
                self._import(name)

    def _set(self, path: PurePosixPath, statement: ast.stmt) -> None:
        if what := _beyond_reading(statement):
            raise _Unclear(f"{path}, line {statement.lineno}, {what} before what is imported early")
        written = _written(statement)
        if written is None:
            raise _Unclear(f"{path}, line {statement.lineno}, does more to os.environ than set it")
        if not written:
            return
        if self._foreign:
            raise _Unclear(
                f"{path}, line {statement.lineno}, sets a variable after importing {self._foreign}"
            )
        for name, value, is_default in written:
            if not (is_default and (name in self.env or name in self.settings)):
                self.settings[name] = value

    def _import(self, name: str) -> None:
        top = name.partition(".")[0]
        if self.found:
            return
        if name in self.early or top in self.early:
            self.found.add(name if name in self.early else top)
        elif files := list(self._files(name)):
            for file in files:
                self.follow(file)
        elif top not in sys.stdlib_module_names:
            self._foreign = self._foreign or top

    def _files(self, name: str) -> Iterator[PurePosixPath]:
        """Yield the files of the tree that importing a module runs."""
        parts = name.split(".")
        for folder in self.folders:
            for count in range(1, len(parts) + 1):
                place = folder.joinpath(*parts[:count])
                for file in (place / "__init__.py", place.with_suffix(".py")):
                    if self.read(file) is not None:
                        yield file
                        break


def _imported(statement: ast.stmt, path: PurePosixPath) -> Iterator[str]:
    """Yield the modules that a statement imports as it is run, functions not being called."""
    match statement:
        case ast.Import(names=names):
            for name in names:
                yield name.name
        case ast.ImportFrom(module=module, names=names, level=level):
            package = path.parent.parts[: len(path.parent.parts) - level + 1] if level else ()
            base = [*package, *([module] if module else [])]
            for name in names:
                yield ".".join([*base, name.name])
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return
        case _:
            for inner in ast.iter_child_nodes(statement):
                if isinstance(inner, ast.stmt | ast.ExceptHandler | ast.match_case):
                    yield from _imported(inner, path)  # type: ignore[arg-type]


def _beyond_reading(statement: ast.stmt) -> str:
    """Return what a statement does whose effect on a later import no source tells; often nothing.

    It may be in a function that is not called: then the start is cold for nothing.
    """
    for node in ast.walk(statement):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="sys"), attr=name, ctx=ast.Store() | ast.Del())
                | ast.Subscript(
                    value=ast.Attribute(value=ast.Name(id="sys"), attr=name),
                    ctx=ast.Store() | ast.Del(),
                )
            ) if name in _SEARCH:
                return f"changes sys.{name}"
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id="sys"), attr=name), attr=call
            ) if name in _SEARCH and call in _CHANGES:
                return f"changes sys.{name}"
            case ast.ImportFrom(module="sys", names=names):
                if found := _SEARCH.intersection(each.name for each in names):
                    return f"takes {min(found)} from sys"
            case ast.Call(func=ast.Name(id=name)) if name in _UNREADABLE | _UNREADABLE_OF_MODULES:
                return f"calls {name}"
            case ast.Call(func=ast.Attribute(attr=name)) if name in _UNREADABLE_OF_MODULES:
                return f"calls {name}"
    return ""


_Written = list[tuple[str, str, bool]]
"""Name, value, and whether only if it is not set yet."""


def _written(statement: ast.stmt) -> _Written | None:
    """Return what a statement puts into os.environ; None if that cannot be told."""
    match statement:
        case ast.Assign(
            targets=[ast.Subscript(value=place, slice=ast.Constant(value=str(name)))],
            value=ast.Constant(value=str(value)),
        ) if _is_environment(place):
            return [(name, value, False)]
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=place, attr="setdefault"),
                args=[ast.Constant(value=str(name)), ast.Constant(value=str(value))],
                keywords=[],
            )
        ) if _is_environment(place):
            return [(name, value, True)]
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=place, attr="update"), args=args, keywords=words
            )
        ) if _is_environment(place):
            return _updated(args, words)
    return [] if _only_reads(statement) else None


def _updated(args: list[ast.expr], words: list[ast.keyword]) -> _Written | None:
    pairs: list[tuple[object, ast.expr]] = [(word.arg, word.value) for word in words]
    match args:
        case []:
            pass
        case [ast.Dict(keys=keys, values=values)]:
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            pairs = [*zip(names, values, strict=True), *pairs]
        case _:
            return None
    written: _Written = []
    for name, value in pairs:
        match name, value:
            case str(), ast.Constant(value=str(text)):
                written.append((name, text, False))
            case _:
                return None
    return written


def _is_environment(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in _ENVIRONMENT
    return False


def _only_reads(statement: ast.stmt) -> bool:
    """Say whether a statement's every mention of the environment looks something up."""
    read: set[int] = set()
    mentioned: set[int] = set()
    for node in ast.walk(statement):
        if _is_environment(node):
            mentioned.add(id(node))
        match node:
            case ast.alias(name=name, asname=str()) if name in _ENVIRONMENT:
                mentioned.add(id(node))  # from here on, any name may be the environment's
            case ast.Subscript(value=place, ctx=ast.Load()):
                read.add(id(place))
            case ast.Attribute(value=place, attr=name) if name in _READS:
                read.add(id(place))
            case ast.Compare(comparators=places):
                read.update(map(id, places))
    return mentioned <= read
