"""What the refs of a study tell: its candidates and its final runs.

An edge to git. What follows from it is cluster.backup.rebuild's to say.
"""

import re
from datetime import UTC, datetime

from cluster.backup.rebuild import Kept, Tagged
from cluster.git.study_repository import StudyRepository
from cluster.state.final_runs import LOOKED
from trainer.trial import CommitId, ExperimentId, number_of

_FINAL = re.compile(r"final-(?P<number>[1-9]\d*) of (?P<experiment>e\d+): ")


def kept_candidates(repository: StudyRepository) -> list[Kept]:
    """Return every candidate, in the order of their numbers."""
    fields = ("refname", "objectname", "tree", "parent", "authorname", "committerdate:unix")
    style = "%00".join(f"%({field})" for field in (*fields, "contents:subject"))
    prefix = repository.experiments_prefix
    shown = repository.git.text("for-each-ref", f"--format={style}", prefix)
    found = []
    for line in filter(None, shown.split("\n")):  # people may have any other break in a subject
        ref, commit, tree, parents, author, seconds, subject = line.split("\0", 6)
        name = ref.removeprefix(prefix)
        if name[:1] == "e" and name[1:].isdigit():
            kept = Kept(
                experiment=ExperimentId(name),
                commit=CommitId(commit),
                tree=tree,
                parents=tuple(map(CommitId, parents.split())),
                author=author,
                subject=subject,
                at=_time(seconds),
            )
            found.append(kept)
    return sorted(found, key=lambda kept: number_of(kept.experiment))


def reported_finals(repository: StudyRepository) -> list[Tagged]:
    """Return the final runs that have a tag, in the order of their numbers."""
    fields = ("refname", "*objectname", "taggerdate:unix", "contents")
    style = "%00".join(f"%({field})" for field in fields) + "%00"
    shown = repository.git.text("for-each-ref", f"--format={style}", repository.tags_prefix)
    parts = iter(shown.split("\0"))
    found = []
    for ref, commit, seconds, message in zip(parts, parts, parts, parts, strict=False):
        name = ref.strip().removeprefix(repository.tags_prefix)
        said = _FINAL.match(message)
        if said and commit and name == f"final-{said['number']}":
            tagged = Tagged(
                number=int(said["number"]),
                experiment=ExperimentId(said["experiment"]),
                commit=CommitId(commit),
                at=_time(seconds),
                has_looked=f"\n{LOOKED} " in message,
            )
            found.append(tagged)
    return sorted(found, key=lambda tagged: tagged.number)


def _time(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
