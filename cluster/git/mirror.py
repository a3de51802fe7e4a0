"""Brings a study's refs into the user's repository, and touches nothing else there.

Knows the refs `refs/incumbent/<study>/*`, the tags and the branch `incumbent/<study>`. Does not
know what they mean, nor what is to become of commits that people put onto the branch: it asks. The
study's own repository is the truth; this is a copy of it for people to look at.

Neither `git push` nor `git fetch`: a push runs hooks on both sides and obeys the settings of the
receiver, and a fetch walks every ref on both sides at each call. Instead a pack of what is new is
handed over, and `git update-ref --stdin` sets the refs by compare-and-set with hooks off. Objects
come first, so that a kill in between leaves no ref to something missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.git.study_repository import StudyRepository
from trainer.git_command import GitCommand, GitError
from trainer.trial import CommitId

_BATCH = 1000
"""Refs handed over at a time: their objects pass through memory."""
_LOOSE_BELOW = 100
"""Objects from which on a pack is kept as a pack; git's own fetch.unpackLimit."""
_KNOWN = 64
"""Refs that both sides have and that are named to keep the pack small: the latest."""
_PACK_EVERY = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorState:
    """What one round brought."""

    mirrored: int
    """Experiments and tags that are new in the user's repository."""
    message: str
    """One line; empty when all is well. What is not up to date there and what to do about it, or,
    until the branch moves again, where somebody's commit is kept that was on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is to become of commits on the branch there that are not the study's."""

    words: str
    """For people: the end of a sentence that names the branch and the commit."""
    keep_as: str = ""
    """Below which name of the study's refs they are kept; empty while the branch has to wait."""


def left_alone(branch_ref: str, why: str = "") -> Standing:
    """Return the standing of commits that the study takes no part in."""
    branch = branch_ref.removeprefix("refs/heads/")
    reason = f" ({why})" if why else ""
    return Standing(
        words=f"so it is left alone{reason}: give them a branch of their own "
        f"(git branch -m {branch} NAME) and it is made anew"
    )


