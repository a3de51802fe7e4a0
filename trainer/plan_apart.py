"""Says how a trial of a tree on disk can wait for its turn; its sources are read apart.

See trainer.warm_plan for what is looked for, and trainer.apart for why elsewhere.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.apart import Unanswered, ask
from trainer.run_records import WarmStart
from trainer.warm_plan import Cold, can_be_planned, plan

_MOST_SOURCE = 1 << 20
_PATIENCE_S = 3.0
"""The worker that asks has a heartbeat to send meanwhile, for a lease of five seconds at least."""


def plan_apart(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str,
    tree: Path,
    preload: Sequence[str] | None = None,
) -> WarmStart | Cold:
    """Say how to have a process wait for `argv`; `tree` is here what the trial will see as `cwd`.

    Otherwise as trainer.warm_plan.plan. Takes three seconds at most.
    """
    if problem := can_be_planned(argv, preload):
        return Cold(reason=problem)
    question = {
        "argv": list(argv),
        "env": dict(env),
        "cwd": cwd,
        "tree": os.fspath(tree),
        "preload": None if preload is None else list(preload),
    }
    try:
        said = ask("trainer.plan_apart:answer", question, timeout_s=_PATIENCE_S)
        return WarmStart.from_dict(said["warm"]) if "warm" in said else Cold(reason=said["cold"])
    except (Unanswered, LookupError, TypeError) as error:
        return Cold(reason=f"its sources could not be looked through: {error}")


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer `plan_apart`, in the process apart."""
    tree = Path(question["tree"])
    found = plan(
        question["argv"],
        question["env"],
        tree=question["cwd"],
        read=lambda path: _source(tree, path),
        preload=question["preload"],
    )
    return {"cold": found.reason} if isinstance(found, Cold) else {"warm": asdict(found)}


def _source(tree: Path, path: PurePosixPath) -> bytes | None:
    """Return a file of the tree that no link leads to or out of; None for anything else."""
    root = tree.resolve()
    file = root / os.path.normpath(path)
    is_plain = file.is_relative_to(root) and file.resolve() == file and file.is_file()
    return file.read_bytes() if is_plain and file.stat().st_size <= _MOST_SOURCE else None
