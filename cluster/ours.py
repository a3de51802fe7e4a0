"""Refuses to run on somebody else's `eval` or `trainer`.

Our packages have plain names, and so do files of research repositories. Every process that runs
outside the command line asserts that each of ours was imported from where this one was.
"""

import importlib
from pathlib import Path

PACKAGES = ("cluster", "proposer", "trainer", "eval", "infra")


class Shadowed(ImportError):
    """Another distribution or directory provides one of our packages."""


def assert_ours() -> None:
    """Raise Shadowed if one of our five packages is not ours."""
    root = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        module = importlib.import_module(name)
        found = Path(str(module.__file__ or "")).resolve().parent
        if found != root / name:
            raise Shadowed(
                f"the package {name!r} is imported from {found}, not from Incumbent in {root}: "
                f"uninstall what else provides {name!r}, or give Incumbent its own environment"
            )
