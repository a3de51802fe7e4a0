"""To which repository a folder of the user's belongs, and where its configuration is.

Knows how git links worktrees: they share branches and refs with the checkout that they were made
from, so a study is of all of them. Reads a few small files; asks git nothing, for commands that
look are to be quick.
"""

import os
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONFIG = "incumbent.toml"
_LINK = b"gitdir: "


def main_checkout(toplevel: Path) -> Path:
    """Return the checkout that a linked worktree was made from; any other folder itself.

    Of a repository without a checkout of its own, the repository.
    """
    try:
        link = (toplevel / ".git").read_bytes().removeprefix(_LINK).rstrip(b"\n")
        git_dir = toplevel / os.fsdecode(link)
        shared = os.fsdecode((git_dir / "commondir").read_bytes().rstrip(b"\n"))
        common = (git_dir / shared).resolve()
    except (OSError, ValueError, RuntimeError):
        return toplevel  # no checkout, a main one, or a submodule
    if ".git" in common.parts[:-1]:
        return toplevel  # of a submodule, whose own checkout is named nowhere here
    return common.parent if common.name == ".git" else common


def config_file(toplevel: Path) -> Path:
    """Return where a checkout's configuration is, or would be: a linked worktree may have its own.

    Git does not bring an incumbent.toml that is not committed into it: then that of the main
    checkout counts.
    """
    own, shared = toplevel / CONFIG, main_checkout(toplevel) / CONFIG
    return own if own.exists() or not shared.exists() else shared


def toplevel(path: Path) -> Path | None:
    """Return the checkout that holds `path`, which is absolute; None where there is none."""
    for folder in (path, *path.parents):
        if (folder / CONFIG).is_file() or (folder / ".git").exists():
            return folder
    return None


def study_named(file: Path) -> str:
    """Return which study a configuration names; empty where it cannot be read."""
    try:
        name = tomllib.loads(file.read_text("utf-8")).get("study", {}).get("name", "")
    except (ValueError, AttributeError, OSError):
        return ""  # there is none, or `incumbent run` says what is wrong with it
    return name if isinstance(name, str) else ""


def run_folder(study: str, repository: Path, path: Path) -> Path:
    """Return the checkout from which `incumbent run` runs a study of a repository.

    The one that holds `path` if there the study is meant, else the main one or a linked worktree,
    whichever has a configuration of that study; else the repository.
    """
    with suppress(OSError):  # a folder that has been removed
        here = toplevel(path.resolve())
        if here and repository in {here, main_checkout(here)}:
            file = config_file(here)
            # One with a mistake is what `incumbent run` would complain of here.
            if file.exists() and study_named(file) in {study, ""}:
                return here
    for each in _checkouts(repository):
        with suppress(OSError):
            if study_named(config_file(each)) == study:
                return each
    return repository


def _checkouts(repository: Path) -> Iterator[Path]:
    """Yield the folder of a repository, then its linked worktrees by name."""
    yield repository
    git = repository / ".git" if (repository / ".git").is_dir() else repository
    for link in sorted(git.glob("worktrees/*/gitdir")):
        with suppress(OSError, ValueError):
            yield (link.parent / os.fsdecode(link.read_bytes().rstrip(b"\n"))).resolve().parent
