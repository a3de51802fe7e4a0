"""Creates the research repository that `incumbent demo` searches.

Knows where the template lies in the package and how to make a git repository of it; what is then
done with it is the demo's affair.
"""

from importlib.resources import as_file, files
from pathlib import Path
from shutil import copytree, ignore_patterns

from trainer.git_command import GitCommand

_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "Incumbent demo"),
        ("EMAIL", "demo@incumbent.invalid"),
        ("DATE", "2026-01-01T00:00:00+0000"),
    )
}
"""Fixed, so that the demo starts from the same commit everywhere, and without the user's name."""


def create_demo_repository(target: Path) -> Path:
    """Make a git repository of the digits template, with one commit, and return its path.

    Creates `target` and its parents where they are missing.

    Raises:
        FileExistsError: `target` is a file, or a folder that is not empty.
        NotADirectoryError: no folder can be made there.
        GitError: git failed.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists already; the demo needs a new or an empty folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotADirectoryError(f"{target} cannot be made: {error.strerror}") from error
    with as_file(files("infra") / "demo_template") as template:
        copytree(template, target, dirs_exist_ok=True, ignore=ignore_patterns("__pycache__"))
    git = GitCommand(target)
    git.run("init", "--quiet", "--initial-branch=main")
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message=Digits: a poor start", env=_IDENTITY)
    return target
