"""Asks two programs what they know of Python sources: the trials' interpreter, and ruff.

Knows how each is called and what it answers. Does not know which answers matter: that is
`trainer.preflight`'s to say. Nothing of what is asked about is run, and neither program is started
in a folder that a candidate can write to.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruff import find_ruff_bin

RULES = ("F501", "F502", "F505", "F507", "F509", "F521", "F524", "F525", "F633", "F821")
"""Which of ruff's rules are asked for: docs/decisions/011-preflight.md argues each."""
SYNTAX = "invalid-syntax"
"""The code of a finding that is no rule's."""
_TIME_LIMIT_S = 10.0
_PROGRAM = Path(__file__).with_name("source_facts.py")
_OLDEST, _NEWEST = (3, 7), (3, 15)
"""Versions of Python that ruff knows."""
_KEPT_VARIABLES = ("HOME", "LD_LIBRARY_PATH", "PATH")


class CheckFailed(RuntimeError):
    """A program could not be asked, which says nothing of the sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What a file says of itself."""

    error: tuple[int, str] | None
    """Line and message of what makes it no Python; then all else is empty."""
    imports: Mapping[str, int]
    """Top-level modules imported at module level without any condition, with the line."""
    mentions: frozenset[str]
    """Top-level modules imported anywhere."""
    loads: frozenset[tuple[int, str]]
    """Line and name of what is looked up, outside of annotations, and bound nowhere."""
    doubtful: tuple[tuple[int, int], ...]
    """First and last line of bodies whose failure is caught, or that are never run."""
    strings: frozenset[str]
    """Strings, and names that become strings (keywords, fields, attributes); no docstrings."""
    is_dynamic: bool
    """Names may come to be that no assignment shows: exec, globals(), a star import."""
    finds_modules: bool
    """Modules may come to be found that the interpreter alone does not find: sys.path."""

    def is_doubtful(self, line: int) -> bool:
        """Say whether a failure in that line need not end the run."""
        return any(first <= line <= last for first, last in self.doubtful)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the interpreter says of some files."""

    version: tuple[int, int]
    files: Mapping[str, SourceFacts]
    """By path; without those that it could not read."""
    missing: frozenset[str]
    """Modules that the files import and that it does not find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that ruff has to say of a file."""

    code: str
    message: str
    line: int


def ask_interpreter(
    python: Path, files: Mapping[str, str], known: Collection[str] | None
) -> Answer:
    """Return the facts of files by path.

    Modules that are `known` are not looked up, and with None no module is. Raises CheckFailed.
    """
    names = None if known is None else sorted(known)
    question = json.dumps({"files": files, "known": names})
    said = _run((os.fspath(python), "-I", "-B", "-W", "ignore", os.fspath(_PROGRAM)), question)
    major, minor = said["version"]
    return Answer(
        version=(major, minor),
        files={path: _facts(facts) for path, facts in said["files"].items()},
        missing=frozenset(said["missing"]),
    )


def ask_ruff(text: str, version: tuple[int, int] | None) -> list[Finding]:
    """Return what ruff finds in a file for that version of Python; None is the newest it knows.

    Raises CheckFailed.
    """
    target = min(max(version or _NEWEST, _OLDEST), _NEWEST)
    options = (
        *("check", "--isolated", "--no-cache", "--exit-zero", "--quiet"),
        *("--output-format", "json", "--stdin-filename", "candidate.py"),
        *("--select", ",".join(RULES), "--target-version", f"py{target[0]}{target[1]}"),
    )
    try:
        program = find_ruff_bin()
    except FileNotFoundError as error:
        raise CheckFailed(f"ruff is not installed beside Incumbent: {error}") from error
    said = _run((program, *options, "-"), text)
    return [
        Finding(code=one["code"], message=one["message"], line=one["location"]["row"])
        for one in said
    ]


def our_interpreter() -> Path:
    """Return the Python that this program runs in."""
    return Path(sys.executable)


def _run(command: Sequence[str], question: str) -> Any:  # noqa: ANN401 - what JSON can hold
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=question.encode(),
            capture_output=True,
            check=True,
            cwd="/",
            env={**kept, "RAYON_NUM_THREADS": "1"},
            timeout=_TIME_LIMIT_S,
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise CheckFailed(f"{Path(command[0]).name}: {error}") from error


def _facts(said: Mapping[str, Any]) -> SourceFacts:
    return SourceFacts(
        error=(said["error"][0], said["error"][1]) if said["error"] else None,
        imports=said["imports"],
        mentions=frozenset(said["mentions"]),
        loads=frozenset((line, name) for line, name in said["loads"]),
        doubtful=tuple((first, last) for first, last in said["doubtful"]),
        strings=frozenset(said["strings"]),
        is_dynamic=said["is_dynamic"],
        finds_modules=said["finds_modules"],
    )
