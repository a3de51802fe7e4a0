"""What an escape attempt is, and how its success is recognised.

Knows no sandbox and no host: an attempt is a small script that a candidate could be, the judge of
what came of it, and its control, which shows that the test is able to fail.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.security.world import World
from trainer.run_records import RunReport


class Category(StrEnum):
    """What an attempt is after."""

    NETWORK = "network"  # any machine, or any service of this one
    SECRETS = "secrets"  # what the user, other trials or the evaluator know
    FILES = "files"  # a way to write anything but its own output
    PROCESSES = "processes"  # other processes, and a life beyond the trial's end
    KERNEL = "kernel surface"  # system calls and settings that a training run never needs
    EXHAUSTION = "exhaustion"  # memory, disk, processes and time of the others
    LEFTOVERS = "leftovers"  # what stays on the machine or reaches the slot's next trial
    RESULTS = "result tricks"  # files and output that mislead whoever reads them
    EVALUATOR = "evaluator tampering"  # what judges it: code, labels, interpreter
    CONFIGURATION = "configuration left behind"  # what git and Python run when they find it


class Control(StrEnum):
    """How it is shown that an attempt can succeed."""

    BARE = "bare"  # the same script under the supervisor, without a sandbox
    PLAIN = "plain"  # the same script as a plain child process: the supervisor alone stops it
    CARELESS = "careless"  # what the same sandboxed run left, in the hands of a careless reader
    HARMLESS = "harmless"  # another script: the real one could hurt this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What there is when an attempt is over."""

    report: RunReport
    world: World
    source: Path
    """Where the script ran, seen from outside."""
    out: Path
    """Where its output lies, seen from outside."""
    log: Path

    def said(self, word: str) -> str | None:
        """Return what stands behind `word` on the first line that begins with it."""
        for line in self.report.tail.splitlines():
            if line == word or line.startswith(f"{word} "):
                return line[len(word) + 1 :] or word
        return None


Judge = Callable[[Aftermath], str]
"""Returns the evidence of an escape; empty if there was none. Fails where it cannot tell."""


def says_so(aftermath: Aftermath) -> str:
    """Believe what the script prints: ESCAPED with its evidence, or STOPPED with the reason."""
    escaped, stopped = aftermath.said("ESCAPED"), aftermath.said("STOPPED")
    assert escaped or stopped, f"no verdict in {aftermath.report}"
    return escaped or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to get out, and what shows whether it worked."""

    name: str
    category: Category
    aim: str
    """What it tries, in a few words, for people."""
    script: str
    """Python; `attack.py` tells what it may use."""
    then: str = ""
    """What the slot's next trial runs, to find what this one left; `judge` then hears that one."""
    judge: Judge = says_so
    control: Control = Control.BARE
    harmless: str = ""
    """The control's script, where the real one is not safe to run bare."""
    careless: Judge | None = None
    """What a careless reader makes of the remains, where that is the control."""
    why: str = ""
    """Why the control is not the same script, bare."""
    capability: str = ""
    """What the bare control needs, e.g. CAP_SYS_ADMIN; without it there is no control."""
    absent: frozenset[str] = field(default_factory=frozenset)
    """Reasons that mean, in the bare control, that this machine has no such thing."""
    is_exact: bool = False
    """Whether only a control group stops it: where there is none, it is a boundary."""
    timeout_s: float = 20.0
    memory_mb: int = 0
    """Limits that the trial gets; 0 is none."""
    disk_mb: int = 0
    files: int = 0
    pids: int = 0

    def __post_init__(self) -> None:
        """Hold that each control is complete."""
        assert bool(self.harmless) == (self.control is Control.HARMLESS), self.name
        assert bool(self.careless) == (self.control is Control.CARELESS), self.name
        assert bool(self.why) == (self.control is not Control.BARE), self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Something that no sandbox stops: it succeeds, on purpose, and the documents say so."""

    name: str
    aim: str
    script: str
    why: str
    """Why it is so, and what is done instead."""
    judge: Judge = says_so
    timeout_s: float = 20.0
    disk_mb: int = 0
    """A limit that the trial gets, and passes by; 0 is none."""
