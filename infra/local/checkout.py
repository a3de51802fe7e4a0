"""To which repository a folder of the user's belongs, and where its configuration is.

Knows how git links worktrees: they share branches and refs with the checkout that they were made
from, so a study is of all of them. Reads two small files; asks git nothing, for commands that look
are to be quick.
"""

import os
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
