"""The research repository that benchmarks search, and the proposer that searches it.

An experiment is a shell script that prints one number, after sleeping if it is told to. So whatever
else a study takes, in time or in memory, is Incumbent's own. Or it is a Python script that does the
same with torch imported, as most do that train something.
"""

import random
import re
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from proposer.proposal import Context, Proposal, TaskKind
from trainer.git_command import GitCommand

FIRST_LINE = re.compile(r"^begun at (\d+\.\d+)$", re.MULTILINE)
"""What the script of a stamped repository prints first: the time, in seconds since 1970."""
LAST_LINE = re.compile(r"^ended at (\d+\.\d+)$", re.MULTILINE)
"""What a script with torch prints last."""


class Kind(StrEnum):
    """What an experiment is."""

    SHELL = "shell"  # a shell script
    TORCH = "torch"  # a Python script that uses torch
    TORCH_COLD = "torch_cold"  # the same, with `preload = []`

    @property
    def script(self) -> str:
        """The name of its file."""
        return "bench.sh" if self is Kind.SHELL else "bench.py"

    @property
    def trial(self) -> str:
        """Its lines of `[trial]`."""
        lines = {
            Kind.SHELL: 'command = "./bench.sh"',
            Kind.TORCH: 'command = "python bench.py"',
            Kind.TORCH_COLD: 'command = "python bench.py"\npreload = []',
        }
        return lines[self]


_CONFIG = """\
[study]
name = "bench"
editable = ["{script}"]
[metric]
name = "x"
goal = "minimize"
pattern = '^METRIC x=(\\S+)'
[trial]
{trial}
budget_s = 10
timeout_s = 60
gpus = 0
[judge]
policy = "greedy"
[cluster]
slots = {slots}
metrics_port = -1
"""
_TORCH = """\
import time

import torch

torch.zeros(1)
print(f"begun at {{time.time():.6f}}", flush=True)
X=0.999
time.sleep({experiment_s:g})
print(f"METRIC x={{X}}")
print(f"ended at {{time.time():.6f}}")
"""
_APART = "\n# git merges changes of lines that others lie between\n\n"
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Benchmark"), ("EMAIL", "benchmark@incumbent.invalid"))
}


def create_repository(
    target: Path,
    *,
    slots: int,
    experiment_s: float = 0.0,
    is_stamped: bool = False,
    kind: Kind = Kind.SHELL,
    numbers: int = 1,
) -> Path:
    """Make a git repository of the script and its incumbent.toml, and return its path.

    A shell script holds as many numbers as are asked for, and prints the first.
    """
    target.mkdir(parents=True)
    script = target / kind.script
    text = _TORCH.format(experiment_s=experiment_s)
    if kind is Kind.SHELL:
        text = _shell(experiment_s, is_stamped=is_stamped) + "".join(
            f"{_APART}X{number}=0.999\n" for number in range(1, numbers)
        )
    script.write_text(text, "utf-8")
    script.chmod(0o755)
    config = _CONFIG.format(script=kind.script, trial=kind.trial, slots=slots)
    (target / "incumbent.toml").write_text(config, "utf-8")
    git = GitCommand(target)
    git.run("init", "--quiet", "--initial-branch=main")
    commit_all(git, "Baseline")
    return target


def _shell(experiment_s: float, *, is_stamped: bool) -> str:
    lines = ["#!/bin/sh"]
    lines += ['echo "begun at $(date +%s.%N)"'] if is_stamped else []
    lines += ["X=0.999"]
    lines += [f"sleep {experiment_s:g}"] if experiment_s else []
    lines += ['echo "METRIC x=$X"']
    return "\n".join(lines) + "\n"


def commit_all(git: GitCommand, message: str) -> None:
    """Commit every change, as a researcher would by hand."""
    git.run("add", "--all")
    git.run("commit", "--quiet", f"--message={message}", env=_IDENTITY)


def with_number(script: str, value: float, name: str = "X") -> str:
    """Return the script with another number in it."""
    return re.sub(rf"^{name}=.*$", f"{name}={value!r}", script, flags=re.MULTILINE)


class RandomNumbers:
    """Puts random numbers into the script. Implements proposer.proposal.Proposer.

    As in any random search a new best becomes rarer the longer it lasts, so that a run holds
    promotions, merges and conflicts, and mostly discards.

    Args:
        latency_s: how long each answer takes.
        numbers: how many the script holds; a proposal changes one of them.
    """

    tasks: frozenset[TaskKind] = frozenset()
    advice = ""

    def __init__(
        self, *, latency_s: float = 0.0, seed: int = 0, name: str = "random", numbers: int = 1
    ) -> None:
        self.name = name
        self._latency_s = latency_s
        self._names = ["X", *(f"X{number}" for number in range(1, numbers))]
        self._random = random.Random(seed)

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """See Proposer."""
        time.sleep(self._latency_s)
        turned = [(self._random.choice(self._names), self._random.random()) for _ in range(count)]
        ((script, text),) = context.files.items()
        return [
            Proposal(
                edits={script: with_number(text, value, name)},
                hypothesis=f"{name} -> {value:.6f}",
                parameters={name: value},
            )
            for name, value in turned
        ]
