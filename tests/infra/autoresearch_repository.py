"""A CPU-sized research repository in the manner of karpathy/autoresearch, for any test."""

import os
import subprocess
from pathlib import Path
from shutil import copytree, ignore_patterns

_FIXTURE = Path(__file__).parents[1] / "fixtures" / "autoresearch_cpu"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "A Researcher",
    "GIT_AUTHOR_EMAIL": "researcher@example.invalid",
    "GIT_COMMITTER_NAME": "A Researcher",
    "GIT_COMMITTER_EMAIL": "researcher@example.invalid",
}


def create_autoresearch_repository(target: Path) -> Path:
    """Copy the fixture to `target`, a new folder, as a git repository with one commit.

    A run needs the corpus, which the repository's `prepare.py` writes below $HOME/.cache.
    """
    copytree(_FIXTURE, target, ignore=ignore_patterns("__pycache__", ".venv", "uv.lock"))
    for command in (
        ("init", "--quiet", "--initial-branch=master"),
        ("add", "--all"),
        ("commit", "--quiet", "--message=baseline"),
    ):
        environment = {**os.environ, **_IDENTITY}
        subprocess.run(("git", *command), cwd=target, env=environment, check=True)
    return target
