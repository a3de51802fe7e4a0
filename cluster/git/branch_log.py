"""Reads the best-so-far branch. What its commits mean for a study is others' to say."""

from datetime import UTC, datetime

from cluster.git.code_outcomes import OnBranch
from trainer.git_command import GitCommand
from trainer.trial import CommitId

_TRAILERS = "%(trailers:only,unfold,separator=%x01,key_value_separator=%x02)"
_STYLE = f"%H%x00%T%x00%P%x00%ct%x00%s%x00{_TRAILERS}"


def on_branch(git: GitCommand, base: str, head: str) -> list[OnBranch]:
    """Return what was put onto the branch from one commit to another, the oldest first.

    Without what the ledger had lost when a later commit came above it: that is named in a trailer
    `Replaces`. Raises GitError.
    """
    shown = git.text("log", "--first-parent", f"--format={_STYLE}", f"{base}..{head}")
    newest_first = [_read(line) for line in filter(None, shown.split("\n"))]
    steps = {one.commit: one for one in newest_first}
    found = newest_first[:1]
    while found and (below := steps.get(found[-1].upon)):
        found.append(below)
    return found[::-1]


def _read(line: str) -> OnBranch:
    commit, tree, parents, seconds, subject, block = line.split("\0", 5)
    pairs = (pair.partition("\2") for pair in block.split("\1") if pair)
    trailers = {key: value for key, _, value in pairs}
    return OnBranch(
        commit=CommitId(commit),
        tree=tree,
        upon=CommitId(trailers.get("Replaces") or parents.partition(" ")[0]),
        subject=subject,
        at=datetime.fromtimestamp(int(seconds), UTC),
        trailers=trailers,
    )
