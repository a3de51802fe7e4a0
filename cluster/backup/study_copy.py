"""A study's code out of its repository, as a git bundle, and into a new one.

Knows which refs make a study: see cluster.git.study_repository. Does not know which of them a
ledger speaks of: what a repository holds beyond that is left out by whoever says which experiments.
"""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from cluster.git.bare_repository import BareRepository
from cluster.git.study_repository import StudyRepository
from trainer.git_command import FROM_THIS_MACHINE, GitCommand, GitError
from trainer.trial import CommitId, ExperimentId


class BundleProblem(RuntimeError):
    """A bundle or repository that a study's code cannot be had from; one line says why."""


def write_bundle(repository: StudyRepository, target: Path) -> int:
    """Write all refs of a study to a file that only its owner may read; return how many.

    The file is there as a whole or not at all.
    """
    shown = repository.git.text("for-each-ref", "--format=%(refname)", *_patterns(repository.study))
    refs = shown.split()
    # A directory of mode 0700: git gives what it writes the mode that everything has.
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.parent) as scratch:
        made = Path(scratch, "bundle")
        listed = ("\n".join(refs) + "\n").encode()
        repository.git.run("bundle", "create", "--quiet", str(made), "--stdin", stdin=listed)
        made.chmod(0o600)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.replace(target)
    return len(refs)


def _patterns(study: str) -> tuple[str, ...]:
    return (
        "refs/source/",
        f"refs/incumbent/{study}/",
        f"refs/heads/incumbent/{study}",
        f"refs/tags/incumbent/{study}/",
    )


def bring_study(path: Path, study: str, origin: Path) -> StudyRepository:
    """Make a study's repository at `path` from a bundle, or from a repository that mirrors it.

    What is there already is kept, and nothing of it is moved. Raises BundleProblem.
    """
    bare = BareRepository(path)
    bare.initialise(f"incumbent/{study}")
    # With the user's configuration where it is their repository: see BareRepository.fetch.
    git = GitCommand(path, user_config=origin.is_dir(), settings={"protocol.version": "2"})
    try:
        known = git.run("ls-remote", str(origin), *_patterns(study)[2:3], env=FROM_THIS_MACHINE)
        branch = known.stdout.decode().split()[1:2]  # a study that was never run has none
        refs = [ref for ref in _patterns(study) if ref.endswith("/")]
        refspecs = [*(f"{ref}*:{ref}*" for ref in refs), *(f"{ref}:{ref}" for ref in branch)]
        git.run(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *("--no-recurse-submodules", str(origin), *refspecs),
            env=FROM_THIS_MACHINE,
        )
    except GitError as error:
        raise BundleProblem(f"the study's code cannot be had from {origin}: {error}") from error
    return StudyRepository.open(path, study=study)


def kept_experiments(repository: StudyRepository) -> dict[ExperimentId, CommitId]:
    """Return the candidate that each experiment's ref names."""
    prefix = repository.experiments_prefix
    style = "--format=%(refname) %(objectname)"
    shown = repository.git.text("for-each-ref", style, prefix).splitlines()
    named = (line.removeprefix(prefix).split(" ") for line in shown)
    return {
        ExperimentId(name): CommitId(commit)
        for name, commit in named
        if name[:1] == "e" and name[1:].isdigit()
    }


def trim(repository: StudyRepository, known: Collection[ExperimentId], head: CommitId) -> None:
    """Have a repository that was just made hold what a ledger speaks of, and no more.

    A bundle may be some moments younger than the ledger beside it.
    """
    orders = [
        f"delete {repository.experiments_prefix}{experiment}\n"
        for experiment in kept_experiments(repository)
        if experiment not in known
    ]
    if head:
        orders.append(f"update {repository.branch_ref} {head}\n")
    repository.git.run("update-ref", "--stdin", stdin="".join(orders).encode())