class Mirror:
    """Keeps the refs of one study in the repository at `target` up to date.

    Checkouts, index, stash, untracked files and all other refs stay as they are.
    """

    def __init__(self, study: StudyRepository, target: Path) -> None:
        self._study = study
        self._target = target
        self._git = GitCommand(target, user_config=True)
        self._truth: Mapping[str, str] | None = None
        self._there: dict[str, str] | None = None
        self._done: tuple[Mapping[str, str], tuple[str, str]] | None = None
        self._ancestry: tuple[tuple[str, str], bool] = (("", ""), False)
        self._kept = ""

    def sync(
        self,
        standing: Callable[[CommitId], Standing] | None = None,
        *,
        has_news: bool = True,
    ) -> MirrorState:
        """Bring over what is new.

        Without `has_news`, as nothing was recorded since the last call, that costs one git process
        where nobody has touched the branch there. Commits on it that are not the study's stay
        until `standing` says under which name they are to be kept; without it they are left alone.

        A target that is away or refuses is reported in the state; the next call tries again. What
        is there beside the branch is read once, and after a failure, when all is tried once more:
        refs that somebody deletes come back then, and not before. A ref there that names what the
        study has never had stays as it is. Raises GitError if the study's own refs cannot be read.
        """
        ours = self._prefixes
        if has_news or self._truth is None:
            self._truth = self._list(self._study.git, *ours, self._study.branch_ref)
        truth, mirrored, message = self._truth, 0, ""
        is_remembered = self._there is not None
        try:
            branch = self._look_at_branch()
            if self._done != (truth, branch):
                if self._there is None:
                    self._there = self._list(self._git, *ours)
                mirrored, strange = self._bring_experiments(truth, self._there)
                stuck = self._bring_branch(truth, self._there, branch, standing)
                message = "; ".join(filter(None, (strange, stuck)))
                is_there = branch[0] == truth.get(self._study.branch_ref, branch[0])
                self._done = (truth, branch) if is_there and not strange else None
        except GitError as error:
            self._there = self._done = None
            if is_remembered:  # a final run may have brought its tag meanwhile
                return self.sync(standing, has_news=False)
            message = f"cannot bring the study's results to {self._target}: {error}"
        return MirrorState(mirrored=mirrored, message=message or self._kept)

    def withdraw(self) -> None:
        """Take back what the study brought there, where it makes way for another.

        Only what the study has as well goes, and no branch that is checked out. Raises GitError.
        """
        branch, (head, worktree) = self._study.branch_ref, self._look_at_branch()
        truth = self._list(self._study.git, *self._prefixes, branch)
        there = self._list(self._git, *self._prefixes)
        if head and not worktree:
            there[branch] = head
        lines = [f"delete {ref} {old}\n" for ref, old in there.items() if truth.get(ref) == old]
        self._git.run("update-ref", "--stdin", stdin="".join(lines).encode())

    @property
    def _prefixes(self) -> tuple[str, str]:
        return (self._study.experiments_prefix, self._study.tags_prefix)

    def _list(self, git: GitCommand, *patterns: str) -> dict[str, str]:
        lines = git.text("for-each-ref", "--format=%(refname) %(objectname)", *patterns)
        return dict(line.split() for line in lines.splitlines())

    def _bring_experiments(
        self, truth: Mapping[str, str], there: dict[str, str]
    ) -> tuple[int, str]:
        """Bring over what is new; return how many refs, and what to say of any left as it was."""
        news = [
            (name, commit, there.get(name, ""))
            for name, commit in truth.items()
            if name != self._study.branch_ref and there.get(name) != commit
        ]
        unknown = self._never_had([old for _, _, old in news if old])
        wanted = [one for one in news if one[2] not in unknown]
        known = self._known(truth, there) if wanted else []
        packed = len(there) // _PACK_EVERY
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            self._transfer([commit for _, commit, _ in batch], known)
            self._set_refs(batch)
            there.update((name, commit) for name, commit, _ in batch)
        if len(there) // _PACK_EVERY > packed:
            # Thousands of loose refs slow the user's git down. Only from git 2.42 on can ours be
            # packed without the user's; until then `git gc` does it some day.
            pattern = f"{self._study.experiments_prefix}*"
            self._git.run("pack-refs", "--include", pattern, check=False)
        strange = [name for name, _, old in news if old in unknown]
        return len(wanted), self._leave(strange) if strange else ""

    def _never_had(self, objects: Sequence[str]) -> set[str]:
        """Return those that the study does not have; it loses nothing that it ever had."""
        if not objects:
            return set()
        question = "".join(f"{one}\n" for one in objects).encode()
        answers = self._study.git.run("cat-file", "--batch-check", stdin=question).stdout.decode()
        return {one.split()[0] for one in answers.splitlines() if one.endswith(" missing")}

    def _leave(self, strange: Sequence[str]) -> str:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        return (
            f"{strange[0]}{others} in {self._target} names what this study never had, so it is "
            "left alone: git update-ref -d there makes room, and the next `incumbent run` fills it"
        )

    def _bring_branch(
        self,
        truth: Mapping[str, str],
        there: Mapping[str, str],
        branch: tuple[str, str],
        standing: Callable[[CommitId], Standing] | None,
    ) -> str:
        """Move the branch forward; return why it stays where it is, if it does."""
        ref = self._study.branch_ref
        name = ref.removeprefix("refs/heads/")
        new = truth.get(ref)
        old, worktree = branch
        if new is None or new == old:
            return ""
        theirs = None
        if old and not self._is_ancestor(old, new):
            theirs = standing(CommitId(old)) if standing else left_alone(ref)
            if not theirs.keep_as:
                return (
                    f"branch {name} in {self._target} has commits that are not the study's "
                    f"({old[:10]}), {theirs.words}"
                )
        if worktree:
            return (
                f"branch {name} is checked out in {worktree}, so it stays at {old[:10]} while "
                f"the study is at {new[:10]}: check out something else there "
                "(git switch --detach) and it follows"
            )
        kept = self._keep(old, theirs) if theirs else ""
        self._transfer([new], self._known(truth, there))
        self._set_refs([(ref, new, old)])
        self._kept = kept
        return ""

    def _keep(self, commit: str, theirs: Standing) -> str:
        """Give somebody's commit a ref of its own there; return what to say of it."""
        ref = f"{self._study.experiments_prefix}person/{theirs.keep_as}"
        # An earlier study of the same name may have kept another commit under this one.
        names = (ref, f"{ref}-{commit[:12]}")
        taken = self._list(self._git, *names)
        ref = next(name for name in names if taken.get(name, commit) == commit)
        if ref not in taken:
            self._set_refs([(ref, commit, "")])
        branch = self._study.branch_ref.removeprefix("refs/heads/")
        return f"commit {commit[:10]} of branch {branch} is kept as {ref}: {theirs.words}"

    def _look_at_branch(self) -> tuple[str, str]:
        """Return the branch's commit there, and the checkout that is on it; empty if none."""
        style = "--format=%(objectname) %(worktreepath)"
        shown = self._git.run("for-each-ref", style, self._study.branch_ref).stdout
        commit, _, worktree = shown.decode("utf-8", "replace").removesuffix("\n").partition(" ")
        return commit, worktree

    def _is_ancestor(self, old: str, new: str) -> bool:
        if self._ancestry[0] != (old, new):
            # A commit that the study has never seen fails as well: it is somebody else's.
            question = ("merge-base", "--is-ancestor", old, new)
            found = self._study.git.run(*question, check=False).status == 0
            self._ancestry = ((old, new), found)
        return self._ancestry[1]

    def _known(self, truth: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
        """Return commits that both sides have, history included."""
        latest = [name for name in list(there)[-_KNOWN:] if truth.get(name) == there[name]]
        sources = self._list(self._study.git, "refs/source/").values()
        question = "".join(f"{commit}\n" for commit in sources).encode()
        answers = self._git.run("cat-file", "--batch-check", stdin=question).stdout.decode()
        present = [line.split()[0] for line in answers.splitlines() if " commit " in line]
        return present + [there[name] for name in latest]

    def _transfer(self, commits: Sequence[str], known: Sequence[str]) -> None:
        revisions = [*commits, "--not", *known]
        pack = self._study.git.run(
            *("pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset"),
            stdin="".join(f"{revision}\n" for revision in revisions).encode(),
        ).stdout
        objects = int.from_bytes(pack[8:12], "big")  # the pack's header holds their number
        if objects >= _LOOSE_BELOW:
            self._git.run("index-pack", "--stdin", stdin=pack)
        elif objects:
            self._git.run("unpack-objects", "-q", stdin=pack)

    def _set_refs(self, changes: Sequence[tuple[str, str, str]]) -> None:
        """Set refs from their old values, all of them or none."""
        lines = [
            f"update {name} {new} {old}" if old else f"create {name} {new}"
            for name, new, old in changes
        ]
        self._git.run(
            *("update-ref", "-m", "incumbent: mirror the study", "--stdin"),
            stdin="".join(f"{line}\n" for line in lines).encode(),
        )
